"""Well-known backbones with the light decoder: each must load into the camera's int8 engine and match ONNX Runtime."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fcam_tools.bench import nets, peers

SIZE = 64  # a tenth of the work of 224
# Fifty layers down, at 2 x 2 pixels, a grey level of the picture moves ONNX Runtime's own score by 0.8, the map hardly.
CHAOTIC = ("resnet50",)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return nets.pictures_of(SIZE, tmp_path_factory.mktemp("pictures"), seed=0)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_the_camera_computes_what_onnx_runtime_does(name, pictures, fcam, tmp_path, monkeypatch):
    monkeypatch.setitem(nets.NETS, name, dataclasses.replace(nets.NETS[name], size=SIZE))
    bundle = nets.write(name, pictures, tmp_path)
    done = subprocess.run([fcam, "check", "--json", bundle], capture_output=True, text=True, timeout=120, check=False)
    report = json.loads(done.stdout)
    assert "int8" in report["backend"], report["backend"]
    assert len(report["golden"]) >= 1
    # Deep nets of random weights magnify the last step: two optimisation levels of ONNX Runtime are as far apart.
    for golden in report["golden"]:
        assert golden["iou"] >= 0.95, report
        if name not in CHAOTIC:
            assert golden["score"] == pytest.approx(golden["golden_score"], abs=0.15), report


def rows(*medians: float) -> list[peers.Row]:
    names = (peers.OURS, "onnxruntime qdq", "openvino qdq")
    return [
        peers.Row("net", 1, name, median, median, medians[0] / median)
        for name, median in zip(names, medians, strict=True)
    ]


def test_the_table_names_the_best_peer():
    lines = peers.table(rows(2.0, 8.0, 4.0)).splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["fcam", "openvino", "onnxruntime"]
    assert lines[2].endswith("0.50  best peer")
    assert lines[3].endswith("0.25")


def test_runtimes_take_turns_and_the_ratio_is_of_medians():
    turns: list[str] = []

    def runner(name: str, times: list[float]) -> peers.Runner:
        def run(runs: int) -> list[float]:
            turns.append(name)
            return times

        return run

    found = {peers.OURS: runner("a", [1.0, 2.0, 9.0]), "openvino qdq": runner("b", [4.0, 4.0, 4.0])}
    measured = peers.measure("net", 1, found, rounds=3, runs=8, progress=False)
    assert turns == ["a", "b"] * 4
    assert [(row.median_ms, row.min_ms, row.ratio) for row in measured] == [(2.0, 1.0, 1.0), (4.0, 4.0, 0.5)]


def test_onnx_runtime_runs_both_of_its_formats(pictures, tmp_path):
    bundle = nets.write("inception", pictures, tmp_path)
    inputs = peers.pictures_of(bundle)
    qoperator = tmp_path / "qoperator.onnx"
    peers.write_qoperator(tmp_path / "inception.float.onnx", inputs, qoperator)
    for model in (bundle / "model.onnx", qoperator):
        times = peers.onnxruntime(Path(model), inputs[0], 1)(2)
        assert len(times) == 2 and np.all(np.array(times) > 0)
