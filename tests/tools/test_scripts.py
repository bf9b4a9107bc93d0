"""Shell scripts with stand-ins for what they call: whose paths they take, and what a failure leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "board"


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def told(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


class Place:
    """A caller's folder, and programs that come before this machine's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "caller", folder / "bin"
        self.folder.mkdir()
        self.bin.mkdir()

    def run(self, path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **environment}
        return subprocess.run([path, *words], cwd=self.folder, env=environment, capture_output=True, text=True)

    def calls(self, name: str) -> list[str]:
        file = self.folder / f"{name}.calls"
        return file.read_text().splitlines() if file.exists() else []

    def stand_in(self, name: str, more: str = "") -> None:
        script(self.bin / name, f'echo "$*" >>{self.folder}/{name}.calls\n{more}')


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def jetson(place: Place) -> Place:
    """JetPack's headers, and a user fcam; there is no service."""
    for file in (
        "cuda/include/cuda_runtime_api.h",
        "cuda/lib64/libcudart_static.a",
        "include/NvInfer.h",
        "include/NvOnnxParser.h",
        "include/NvInferVersion.h",
        "station.toml",
    ):
        (place.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / file).touch()
    place.stand_in("g++", 'while [ "$1" != -o ]; do last=$1; shift; done; cp "$last" "$2"')
    place.stand_in("chown")
    place.stand_in("id")
    place.stand_in("systemctl", "exit 1")
    script(place.folder / "fcam", 'echo "$*" >>fcam.calls; mkdir -p data/engines; touch data/engines/a.engine')
    return place


def installed(jetson: Place, *words: str) -> subprocess.CompletedProcess[str]:
    places = {"FCAM": "./fcam", "CUDA": "cuda", "INCLUDE": "include", "PLACE": "lib", "CACHE": "data/engines"}
    return jetson.run(BOARD / "jetson/install.sh", *words, **places)


def test_a_jetson_s_paths_are_the_caller_s(jetson: Place) -> None:
    done = installed(jetson, "station.toml")
    assert done.returncode == 0, told(done)
    shim = "--shim lib/libfcam_trt.so --engine-cache data/engines"
    assert jetson.calls("fcam") == [f"engine build --config station.toml {shim}", "check station.toml"]
    assert (jetson.folder / "lib/libfcam_trt.so").read_bytes() == (BOARD / "jetson/trt_shim.cc").read_bytes()
    done = installed(jetson, "nowhere.toml")
    assert done.returncode == 2 and "no station file nowhere.toml" in done.stderr
    assert len(jetson.calls("g++")) == 1


def test_nothing_above_the_engines_is_given_away(jetson: Place) -> None:
    (jetson.folder / "data/engines").mkdir(parents=True)
    (jetson.folder / "data/engines/notes.txt").touch()
    assert installed(jetson).returncode == 0
    assert jetson.calls("chown") == ["-h fcam: data/engines", "-h fcam: data/engines/a.engine"]


def test_keys_that_are_made_stay(place: Place) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    assert place.run(BOARD / "rauc/key.sh", "keys").returncode == 0
    keys = place.folder / "keys"
    before = {file.name: file.read_bytes() for file in keys.iterdir()}
    assert set(before) == {"system.key", "system.pem"}
    assert [(keys / name).stat().st_mode & 0o777 for name in sorted(before)] == [0o600, 0o644]
    assert place.run(BOARD / "rauc/key.sh", "keys").returncode == 0
    assert {file.name: file.read_bytes() for file in keys.iterdir()} == before
    for lost in before:
        (keys / lost).unlink()
        done = place.run(BOARD / "rauc/key.sh", "keys")
        assert done.returncode == 1 and "alone" in done.stderr
        (keys / lost).write_bytes(before[lost])


def test_a_key_without_a_certificate_is_not_left(place: Place) -> None:
    place.stand_in("openssl", 'echo key >"$6"; echo "no room on the disk" >&2; exit 1')
    for _ in range(2):
        done = place.run(BOARD / "rauc/key.sh", "keys")
        assert done.returncode == 1 and "no room on the disk" in done.stderr
        assert not list((place.folder / "keys").iterdir())


def test_a_base_that_is_kept_says_how_old_it_is(place: Place) -> None:
    (place.folder / "card.tar").touch()
    (place.folder / "parts").mkdir()
    for name in ("card.tar", "parts"):
        os.utime(place.folder / name, (time.time() - 40 * 86400 - 60,) * 2)
    for done in (
        place.run(BOARD / "image/root.sh", "arm64", "card.tar", "udev"),
        place.run(BOARD / "image/fetch.sh", "parts", "main", "^busybox-static$"),
    ):
        assert done.returncode == 0 and "40 days old; remove it for newer packages" in done.stdout, told(done)
