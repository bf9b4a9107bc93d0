"""The real shim, without a GPU: `./dev jetson` runs it.

    python3 real.py FOLDER FCAM

In: a folder with the headers of TensorRT 11.4 and CUDA 13 and TensorRT's lean runtime, and the program. It compiles
board/jetson/trt_shim.cc twice: against the real lean runtime, which it must name and must not touch without a GPU; and
against the fakes of fake.cc, through which the program judges a bundle and meets every failure that the fakes have.
Exit code 1 with the words of what is not as it must be.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TINY = ROOT / "tests/common/tiny"
SHIM = ROOT / "board/jetson/trt_shim.cc"
NO_DRIVER, ARGUMENT = 1, 10


def compile_library(into: Path, source: Path, includes: list[Path], *more: str, standard: str = "c++14") -> Path:
    into.parent.mkdir(parents=True, exist_ok=True)
    folders = [word for folder in includes for word in ("-isystem", str(folder))]
    words = ["g++", f"-std={standard}", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", *folders, str(source)]
    subprocess.run([*words, "-o", str(into), *more], check=True)
    return into


def expect(condition: object, what: str, *told: object) -> None:
    if not condition:
        sys.exit(f"not as it must be: {what}: {' '.join(map(str, told))}")


def run(fcam: Path, *words: object, **environment: str) -> tuple[int, str]:
    """The exit code, and everything that the program wrote."""
    command = [str(fcam), *map(str, words)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def check_lean(shim: Path, fcam: Path) -> None:
    """The real library: its version is read, and without a GPU nothing else of it is called."""
    code, text = run(fcam, "engine", "show", "--json", "--shim", shim, RUST_LOG="off")
    expect(code == 0, "fcam engine show", text)
    told = json.loads(text.splitlines()[0])
    machine = told["machine"]
    expect((machine["header"], machine["tensorrt"]) == ("11.4.0", "11.4.0.106"), "versions", machine)
    print(f"TensorRT's lean runtime {machine['tensorrt']}, read through a shim compiled for {machine['header']}")
    if told["usable"] or machine["devices"]:
        print("there is a GPU here: what the shim does without one is not tried")
        return
    expect("there is no CUDA driver" in told["problem"], "the reason", told)
    for words in (["engine", "build"], ["check", "--backend", "tensorrt", TINY]):
        code, text = run(fcam, *words, "--shim", shim)
        expect(code == 2 and "there is no CUDA driver" in text, "a refusal", code, text)
    code, text = run(fcam, "check", TINY, "--shim", shim)
    expect(code == 0 and "takes the CPU" in text and "cpu (int8" in text, "the CPU instead", code, text)
    check_calls(ctypes.CDLL(str(shim)))
    print(f"refused without a GPU: {told['problem'].split(': ', 1)[1]}")


def check_calls(library: ctypes.CDLL) -> None:
    """Whoever calls without a probe is refused all the same."""
    message, room = ctypes.create_string_buffer(4096), ctypes.c_size_t(4096)
    plan, size, engine = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_void_p()
    shape, ports = (ctypes.c_int32 * 3)(64, 64, 2), (ctypes.c_int64 * 4)()
    onnx = ctypes.c_size_t(4)
    build = library.fcam_trt_build(b"onnx", onnx, 1, None, None, ctypes.byref(plan), ctypes.byref(size), message, room)
    load = library.fcam_trt_load(b"plan", onnx, shape, ctypes.byref(engine), ports, message, room)
    expect((build, load) == (NO_DRIVER, NO_DRIVER) and not plan and not engine, "calls without a probe", build, load)
    expect(library.fcam_trt_run(None, message, room) == ARGUMENT, "a run of nothing", message.value)
    expect(library.fcam_trt_probe(None, None, ctypes.c_size_t(0)) == ARGUMENT, "a probe into nothing")
    library.fcam_trt_unload(None)
    library.fcam_trt_free(None)


# What the fakes fail at, and the words of it that the program must say; none where it must go on.
FAILURES = {
    "init": "the CUDA driver does not start: cuInit gives 999",
    "none": "the CUDA driver finds no GPU",
    "count": "the CUDA driver finds no GPU (cuDeviceGetCount gives 0)",
    "old_runtime": "the CUDA runtime and the driver do not go together: cudaErrorFake",
    "major": "compiled for TensorRT 11 and there is 10.3.0",
    "builder": "TensorRT makes no builder",
    "parse": "TensorRT does not take the network: stem (Conv): Assertion failed: a fake one",
    "build": "could not find any implementation for node conv",
    "runtime": "TensorRT makes no runtime",
    "deserialize": "TensorRT does not take the engine: Error Code 1: magic tag does not match",
    "shape": "`logits` of the engine has another shape than the bundle's",
    "type": "`input` of the engine is not plain float32",
    "context": "TensorRT makes no execution context",
    "address": "TensorRT does not take the buffers",
    "run": "TensorRT does not run: Error Code 1: the fake does not run",
    "host": "no pinned memory: cudaErrorFake",
    "sync": "the GPU failed: cudaErrorFake",
    "capture": None,
    "graph": None,
}


def check_fake(shim: Path, fcam: Path) -> None:
    """The program through the real shim, on fakes of CUDA and TensorRT."""
    libraries = {"LD_LIBRARY_PATH": str(shim.parent)}

    def judge(cache: Path, **environment: str) -> tuple[int, str]:
        where = ["--shim", shim, "--engine-cache", cache]
        return run(fcam, "check", "--backend", "tensorrt", *where, TINY, **libraries, **environment)

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for shared, how in (("0", ""), ("1", ", zero-copy")):
            code, text = judge(cache, FAKE_SHARED=shared)
            expect(code == 0 and f"tensorrt (11.4.0.106, Fake 8.7, typed{how}" in text, "a judged bundle", code, text)
            expect("fake: all was freed" in text, "memory", text)
        expect(len(list(cache.iterdir())) == 1, "one engine for both")
    for failure, words in FAILURES.items():
        with tempfile.TemporaryDirectory() as folder:
            code, text = judge(Path(folder), FAKE_FAIL=failure)
        wanted = "CUDA graph" not in text if words is None else words in text
        expect(code == (0 if words is None else 2) and wanted, failure, code, text)
        expect("fake: all was freed" in text, f"memory after {failure}", text)
    print(f"the real shim on fakes of CUDA and TensorRT 11.4: a bundle judged, {len(FAILURES)} failures met")


def check_install(folder: Path, headers: Path, fcam: Path) -> None:
    """board/jetson/install.sh as on a device, with the fakes for CUDA and TensorRT."""
    cuda = folder / "cuda"
    shutil.rmtree(cuda, ignore_errors=True)
    (cuda / "lib64").mkdir(parents=True)
    (cuda / "include").symlink_to(folder / "nvidia/cu13/include")
    # A linker's script in place of the archive.
    (cuda / "lib64/libcudart_static.a").write_text(f"INPUT({folder / 'fake/libcudart.so'})\n")
    with tempfile.TemporaryDirectory() as temporary:
        place, cache = Path(temporary, "lib"), Path(temporary, "cache/engines")
        where = {"PLACE": place, "CACHE": cache, "CUDA": cuda, "INCLUDE": headers, "FCAM": fcam}
        libraries = {"LD_LIBRARY_PATH": str(folder / "fake"), **{name: str(value) for name, value in where.items()}}
        # The fakes' network is the tiny one.
        station = Path(temporary, "station.toml")
        shim = (
            f"[engine]\nbackend = 'tensorrt'\n[engine.tensorrt]\nshim = '{place}/libfcam_trt.so'\ncache = '{cache}'\n"
        )
        station.write_text(f"[bundle]\npath = '{TINY}'\n{shim}")
        code, text = run(SHIM.with_name("install.sh"), station, **libraries)
        expect(code == 0 and "the shim for TensorRT 11.4.0 " in text, "install.sh", code, text)
        expect("tensorrt (11.4.0.106, Fake 8.7" in text and "(built now)" in text, "install.sh's engine", text)
        expect(len(list(cache.iterdir())) == 1 and (place / "libfcam_trt.so").is_file(), "what install.sh leaves", text)
        code, text = run(fcam, "run", "--config", station, "--frames", "6", **libraries)
        expect(code == 0 and "ready: tensorrt (11.4.0.106" in text, "a station", code, text)
        code, text = run(SHIM.with_name("install.sh"), **{**libraries, "CUDA": temporary})
        expect(code == 2 and f"there is no CUDA at {temporary}" in text, "install.sh without CUDA", code, text)
    print("install.sh and a station, on the fakes")


def main() -> None:
    folder, fcam = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    headers = folder / "vendor/trtx-sys/TensorRT-Headers/TRT-Enterprise-11.4"
    includes = [headers, folder / "nvidia/cu13/include"]
    cudart = [f"-L{folder / 'nvidia/cu13/lib'}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    lean = ['-DFCAM_TRT_NVINFER="libnvinfer_lean.so.11"', f"-Wl,-rpath,{folder / 'tensorrt_lean_libs'}"]
    check_lean(compile_library(folder / "lean/libfcam_trt.so", SHIM, includes, *lean, *cudart), fcam)

    fake = folder / "fake"

    def stand_in(library: str, part: str, *more: str) -> None:
        compile_library(fake / library, HERE / "fake.cc", includes, f"-D{part}", *more, standard="c++17")

    stand_in("libcudart.so", "RUNTIME", "-Wl,-soname,libcudart.so")
    stand_in("libcuda.so.1", "DRIVER")
    stand_in("libnvinfer.so.11", "TENSORRT", f"-L{fake}", "-lcudart")
    stand_in("libnvonnxparser.so.11", "PARSER")
    shim = compile_library(fake / "libfcam_trt.so", SHIM, includes, f"-L{fake}", "-lcudart", "-ldl", "-lpthread")
    check_fake(shim, fcam)
    check_install(folder, headers, fcam)


if __name__ == "__main__":
    main()
