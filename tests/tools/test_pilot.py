"""The pilot: folds, corruptions, the verdict's rules, and a whole one by the command line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, Picture
from fcam_tools.data.sight import Sight, Template
from fcam_tools.judge import corruptions, pilot
from fcam_tools.measure import judgement
from fcam_tools.measure.judgement import Figures
from fcam_tools.model.network import Net
from PIL import Image


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def some(good: int = 30, bad: int = 12) -> list[Picture]:
    return [Picture(Path(f"{index}.png"), int(index >= good)) for index in range(good + bad)]


def test_folds_share_every_class_and_no_picture() -> None:
    folds = pilot.folds_of(some(), 3, seed=0)
    assert [sum(p.label for p in fold) for fold in folds] == [4, 4, 4] and [len(fold) for fold in folds] == [14] * 3
    assert len({p.path for fold in folds for p in fold}) == 42
    assert folds == pilot.folds_of(some(), 3, seed=0) != pilot.folds_of(some(), 3, seed=1)
    with pytest.raises(ToolError, match="a class has 5 pictures"):
        pilot.folds_of(some(bad=5), 3, seed=0)


def test_folds_divide_no_group() -> None:
    """Ten parts of each class, seen from four sides each; one part is good from two sides and bad from two."""
    pictures = [
        Picture(Path(f"{label}/{part}_{side}.png"), label, group=f"part:{label}{part}")
        for label in (0, 1) for part in range(10) for side in range(4)
    ]  # fmt: skip
    pictures[:2] = [replace(picture, label=1) for picture in pictures[:2]]
    folds = pilot.folds_of(pictures, 3, seed=0)
    places = [{picture.group for picture in fold} for fold in folds]
    assert sorted(p.path for fold in folds for p in fold) == sorted(p.path for p in pictures)
    assert sum(map(len, places)) == 20 and len(set.union(*places)) == 20
    assert all(10 <= sum(p.label for p in fold) <= 18 for fold in folds)
    with pytest.raises(ToolError, match="copies, count once"):
        pilot.folds_of(pictures, 6, seed=0)
    some = pilot.thinned(pictures, 0.3, seed=0)
    assert {sum(p.group == group for p in some) for group in {p.group for p in some}} == {4}


def test_a_fold_s_data_set_knows_where_its_truth_is() -> None:
    whole = Dataset("x", Path("y"), ("ok", "ng"), {}, layout="mvtec", option="z")
    found = pilot.dataset_for(whole, some(), seed=0)
    assert (found.layout, found.option) == ("mvtec", "z")
    assert sorted(map(len, found.splits.values())) == [0, 7, 35]


def test_smaller_share_is_part_of_a_larger_one() -> None:
    quarter, half = (pilot.thinned(some(40, 16), share, seed=0) for share in (0.25, 0.5))
    assert (len(quarter), len(half)) == (14, 28) and set(quarter) < set(half)
    assert sum(p.label for p in quarter) == 4


@pytest.mark.parametrize("name", list(corruptions.CORRUPTIONS))
def test_corruptions_grow_and_repeat(name: str) -> None:
    coarse = np.random.default_rng(0).integers(60, 200, (6, 6, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC))
    spoilt = [corruptions.spoil(pixels, name, severity) for severity in (1, 2, 3)]
    assert all(each.shape == pixels.shape and each.dtype == np.uint8 for each in spoilt)
    apart = [np.abs(each.astype(float) - pixels).mean() for each in spoilt]
    assert 0 < apart[0] < apart[1] < apart[2]
    assert np.array_equal(spoilt[1], corruptions.spoil(pixels, name, 2))


def test_how_a_part_lies_spoils_nothing_where_it_is_found() -> None:
    template = Template(np.zeros((32, 32, 3), np.uint8), 0.03, 3.0)
    assert pilot.spoiling(Sight((32, 32))) == list(corruptions.CORRUPTIONS)
    assert set(corruptions.CORRUPTIONS) - set(pilot.spoiling(Sight((32, 32), template))) == {"rotation", "shift"}


def test_power_law_is_found() -> None:
    points = [{"pictures": n, "error": 3 * n**-0.5} for n in (50, 100, 200)]
    assert pilot.power_law(points) == (pytest.approx(3), pytest.approx(0.5))
    assert pilot.power_law([{"pictures": 50, "error": 0.1}, {"pictures": 100, "error": 0.2}])[1] < 0
    assert pilot.power_law(points[:1])[1] == 0


def test_pictures_to_be_sure() -> None:
    # No mistake in n pictures is below 5 % at 95 % (two-sided) from n = 72 on.
    assert pilot.pictures_to_be_sure(0.0, 0.05) == 80
    assert pilot.pictures_to_be_sure(0.05, 0.05) is None
    more, fewer = pilot.pictures_to_be_sure(0.04, 0.05), pilot.pictures_to_be_sure(0.01, 0.05)
    assert more is not None and fewer is not None and more > 5 * fewer


COUNTS = {"ok": 60, "dent": 20, "scratch": 20}
CONFUSION = {"ok": {"passed": 58, "rejected": 2}, "dent": {"passed": 1, "rejected": 19},
             "scratch": {"passed": 6, "rejected": 14}}  # fmt: skip


def example(escape: float, reject: float, upper: float, errors: tuple[float, ...]) -> pilot.Pilot:
    out = pilot.Pilot("parts", COUNTS, pilot.EQUAL, True, pilot.Goals(0.05, 0.05), 3, {})
    out.point = {"threshold": 0.5, "threshold_interval": (0.4, 0.6), "cost": 0.1, "defects": 40, "good": 60}
    for name, rate in (("escape", escape), ("false_reject", reject)):
        out.point |= {f"{name}_rate": rate, f"unseen_{name}_rate": rate, f"{name}_interval": (0.0, upper)}
    out.confusion = CONFUSION
    out.learning = [{"pictures": 50 * 2**i, "error": error} for i, error in enumerate(errors)]
    return out


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (example(0.01, 0.01, 0.04, (0.1, 0.05, 0.02)), "go", "both goals"),
        (example(0.0, 0.0, 0.09, (0.1, 0.05, 0.02)), "more data", "add 40 defective and 20 ok pictures"),
        (example(0.2, 0.05, 0.3, (0.4, 0.2, 0.1)), "more data", "above all of scratch"),
        (example(0.3, 0.3, 0.4, (0.3, 0.3, 0.3)), "no", "class scratch escapes most"),
        (example(0.3, 0.3, 0.4, (0.32, 0.31, 0.3)), "no", "light, lens"),
    ],
)
def test_verdicts(found: pilot.Pilot, verdict: str, words: str) -> None:
    told = pilot.decide(found, COUNTS, "ok")
    assert told["verdict"] == verdict and words in told["why"]


def learnt(auroc: float, good: int = 60, bad: int = 40, caught: int = 30) -> Figures:
    return Figures(judgement.CROSS, good, bad, 2, caught, 0.5, auroc)


@pytest.mark.parametrize(
    ("figures", "verdict", "headline"),
    [
        (learnt(0.52), "learnt nothing", "learnt nothing; this says nothing about your parts: image AUROC is 0.520"),
        (learnt(0.66), "learnt hardly anything", "learnt hardly anything; this says little about your parts"),
        (learnt(1.0, bad=4, caught=4), "more data", "more data: too few pictures are held out to say anything"),
        (learnt(0.95, caught=0), "no", "no: everything passes: none of 40 defective parts"),
    ],
)
def test_what_learnt_nothing_says_nothing_of_the_parts(figures: Figures, verdict: str, headline: str) -> None:
    """Whatever the rates and the classes look like, which a threshold amid equal scores makes."""
    found = example(0.0, 0.0, 0.04, (0.1, 0.05, 0.02))
    found.held_out, found.setting = figures, judgement.Setting(40, 27, 1.0)
    found.verdict = pilot.decide(found, COUNTS, "ok")
    assert found.verdict["verdict"] == verdict and found.headline.startswith(headline)
    told = found.headline + str(found.verdict["perhaps"])
    assert "scratch" not in told and "light, lens" not in told
    assert found.first[0] == judgement.sentence(figures)


def test_a_class_that_ties_with_the_others_is_no_reason() -> None:
    def hardest(**passed: int) -> str:
        rows = {name: {"passed": count, "rejected": 20 - count} for name, count in passed.items()}
        return pilot.hardest({"ok": {"passed": 58, "rejected": 2}, **rows}, "ok")

    assert hardest(dent=20, scratch=20) == hardest(dent=0, scratch=0) == hardest(dent=9, scratch=7) == ""
    assert hardest(dent=20) == ""  # no other to compare with
    assert hardest(dent=1, scratch=6) == "scratch"
    found = example(0.3, 0.3, 0.4, (0.3, 0.3, 0.3))
    found.confusion = {"ok": CONFUSION["ok"], "dent": CONFUSION["scratch"], "scratch": CONFUSION["scratch"]}
    why = pilot.decide(found, COUNTS, "ok")["why"]
    assert "dent" not in why and "a better view (light, lens, resolution) helps" in why
    found.learning = example(0.2, 0.05, 0.3, (0.4, 0.2, 0.1)).learning
    told = pilot.decide(found, COUNTS, "ok")
    assert told["add"].keys() == {"pictures"} and "above all" not in told["why"]


def test_no_is_doubted_while_training_still_gained() -> None:
    found = example(0.3, 0.3, 0.4, (0.3, 0.3, 0.3))
    assert "more --epochs" not in pilot.decide(found, COUNTS, "ok")["why"]
    found.still_learning = True
    assert "more --epochs" in pilot.decide(found, COUNTS, "ok")["why"]
    found.recipe = {"objective": "native"}
    assert "a pilot takes fewer steps than `train`" in pilot.decide(found, COUNTS, "ok")["why"]


def test_more_pictures_are_counted_from_the_power_law() -> None:
    found = example(0.2, 0.05, 0.3, (0.4, 0.2, 0.1))  # halves with each doubling: 0.05 at 400
    assert pilot.decide(found, COUNTS, "ok")["add"]["pictures"] == pytest.approx(200, abs=2)


def test_multiply_adds_are_the_engine_s() -> None:
    # src/engine/int8/PERFORMANCE.md: the floor of the default bundle is 46.7 M instructions of 8 multiply-adds.
    assert pilot.latency(Net(8).eval(), (256, 256))["multiply_adds"] == pytest.approx(46.7e6 * 8, rel=0.01)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("pilot"), np.random.default_rng(2)
    for name, count in (("ok", 30), ("<b>ng", 24)):
        (root / "train" / name).mkdir(parents=True)
        (root / "ground_truth" / "train" / name).mkdir(parents=True)
        for index in range(count):
            pixels, mask = random.integers(60, 120, (32, 32, 3), dtype=np.uint8), np.zeros((32, 32), np.uint8)
            if name != "ok":
                top, left = random.integers(0, 24, 2)
                pixels[top : top + 8, left : left + 8] = 230
                mask[top : top + 8, left : left + 8] = 255
                Image.fromarray(mask).save(root / "ground_truth" / "train" / name / f"{index}_mask.png")
            Image.fromarray(pixels).save(root / "train" / name / f"{index}.png")
    return root


def test_whole_pilot_is_one_page(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out" / "pilot.html"
    quick = ["--recipe", "inspection", "--folds", "2", "--size", "32", "--epochs", "1", "--decoder-epochs", "1"]
    quick += ["--batch", "8"]
    quick += ["--no-pretrained", "--precision", "fp32"]
    assert __main__.main(["pilot", str(pictures), "--out", str(page), *quick, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["verdict"] in ("go", "more data", "no", "learnt nothing", "learnt hardly anything")
    assert found["held_out"]["sentence"].startswith("of 24 defective parts ")
    assert found["marked"] == 24 and "on 54 pictures, 24 of them with a mask of the defect" in page.read_text()
    assert (found["held_out"]["good"], found["held_out"]["split"]) == (30, "cross-validation")
    assert found["counts"] == {"ok": 30, "<b>ng": 24}
    assert sum(row["passed"] + row["rejected"] for row in found["confusion"].values()) == 54
    stages = [[entry["stage"] for entry in fold] for fold in found["curves"]]
    assert stages == [["classifier", "decoder"]] * 2 and all("val_auroc" in fold[0] for fold in found["curves"])
    assert len(found["robustness"]) == 1 + 3 * len(corruptions.CORRUPTIONS)
    assert found["oracle"]["pxap_oracle"] >= found["oracle"]["pxap_chosen_by_labels"] > 0
    assert 2 <= len(found["learning"]) <= 3 and found["latency"]["multiply_adds"] > 1e6
    text = page.read_text()
    assert re.search(r"<h1>.*</h1>\n<p>of 24 defective parts \d+ (is|are) rejected, of 30 good ones \d+ \(cross", text)
    assert found["verdict"]["verdict"] in text and text.count("data:image/png;base64,") >= 3
    assert "<b>ng" not in text and "&lt;b&gt;ng" in text
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert "oracle" in text.lower()


def test_a_pilot_learns_as_train_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By `native`, with pictures in their own shape, thin kinds as one, and two networks side by side."""
    random = np.random.default_rng(3)
    for name, count in (("ok", 24), ("dent", 12), ("rare", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(60, 120, (64, 128, 3), dtype=np.uint8)
            if name != "ok":
                pixels[20:32, 8 * index : 8 * index + 12] = 230
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
    page = tmp_path / "pilot.html"
    quick = ["--window", "32", "--windows", "4", "--outline-steps", "2", "--label-steps", "2", "--folds", "2"]
    quick += ["--no-pretrained", "--precision", "fp32", "--jobs", "2"]
    assert __main__.main(["pilot", str(tmp_path / "set"), "--out", str(page), *quick, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"]["size"], found["recipe"]["height"]) == (128, 64)
    assert [[entry["stage"] for entry in fold] for fold in found["curves"]] == [["outlines", "labels"]] * 2
    assert list(found["confusion"]) == ["ok", "dent", "rare"]
    assert set(found["confusion"]["rare"]) == {"passed", "rejected", "seen as ok", "seen as defect"}
    assert found["oracle"] == {} and "There are no masks" in page.read_text()
    assert __main__.main(["pilot", str(tmp_path / "set"), "--out", str(page), "--epochs", "3"]) == 2
    assert "native has no --epochs" in capsys.readouterr().err
    assert __main__.main(["pilot", str(tmp_path / "set"), "--out", str(page), "--jobs", "0"]) == 2


def test_prices_move_the_pilot_s_threshold(pictures: Path) -> None:
    scores, labels = np.linspace(0, 1, 40), np.arange(40) % 3 == 0
    dear = pilot.operating.choose(scores, labels, replace(pilot.EQUAL, escape=50), 10)
    assert dear.threshold < pilot.operating.choose(scores, labels, replace(pilot.EQUAL, reject=50), 10).threshold
    assert __main__.main(["pilot", str(pictures), "--folds", "1"]) == 2
