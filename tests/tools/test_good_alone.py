"""Good pictures alone: what is made up to judge by, what every verb says of it, and that a bundle comes of it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__, data
from fcam_tools.common.errors import ToolError
from fcam_tools.data import made_up
from fcam_tools.data.made_up import good_threshold
from fcam_tools.data.reading import read_picture
from fcam_tools.judge.truth import truth_of
from fcam_tools.measure import judgement
from fcam_tools.model import network, weights
from fcam_tools.ship import redeploy
from PIL import Image

QUICK = ["--size", "96", "--window", "48", "--windows", "12", "--outline-steps", "200", "--precision", "fp32"]
SIDE = 96


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's own is left alone."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield made_up.folder()


def surface(rng: np.random.Generator) -> np.ndarray:
    return np.clip(rng.normal(120, 4, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def good(folder: Path, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(surface(rng)).save(folder / f"{index:03}.png")


def run(*command: object) -> int:
    return __main__.main([str(part) for part in command])


@pytest.fixture
def few(tmp_path: Path) -> Path:
    good(tmp_path / "few" / "ok", 20)
    return tmp_path / "few"


# What is loaded.


@pytest.mark.parametrize("folder", ["ok", "good", "train/good"])
def test_good_pictures_alone_are_split_and_get_defects_where_held_out(folder: str, tmp_path: Path) -> None:
    good(tmp_path / folder, 40)
    dataset = made_up.load(str(tmp_path))
    assert dataset.good_alone and dataset.classes == (Path(folder).name, "defect")
    counts = dataset.counts()
    assert counts["train"]["defect"] == 0 and sum(split[dataset.ok] for split in counts.values()) == 40
    for split in ("val", "test"):
        assert counts[split]["defect"] == counts[split][dataset.ok] > 0


def test_made_up_defects_are_seen_marked_and_small(few: Path) -> None:
    dataset = made_up.load(str(few))
    for split in ("val", "test"):
        truth = truth_of(dataset, split, (SIDE, SIDE))
        half = len(truth.pictures) // 2
        for plain, spoilt in zip(truth.pictures[:half], truth.pictures[half:], strict=True):
            before, after = (read_picture(p.path, (SIDE, SIDE)).astype(float) for p in (plain, spoilt))
            mask, step = truth.mask(spoilt), np.abs(after - before).mean(axis=2)
            assert mask is not None and 0 < mask.mean() <= made_up.LARGEST
            assert step[mask].max() >= 9 and step[mask].mean() > 4 * step[~mask].mean()


def test_they_are_a_function_of_the_picture_alone(few: Path, cache: Path, tmp_path: Path) -> None:
    first = made_up.load(str(few))
    spoilt = {p.path: p.path.read_bytes() for split in ("val", "test") for p in first.splits[split] if p.label}
    shutil.rmtree(cache)
    again = made_up.load(str(few))
    assert all(path.read_bytes() == content for path, content in spoilt.items())
    assert first.fingerprint() == again.fingerprint() == data.load(str(few), good_alone=True).fingerprint()
    shutil.copytree(few, tmp_path / "moved")
    assert {p.path for p in made_up.load(str(tmp_path / "moved")).pictures() if p.label} == set(spoilt)


def test_a_grey_picture_stays_grey() -> None:
    grey = np.repeat(surface(np.random.default_rng(0))[..., :1], 3, axis=2)
    for key in range(8):
        drawn = made_up.draw(grey, bytes([key]))
        assert drawn is not None and drawn[0].ndim == 2 and drawn[1].any()


def test_pictures_on_which_nothing_shows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set" / "ok").mkdir(parents=True)
    for index in range(20):
        Image.new("RGB", (8, 8 + index)).save(tmp_path / "set" / "ok" / f"{index}.png")
    assert run("train", tmp_path / "set", "--out", tmp_path / "net.pt") == 2
    assert "no made-up defect shows on" in capsys.readouterr().err


def test_a_folder_with_rejects_is_as_it_was(few: Path) -> None:
    good(few / "ng", 20, seed=1)
    dataset = made_up.load(str(few))
    assert not dataset.good_alone and dataset.classes == ("ok", "ng")
    assert {p.path.parent for p in dataset.pictures()} == {few / "ok", few / "ng"}


@pytest.mark.parametrize(("count", "told"), [(0, "remove the empty folder"), (2, "keep them elsewhere")])
def test_too_few_rejects_are_told_the_way_out(
    count: int, told: str, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good(few / "ng", count)
    assert run("train", few, "--out", few.parent / "net.pt") == 2
    said = capsys.readouterr().err
    assert told in said and "good pictures alone can be trained" in said


# The threshold.


def expit(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def test_many_good_pictures_are_counted() -> None:
    scores = expit(np.linspace(-4, 2, 999))  # (999 + 1) x 0.01: ten of them may reach it
    threshold = good_threshold(scores, 0.01)
    assert (scores >= threshold).sum() == 9, "the tenth does not reach it: a new picture does with 10 / 1000"


@pytest.mark.parametrize("count", [10, 20, 50])
def test_few_good_pictures_get_a_margin_that_keeps_the_promise(count: int) -> None:
    """Log-odds that fall exponentially: new pictures reach it about as rarely as was asked for."""
    rng = np.random.default_rng(count)
    rates = []
    for _ in range(2000):
        odds = rng.exponential(0.5, count) - 2
        threshold = good_threshold(expit(odds), 0.01)
        rates.append(float(np.exp(-2 * (np.log(threshold / (1 - threshold)) + 2))))  # of new pictures that reach it
        assert threshold > expit(odds).max()
    assert 0.001 < np.median(rates) <= 0.013
    assert np.mean(rates) < 0.03


def test_the_margin_by_hand() -> None:
    odds = np.array([0.0, 1.0, 2.0, 3.0])  # median 1.5, mean of the upper half 2.5: spread 1
    wanted = expit(np.array(3.0 + np.log(1 / (5 * 0.01))))
    assert good_threshold(expit(odds), 0.01) == pytest.approx(float(wanted), rel=1e-5)
    assert good_threshold(np.array([]), 0.01) == 0.5
    assert good_threshold(np.full(8, 1e-7), 0.01) == 0.1, "golden pictures lie 0.05 from it, on both sides"


# What is said.


def test_figures_say_that_defects_are_made_up() -> None:
    found = judgement.Figures("test", 15, 15, 0, 12, 0.5, 0.95, made_up=True)
    assert judgement.sentence(found).startswith(
        "of 15 pictures with made-up defects 12 are rejected, of 15 good ones 0"
    )
    assert "15 of them with made-up defects" in judgement.quality(found)
    manifest = {"metrics": found.metrics(), "provenance": found.provenance(), "thresholds": {"score": 0.5}}
    assert manifest["provenance"]["defects"] == "made up: no real one was seen"
    assert judgement.figures_in(manifest) == found
    (told,) = judgement.causes(
        judgement.Figures("val", 2, 2, 0, 2, 0.5, 1.0, made_up=True), judgement.Setting(8, 0, 0.15)
    )
    assert told == "good pictures are too few: add about 20 more, of which about 3 will be held out"


def test_a_threshold_above_everything_names_the_way_out() -> None:
    found = judgement.Figures("test", 17, 17, 0, 0, 0.97, 0.92, made_up=True)
    told = judgement.told(found, judgement.Setting(109, 0, 0.15, made_up=True), "PICTURES")
    assert told.startswith("everything passes: none of 17 pictures with made-up defects is rejected")
    assert "--false-reject 0.1" in told and "prices" not in told


@pytest.mark.parametrize("recipe", ["inspection", "pasted", "joint", "negev"])
def test_recipes_that_need_rejects_say_so(recipe: str, few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", few, "--out", few.parent / "net.pt", "--recipe", recipe) == 2
    said = capsys.readouterr().err
    assert f"the recipe {recipe} learns its classifier from rejects" in said and "`native`" in said


def test_there_is_nothing_to_learn_without_made_up_defects(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", few, "--out", few.parent / "net.pt", "--outline-steps", 0) == 2
    assert "give --outline-steps and --paste" in capsys.readouterr().err


def test_pilot_refuses(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pilot", few, "--out", few.parent / "pilot.html") == 2
    assert "good pictures alone will do for inspect, train" in capsys.readouterr().err


def test_inspect_takes_them(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", few, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert any("nothing can be said of what escapes" in one["text"] for one in told["verdicts"])
    assert run("inspect", few, "--sheet", few.parent / "sheet.png") == 2


# The whole way.


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Pictures, checkpoint and bundle."""
    if importlib.util.find_spec(weights.PACKAGED_WEIGHTS[network.DEFAULT_BACKBONE][0]) is None:
        pytest.skip("no packaged weights: install tools/requirements.lock")
    root = tmp_path_factory.mktemp("chain")
    good(root / "set" / "ok", 80)
    assert run("train", root / "set", "--out", root / "net.pt", *QUICK) == 0
    assert run("evaluate", root / "net.pt", "--data", root / "set", "--record", "--only", "decoder") == 0
    few = ["--golden", 4, "--calibration", 24, "--sample-count", 4, "--method", "entropy"]
    assert run("export", root / "net.pt", root / "bundle", "--data", root / "set", *few) == 0
    return root


