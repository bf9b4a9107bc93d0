"""fcam beside other runtimes on the same networks, in one go: `./dev bench peers`.

Each runtime gets the format that it is fastest with: ONNX Runtime the QDQ file and a QOperator file (uint8
activations), of which the better counts; OpenVINO and stock tract the QDQ file. They take turns, round by round, so
that a busy machine slows all of them; a row has the median of the rounds' medians and the least time seen. `ratio` is
fcam's median over the row's: below 1, fcam is faster. Batch 1, one picture at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tqdm import tqdm

from fcam_tools.bench import nets
from fcam_tools.common import tables
from fcam_tools.common.disk import scratch
from fcam_tools.common.errors import ToolError
from fcam_tools.data import read_picture
from fcam_tools.model.answers import tensor
from fcam_tools.model.onnx_graph import INPUT

BUILT = Path(__file__).resolve().parents[3] / "target" / "release" / "fcam"
OURS = "fcam int8"
ROUND_S = 600
# An engine's runs of one round, milliseconds; it takes the number of runs.
Runner = Callable[[int], list[float]]


@dataclass(frozen=True)
class Row:
    """One runtime on one net; ratio is fcam's median over this runtime's."""

    net: str
    threads: int
    runtime: str
    median_ms: float
    min_ms: float
    ratio: float


class Pictures(CalibrationDataReader):
    """Calibration pictures, as ONNX Runtime's quantiser wants them."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self.left = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self.left, None)
        return None if picture is None else {INPUT: picture}


def pictures_of(bundle: Path) -> list[np.ndarray]:
    """The golden pictures of a bundle as network inputs."""
    paths = sorted((bundle / "golden").glob("*.input.png"))
    manifest = tomllib.loads((bundle / "manifest.toml").read_text())
    size = (manifest["input"]["width"], manifest["input"]["height"])
    return [tensor(read_picture(path, size)) for path in paths]


