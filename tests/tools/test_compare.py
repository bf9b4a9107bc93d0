"""Two networks side by side: the same metrics as the scorer's, honest intervals, and the pictures they disagree on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fcam_tools import data
from fcam_tools.common.errors import ToolError
from fcam_tools.judge import compare, truth
from fcam_tools.judge.compare import Network
from fcam_tools.measure import metrics
from PIL import Image

COUNT = 40
THRESHOLDS = {"score": 0.5, "map": 0.5, "map_low": 0.3, "min_area_px": 6}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    """Half of the pictures hold a bright square, and their masks."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for split in data.SPLITS:
        for name in ("ok", "ng"):
            (root / split / name).mkdir(parents=True)
            (root / "ground_truth" / split / name).mkdir(parents=True)
            for index in range(COUNT // 2):
                pixels, mask = random.integers(0, 160, (24, 24, 3), dtype=np.uint8), np.zeros((24, 24), np.uint8)
                if name == "ng":
                    top, left = random.integers(0, 18, 2)
                    pixels[top : top + 6, left : left + 6] |= 96
                    mask[top : top + 6, left : left + 6] = 255
                    Image.fromarray(mask).save(root / "ground_truth" / split / name / f"{index}_mask.png")
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return data.load(str(root))


def network(name: str, blur: float, wrong: frozenset[str] = frozenset()) -> Network:
    """Sees brightness through noise; gives the other verdict for the pictures named."""

    def source(path: Path) -> tuple[float, np.ndarray]:
        pixels = data.read_picture(path, (24, 24)).mean(axis=2) / 255
        random = np.random.default_rng(int(path.stem) + 1000 * (path.parent.name == "ng"))
        found = np.clip(pixels + blur * random.normal(size=pixels.shape), 0, 1)
        score = 0.9 if path.parent.name == "ng" else 0.1
        score = 1 - score if f"{path.parent.name}/{path.stem}" in wrong else score
        return score + 0.05 * float(random.normal()), found

    return Network(name, ("ok", "ng"), (24, 24), THRESHOLDS, source)


def run(a: Network, b: Network, dataset: data.Dataset, draws: int = 200) -> dict:
    return compare.compare(a, b, dataset, "test", None, draws, 0, progress=False)


def test_metrics_are_the_scorer_s(dataset: data.Dataset) -> None:
    a = network("a", 0.2, frozenset({"ng/3"}))
    scorer, masks = metrics.Scorer(score_threshold=0.5, taus=1), truth.truth_of(dataset, "test", (24, 24))
    for picture in masks.pictures:
        score, found = a.source(picture.path)
        scorer.update(min(max(score, 0), 1), int(picture.label != 0), found, masks.mask(picture))
    wanted, found = scorer.compute(), run(a, network("b", 0.1), dataset, draws=2)["metrics"]
    for name in ("image_auroc", "image_ap", "pxap"):
        assert found[name]["a"] == pytest.approx(wanted[name], abs=1e-9), name
    assert found["aupro_030"]["a"] == pytest.approx(wanted["aupro_030"], abs=2e-3)  # coarser bins
    assert found["escape_rate"]["a"] == wanted["shipped_escape_rate"] == 0.05
    assert found["false_reject_rate"]["a"] == wanted["shipped_false_reject_rate"] == 0


def test_same_network_does_not_differ(dataset: data.Dataset) -> None:
    found = run(network("a", 0.2), network("b", 0.2), dataset, draws=20)
    assert all(told["interval"] == (0, 0) and not told["differs"] for told in found["metrics"].values())
    assert found["disagreements"] == []


def test_clear_difference_shows_and_one_picture_does_not(dataset: data.Dataset) -> None:
    better, worse = network("b", 0.05), network("a", 0.6, frozenset({"ng/3"}))
    found = run(worse, better, dataset)["metrics"]
    for name in ("pxap", "aupro_030"):
        assert found[name]["differs"] and found[name]["interval"][0] > 0, name
        assert found[name]["interval"][0] <= found[name]["difference"] <= found[name]["interval"][1]
    assert found["escape_rate"]["difference"] == pytest.approx(-0.05) and not found["escape_rate"]["differs"]


def test_pairing_makes_intervals_of_like_networks_narrow(dataset: data.Dataset) -> None:
    a, b = network("a", 0.2), network("b", 0.21)
    masks = truth.truth_of(dataset, "test", (24, 24))
    labels = np.array([int(p.label != 0) for p in masks.pictures])
    first, second = (compare.ask(n, masks, True, False) for n in (a, b))
    paired = compare.differences(first, second, labels, 200, 0)["pxap"]["interval"]
    draws = list(compare.operating.draws(labels.astype(bool), 400, 1))
    apart = [compare.pxap(second, x) - compare.pxap(first, y) for x, y in zip(draws[:200], draws[200:], strict=True)]
    assert paired[1] - paired[0] < 0.7 * np.subtract(*np.percentile(apart, [97.5, 2.5]))


def test_disagreements_are_listed_and_shown(dataset: data.Dataset, tmp_path: Path) -> None:
    networks = {"A": network("a", 0.1, frozenset({"ok/2"})), "B": network("b", 0.1, frozenset({"ng/5", "ok/7"}))}
    whole = run(networks["A"], networks["B"], dataset, draws=2)
    lines, found = compare.table(whole).splitlines(), whole["disagreements"]
    assert (
        "A: of 20 defective parts 20 are rejected, of 20 good ones 1 (test split, at the shipped threshold 0.5)"
        in lines
    )
    assert (
        "B: of 20 defective parts 19 are rejected, of 20 good ones 1 (test split, at the shipped threshold 0.5)"
        in lines
    )
    named = {(entry["class"], Path(entry["picture"]).stem, entry["right"]) for entry in found}
    assert named == {("ok", "2", "b"), ("ng", "5", "a"), ("ok", "7", "a")}
    apart = [abs(entry["a"]["score"] - entry["b"]["score"]) for entry in found]
    assert apart == sorted(apart, reverse=True)
    compare.sheet(found, networks, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * compare.TILE and sheet.height > 3 * compare.TILE
        left, middle = (np.asarray(sheet)[: compare.TILE, i * compare.TILE : (i + 1) * compare.TILE] for i in (0, 1))
    assert not np.array_equal(left, middle)  # something is marked


def test_without_masks_pictures_are_compared(dataset: data.Dataset, tmp_path: Path) -> None:
    for split in data.SPLITS:
        (tmp_path / split).symlink_to(dataset.root / split)
    found = run(network("a", 0.1), network("b", 0.2), data.load(str(tmp_path)), draws=5)
    assert found["metrics"].keys() == {"image_auroc", "image_ap", "escape_rate", "false_reject_rate"}


def test_other_classes_and_other_files_are_refused(dataset: data.Dataset, tmp_path: Path) -> None:
    other = Network("other", ("ok", "dent"), (24, 24), THRESHOLDS, network("a", 0.1).source)
    with pytest.raises(ToolError, match="the data has"):
        run(network("a", 0.1), other, dataset)
    with pytest.raises(ToolError, match="neither a bundle"):
        compare.open_network(tmp_path)
    json.dumps(run(network("a", 0.1), network("b", 0.1), dataset, draws=2))