def test_only_outlines_are_learnt(chain: Path) -> None:
    saved = torch.load(chain / "net.pt", weights_only=True)
    assert {entry["stage"] for entry in saved["history"]} == {"outlines"}
    assert saved["classes"] == ["ok", "defect"] and saved["provenance"]["defects"] == judgement.MADE_UP
    assert saved["recipe"]["false_reject"] == 0.05


def test_manifest_says_made_up_and_the_proof_has_both_verdicts(chain: Path) -> None:
    manifest = tomllib.loads((chain / "bundle" / "manifest.toml").read_text())
    assert manifest["provenance"]["defects"] == "made up: no real one was seen"
    assert "with made-up defects" in manifest["provenance"]["held_out"]
    assert {golden["verdict"] for golden in manifest["golden"]} == {"pass", "reject"}


def test_each_verb_ends_with_what_is_not_known(chain: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("evaluate", chain / "net.pt", "--data", chain / "set", "--only", "decoder") == 0
    said = capsys.readouterr().out
    assert "with made-up defects" in said.splitlines()[0] and said.strip().endswith(judgement.ALONE)
    assert run("compare", chain / "net.pt", chain / "bundle", chain / "set", "--sheet", tmp_path / "x.png") == 0
    assert judgement.ALONE in capsys.readouterr().out
    assert run("verify", chain / "bundle") == 0
    assert judgement.ALONE in "".join(capsys.readouterr())


def test_prices_are_refused(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["--escape-cost", 50, "--reject-cost", 1, "--ng-rate", 0.01]
    for verb in (["evaluate", chain / "net.pt"], ["export", chain / "net.pt", tmp_path / "bundle"]):
        assert run(*verb, "--data", chain / "set", *prices) == 2
        assert "no price can choose a threshold" in capsys.readouterr().err


def test_redeploy_says_what_its_gates_stand_on(chain: Path, caplog: pytest.LogCaptureFixture) -> None:
    args = argparse.Namespace(pictures=str(chain / "set"), accept_unproven=False, least_auroc=0.5, most_escapes=0.9)
    redeploy.refuse_unproven(chain / "bundle", args)
    assert judgement.ALONE in caplog.text
    args.most_escapes = 0.001
    with pytest.raises(ToolError, match=r"nothing was signed: the escape rate .* pictures with made-up defects pass"):
        redeploy.refuse_unproven(chain / "bundle", args)


def test_it_is_judged_by_real_rejects_when_they_come(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(chain / "set", tmp_path / "later")
    good(tmp_path / "later" / "scratch", 12, seed=7)
    assert run("evaluate", chain / "net.pt", "--data", tmp_path / "later", "--only", "decoder") == 0
    said = capsys.readouterr().out
    assert "defective parts" in said and judgement.ALONE not in said


def test_camera_takes_the_bundle_and_rejects_what_is_plainly_spoilt(chain: Path, tmp_path: Path, fcam: Path) -> None:
    assert run("verify", chain / "bundle", "--checkpoint", chain / "net.pt", "--fcam", fcam) == 0
    subprocess.run([fcam, "check", chain / "bundle"], check=True, capture_output=True)
    good(tmp_path / "new", 1, seed=99)
    pixels = np.array(Image.open(tmp_path / "new" / "000.png"))
    pixels[20:34, 20:38] = 235
    Image.fromarray(pixels).save(tmp_path / "new" / "spoilt.png")
    command = [fcam, "replay", "--bundle", chain / "bundle", tmp_path / "new"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    verdicts = {Path(row["picture"]).stem: row["verdict"] for row in map(json.loads, out.splitlines())}
    assert verdicts == {"000": "pass", "spoilt": "reject"}