def write_qoperator(float_onnx: Path, pictures: Sequence[np.ndarray], out: Path) -> None:
    """ONNX Runtime's own integer format, which it runs faster than QDQ on x86."""
    quantize_static(
        float_onnx,
        out,
        Pictures(pictures),
        quant_format=QuantFormat.QOperator,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def timed(run: Callable[[], object], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def onnxruntime(model: Path, picture: np.ndarray, threads: int) -> Runner:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    session = ort.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    return lambda runs: timed(lambda: session.run(None, {INPUT: picture}), runs)


def openvino(model: Path, picture: np.ndarray, threads: int) -> Runner:
    import openvino as ov

    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(str(model), "CPU", hints)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(picture))
    return lambda runs: timed(request.infer, runs)


def fcam(binary: Path, bundle: Path, threads: int, backend: str) -> Runner:
    """Each round is a process of its own, which warms up; its frames have the network's own size."""
    manifest = tomllib.loads((bundle / "manifest.toml").read_text())["input"]
    command = [
        str(binary), "bench", "--json", "--bundle", str(bundle), "--threads", str(threads), "--backend", backend,
        "--width", str(manifest["width"]), "--height", str(manifest["height"]), "--no-float", "--frames",
    ]  # fmt: skip

    def run(runs: int) -> list[float]:
        try:
            done = subprocess.run([*command, str(runs)], capture_output=True, text=True, timeout=ROUND_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"{runs} runs on {bundle} take fcam over {ROUND_S} s: ask for fewer --runs") from error
        if done.returncode:
            raise ToolError(f"fcam bench failed on {bundle}: {done.stderr.strip()}")
        engine = json.loads(done.stdout)["stages"]["engine"]
        return [engine["min_us"] / 1e3, engine["p50_us"] / 1e3, engine["p50_us"] / 1e3]

    return run


def runners(binary: Path, bundle: Path, float_onnx: Path | None, threads: int, folder: Path) -> dict[str, Runner]:
    pictures = pictures_of(bundle)
    model = bundle / "model.onnx"
    found: dict[str, Runner] = {
        OURS: fcam(binary, bundle, threads, "cpu"),
        "onnxruntime qdq": onnxruntime(model, pictures[0], threads),
        "openvino qdq": openvino(model, pictures[0], threads),
    }
    if float_onnx:
        qoperator = folder / f"{bundle.name}.qoperator.onnx"
        if not qoperator.exists():
            write_qoperator(float_onnx, pictures, qoperator)
        found["onnxruntime qoperator"] = onnxruntime(qoperator, pictures[0], threads)
    if threads == 1:
        found["tract qdq"] = fcam(binary, bundle, threads, "tract")
    return found


def measure(net: str, threads: int, found: dict[str, Runner], rounds: int, runs: int, progress: bool) -> list[Row]:
    """Rounds of all runtimes in turn; stock tract, at twenty times the time of the others, gets a fifth of the runs."""
    times: dict[str, list[list[float]]] = {name: [] for name in found}
    for run in found.values():
        run(max(runs // 4, 1))
    for _ in tqdm(range(rounds), desc=f"{net}, {threads} thread{'s' * (threads > 1)}", disable=not progress):
        for name, run in found.items():
            times[name].append(run(max(runs // 5, 3) if name.startswith("tract") else runs))
    medians = {name: statistics.median(statistics.median(r) for r in rs) for name, rs in times.items()}
    return [
        Row(
            net=net,
            threads=threads,
            runtime=name,
            median_ms=round(medians[name], 3),
            min_ms=round(min(min(r) for r in rs), 3),
            ratio=round(medians[OURS] / medians[name], 3),
        )
        for name, rs in times.items()
    ]


def best_peer(rows: Sequence[Row]) -> Row:
    return min((row for row in rows if row.runtime != OURS), key=lambda row: row.median_ms)


def table(rows: Sequence[Row]) -> str:
    lines = []
    for group in dict.fromkeys((row.net, row.threads) for row in rows):
        own = [row for row in rows if (row.net, row.threads) == group]
        best = best_peer(own)
        for row in sorted(own, key=lambda row: row.median_ms):
            ratio = "" if row.runtime == OURS else f"{row.ratio:.2f}"
            mark = "best peer" if row == best else ""
            times = (f"{row.median_ms:.2f}", f"{row.min_ms:.2f}")
            lines.append((row.net, row.threads, row.runtime, *times, ratio, mark))
    return tables.table(("net", "threads", "runtime", "median ms", "min ms", "fcam / it", ""), lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nets",
        nargs="+",
        default=["default", "lite0", "mobilenetv2", "resnet18"],
        metavar="NET",
        help=f"what to time: default, the default bundle, or {', '.join(nets.NETS)}",
    )
    parser.add_argument("--out", type=Path, default=Path("out/nets"), help="where the nets are, or are made")
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], help="threads that each runtime has (default: 1, then 2)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds, in each of which all take their turn (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=40, help="inferences of a runtime in a round")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def run(args: argparse.Namespace) -> int:
    binary = Path(os.environ.get("FCAM") or shutil.which(BUILT) or "")
    if not binary.is_file():
        raise ToolError("no fcam binary: build it with cargo build --release, or name it in FCAM")
    known = {"default", *nets.NETS}
    if unknown := set(args.nets) - known:
        raise ToolError(f"no net {', '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}")
    progress = sys.stderr.isatty() and not args.json
    nets.write_all(args.out, [name for name in args.nets if name != "default"], progress=progress)
    rows: list[Row] = []
    with scratch("fcam-peers-") as folder:
        for name in args.nets:
            bundle = Path("models/default") if name == "default" else args.out / name
            float_onnx = None if name == "default" else args.out / f"{name}.float.onnx"
            for threads in args.threads:
                found = runners(binary, bundle, float_onnx, threads, folder)
                rows += measure(name, threads, found, args.rounds, args.runs, progress)
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(table(rows))
        print(
            f"onnxruntime {ort.__version__}, openvino {version('openvino')}; {args.rounds} rounds of {args.runs} runs"
        )
    return 0
