"""Whether held-out pictures show that a network has learnt anything: on numbers, and what people are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fcam_tools.measure import judgement
from fcam_tools.measure.judgement import Figures, Setting
from fcam_tools.measure.metrics import image_auroc
from scipy.stats import norm

GOOD = Figures("test", 40, 60, 1, 41, 0.67, 0.97)
SETTING = Setting(200, 120, 0.15, (640, 480), (256, 256), 0.99)


@pytest.mark.parametrize(("good", "defective"), [(5, 5), (40, 12), (100, 100)])
@pytest.mark.parametrize("true", [0.6, 0.8, 0.95])
def test_interval_of_auroc_holds_what_is_true(true: float, good: int, defective: int) -> None:
    """Scores of both sides are normal, so far apart that AUROC is `true`."""
    rng, missed = np.random.default_rng(0), 0
    labels = np.arange(good + defective) >= good
    for _ in range(150):
        scores = rng.normal(size=good + defective) + labels * np.sqrt(2) * norm.ppf(true)
        low, high = judgement.auroc_interval(float(image_auroc(scores, labels.astype(int)) or 0), good, defective)
        missed += not low <= true <= high
    assert missed <= 0.08 * 150


def test_five_of_each_told_apart_are_the_least_that_shows_anything() -> None:
    assert judgement.auroc_interval(1.0, 5, 5) == (pytest.approx(0.643, abs=1e-3), 1.0)
    assert judgement.auroc_interval(1.0, 4, 4)[0] < judgement.CHANCE
    assert judgement.auroc_interval(0.0, 5, 5) == (0.0, pytest.approx(0.357, abs=1e-3))
    assert judgement.auroc_interval(1.0, 1, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (GOOD, ""),
        (Figures("test", 1, 1, 0, 1, 0.5, 1.0), "too few pictures are held out"),
        (Figures("test", 400, 4, 0, 4, 0.5, 1.0), "400 good and 4 defective"),
        (Figures("val", 40, 60, 1, 41, 0.67, 0.5), "learnt nothing; this says nothing about your parts"),
        (Figures("val", 40, 60, 1, 41, 0.67, 0.65), "learnt hardly anything"),
        (Figures("val", 9, 0, 0, 0, 0.5, None), "9 good and 0 defective"),
        (replace(GOOD, defective_rejected=0), "everything passes: none of 60 defective parts is rejected"),
        (replace(GOOD, good_rejected=40, defective_rejected=60), "everything is rejected: all of 40 good parts"),
        (replace(GOOD, unit="pictures", defective_rejected=0), "none of 60 defective pictures"),
    ],
)
def test_doubts(found: Figures, words: str) -> None:
    told = judgement.doubt(found)
    assert words in told and bool(told) == bool(words)
    assert not words or judgement.causes(found, SETTING)


def test_figures_of_scores() -> None:
    found = judgement.figures([0.1, 0.7, 0.6, 0.9, 0.2], [0, 0, 1, 1, 1], 0.6, "val")
    assert found == Figures("val", 2, 3, 1, 2, 0.6, pytest.approx(4 / 6))
    assert judgement.figures([], [], 0.5, "val").auroc is None
    assert judgement.sentence(found).startswith("of 3 defective parts 2 are rejected, of 2 good ones 1 (val split, ")
    assert "(cross-validation, " in judgement.sentence(replace(found, split="cross-validation"))


def test_figures_go_through_a_manifest() -> None:
    found = replace(GOOD, split="val", unit="pictures")
    manifest = {"metrics": found.metrics(), "provenance": found.provenance(), "thresholds": {"score": 0.67}}
    assert judgement.figures_in(manifest) == found
    assert found.provenance()["held_out"].startswith("of 60 defective pictures 41 are rejected, of 40 good ones 1 (val")
    assert GOOD.metrics()["shipped_escape_rate"] == pytest.approx(19 / 60)
    assert all(isinstance(value, float) for value in GOOD.metrics().values())
    assert judgement.figures_in({"metrics": {"image_auroc": 0.9}, "thresholds": {"score": 0.67}}) is None
    counts = {f"held_out_{name}" for name in judgement.COUNTS}
    assert Figures("test", 5, 0, 0, 0, 0.5, None).metrics().keys() == {*counts, "shipped_false_reject_rate"}


BLIND = replace(GOOD, auroc=0.5)


def causes(found: Figures = BLIND, **known: object) -> str:
    return "\n".join(judgement.causes(found, replace(SETTING, **known)))


def test_causes_are_those_that_can_be_seen() -> None:
    assert "by heart (image AUROC 0.99" in causes()
    assert "labels are mixed up" in causes(train_auroc=0.55) and "by heart" not in causes(train_auroc=0.55)
    assert causes(train_auroc=None) == ""
    few = causes(good=49, defective=12)
    assert "too few good pictures: 49 to learn from" in few and "add about 38 more" in few
    assert "too few" not in causes()
    lucky = causes(Figures("val", 11, 9, 0, 0, 0.7, 0.818))
    assert "few pictures are held out (11 good, 9 defective)" in lucky and "whether 0.818 is luck" in lucky
    assert "held out" not in causes() and "held out" not in causes(replace(GOOD, auroc=0.65))
    large = causes(picture=(1920, 1080))
    assert "1920 x 1080 become 256 x 256" in large and "a mark of 8 pixels" in large
    assert "too small" not in causes()
    assert "more --epochs" in causes(still_learning=True)
    assert "folders are swapped" in causes(replace(GOOD, auroc=0.2))
    assert "--false-reject" in causes(replace(GOOD, defective_rejected=0))
    # Learnt, and not good enough for someone.
    assert (
        causes(GOOD) == "" and "by heart" not in causes(GOOD, good=12) and "add about 38 more" in causes(GOOD, good=12)
    )


def test_how_many_more_pictures_hold_out_enough() -> None:
    (told,) = judgement.causes(Figures("val", 40, 2, 0, 2, 0.5, 1.0), SETTING)
    assert told.startswith("defective pictures are too few: add about 20 more, of which about 3 will be held out")
    (told,) = judgement.causes(Figures("val", 0, 9, 0, 2, 0.5, None), replace(SETTING, share=0.0))
    assert told == "good pictures are too few: add about 5 more to the held-out pictures"


def test_refusal_is_some_lines_that_end_in_a_command() -> None:
    lines = judgement.told(replace(GOOD, auroc=0.5), SETTING, "PICTURES").splitlines()
    assert lines[0].startswith("learnt nothing") and all(line.startswith("  perhaps ") for line in lines[1:-1])
    assert "`fcam-tools inspect PICTURES --html inspect.html`" in lines[-1]


def test_pictures_of_one_part_are_no_parts() -> None:
    assert judgement.unit_of(["", "", "part:1", "part:2", "day:1", "day:1"]) == "parts"
    assert judgement.unit_of(["part:1", "part:1"]) == "pictures"
