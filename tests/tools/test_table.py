"""The table of seeds and backbones: rows, reuse, a run that is killed, and its files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools.common.errors import ToolError
from fcam_tools.judge import table
from fcam_tools.measure.metrics import PixelCurve
from fcam_tools.synth import synth
from fcam_tools.train import train
from PIL import Image

WORDS = ("--backbones", "lcnet_035", "--no-pretrained", "--size", "64", "--epochs", "1", "--decoder-epochs", "1")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("table") / "pictures"
    synth.generate(out, seed=1, size=64, train=12, val=8, test=8, defects=["hole", "stain"], progress=False)
    return out


def command(source: Path, out: Path, *seeds: str) -> list[str]:
    words = ["table", str(source), "--seeds", *seeds, *WORDS, "--per-class", "3", "--out", str(out), "--json"]
    return [sys.executable, "-m", "fcam_tools", *words]


def run(source: Path, out: Path, *seeds: str) -> list[dict[str, str]]:
    done = subprocess.run(command(source, out, *seeds), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(table.__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def rows_of(out: Path) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_table_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "table.csv"
    process = subprocess.Popen(
        command(source, out, "cam", "gradcam"), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not rows_of(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = rows_of(out)
    assert 1 <= len(kept) < 4
    classifier = next((out.parent / "table" / "classifiers").glob("lcnet_035-*.pt"))
    written = classifier.stat().st_mtime_ns
    rows = run(source, out, "cam", "gradcam")
    assert rows_of(out) == rows and rows[: len(kept)] == kept
    assert [(row["seed"], row["map"]) for row in rows] == [
        (seed, found) for seed in ("cam", "gradcam") for found in table.MAPS
    ]
    assert classifier.stat().st_mtime_ns == written  # one classifier for all seeds, before and after
    check_files(out, rows)
    before = {path: path.stat().st_mtime_ns for path in (out.parent / "table").rglob("*.*")}
    assert run(source, out, "cam", "gradcam") == rows
    assert {path: path.stat().st_mtime_ns for path in (out.parent / "table").rglob("*.*")} == before


def check_files(out: Path, rows: list[dict[str, str]]) -> None:
    assert tuple(rows[0]) == table.COLUMNS
    for row in rows:
        assert 0 <= float(row["pxap"]) <= 100 and 0 <= float(row["auroc"]) <= 1 and 0 <= float(row["flat"]) <= 1
        assert float(row["iou"]) <= float(row["iou_best"]) + 1e-6 and float(row["f1"]) <= float(row["f1_best"]) + 1e-6
        assert float(row["seconds"]) > 0 and int(row["macs"]) > 1e6
    interpolated, decoded = rows[:2]
    assert interpolated["auroc"] == decoded["auroc"]  # the same classifier
    assert int(decoded["params"]) > int(interpolated["params"])
    assert int(decoded["macs"]) > int(interpolated["macs"])
    assert out.with_suffix(".md").read_text().count("lcnet_035") == len(rows)
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 400 and len(picture.getcolors(1 << 24) or []) > 20
    assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []


def test_several_processes_make_the_table_of_one(source: Path, tmp_path: Path) -> None:
    one, several = tmp_path / "one.csv", tmp_path / "several.csv"
    run(source, one, "cam", "gradcam")
    words = [*command(source, several, "cam", "gradcam"), "--jobs", "3"]
    subprocess.run(words, env=environment(), capture_output=True, check=True)
    costs = ("seconds", "train_seconds")
    measured = [[{k: v for k, v in row.items() if k not in costs} for row in rows_of(out)] for out in (one, several)]
    assert measured[0] == measured[1]
    refused = subprocess.run([*words[:-1], "0"], env=environment(), capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--jobs 0" in refused.stderr


def plan(source: Path, out: Path, **changes: int) -> table.Plan:
    recipe = train.Recipe(size=64, pretrained=False, **changes)  # type: ignore[arg-type]
    dataset = table.thin(table.data.load(str(source)), 2)
    return table.Plan(dataset, recipe, ("cam",), ("lcnet_035",), out, table.settings_of(dataset, recipe))


def test_rows_of_other_settings_stay_and_are_not_taken(source: Path, tmp_path: Path) -> None:
    first, second = plan(source, tmp_path / "t.csv", epochs=1), plan(source, tmp_path / "t.csv", epochs=2)
    assert first.settings != second.settings and not set(first.wanted()) & set(second.wanted())
    same = plan(source, tmp_path / "t.csv", epochs=1)
    assert same.settings == first.settings
    (key, *_) = first.wanted()
    row = dict.fromkeys(table.COLUMNS, "1") | dict(zip(table.KEY, key, strict=True))
    table.write_rows(first.out, {key: row})
    assert table.read_rows(second.out) == {key: row}


def test_pictures_are_thinned_by_class_and_split(source: Path) -> None:
    dataset = table.thin(table.data.load(str(source)), 2)
    for found in dataset.splits.values():
        counts = [sum(p.label == label for p in found) for label in range(len(dataset.classes))]
        assert max(counts) == 2 and min(counts) >= 1


def test_a_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ToolError, match="other columns"):
        table.read_rows(tmp_path / "t.csv")


def test_flatness_is_the_share_of_thresholds_near_the_best() -> None:
    assert table.flatness([0.5] * 1001) == 1.0
    narrow = [0.0] * 1001
    narrow[300:381] = [0.4] * 81
    assert table.flatness(narrow) == pytest.approx(81 / 801)
    assert table.flatness([]) is None


def test_iou_curve_counts_pixels_at_each_threshold() -> None:
    curve = PixelCurve()
    assert curve.iou_curve() is None
    found, truth = np.array([[0.1, 0.4], [0.8, 1.0]]), np.array([[0, 1], [0, 1]])
    curve.update(found, truth)
    values = curve.iou_curve()
    assert values is not None and len(values) == 1001
    for threshold, wanted in (
        (0, 2 / 4),
        (0.1, 2 / 4),
        (0.2, 2 / 3),
        (0.4, 2 / 3),
        (0.5, 1 / 3),
        (0.9, 1 / 2),
        (1, 1 / 2),
    ):
        assert values[round(threshold * 1000)] == pytest.approx(wanted), threshold
