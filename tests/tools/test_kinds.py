"""Thin kinds of reject: which are learnt as one class, and that every verb then takes the folders as they lie."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__, data
from fcam_tools.common import run_folder
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, Picture, kinds
from fcam_tools.judge import suspect
from fcam_tools.measure import judgement
from fcam_tools.model import network, weights
from fcam_tools.ship import adapt
from fcam_tools.train import train
from fcam_tools.train.labels import label_array
from PIL import Image
from trees import picture

SIDE = 64
QUICK = ["--size", SIDE, "--window", 32, "--windows", 12, "--pictures", 8, "--outline-steps", 60, "--label-steps", 60]
QUICK += ["--precision", "fp32"]
NO_LEARNING = ["--size", 32, "--window", 16, "--windows", 2, "--pictures", 2, "--outline-steps", 1, "--label-steps", 1]
NO_LEARNING += ["--precision", "fp32", "--no-pretrained", "--accept-unproven"]
MARKS = {"scratch": (3, 30), "dent": (14, 14), "chip": (20, 8)}  # height and width


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def run(*command: object) -> int:
    return __main__.main([str(part) for part in command])


def dataset(counts: Mapping[str, int], ok: str = "ok") -> Dataset:
    """So many training pictures of each kind of reject, and a good one."""
    names = (ok, *counts)
    pictures = [Picture(Path("good"), 0)]
    pictures += [Picture(Path(f"{name}{i}"), names.index(name)) for name in counts for i in range(counts[name])]
    return Dataset("set", Path("set"), names, {"train": tuple(pictures), "val": (), "test": ()})


def product(root: Path, **counts: tuple[int, int, int]) -> Path:
    """Noise, with a bright mark of each kind's shape; of each folder so many in train, val and test."""
    rng = np.random.default_rng(11)
    for name, several in counts.items():
        for split, count in zip(data.SPLITS, several, strict=True):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.normal(110, 6, (SIDE, SIDE, 3))
                if name != "ok":
                    height, width = MARKS[name]
                    top, left = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
                    pixels[top : top + height, left : left + width] += 90
                pixels = np.clip(pixels, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index:03}.png")
    return root


# Which kinds are joined.


@pytest.mark.parametrize(
    ("counts", "how", "joined", "classes"),
    [
        ({"dent": 14, "scratch": 9}, "auto", ("dent", "scratch"), ("ok", "defect")),
        ({"dent": 14, "scratch": 9}, "all", (), ("ok", "dent", "scratch")),
        ({"dent": 14, "scratch": 9, "stain": 40}, "auto", ("dent", "scratch"), ("ok", "defect", "stain")),
        ({"dent": 14, "stain": 40}, "auto", (), ("ok", "dent", "stain")),
        ({"dent": 39, "scratch": 39}, "auto", ("dent", "scratch"), ("ok", "defect")),
        ({"dent": 40, "scratch": 40}, "auto", (), ("ok", "dent", "scratch")),
        ({"dent": 40, "scratch": 40}, "one", ("dent", "scratch"), ("ok", "defect")),
        ({"defect": 60, "dent": 3}, "auto", ("defect", "dent"), ("ok", "defect")),
        ({"Defect": 3, "dent": 3}, "auto", ("Defect", "dent"), ("ok", "Defect")),
        ({"defect": 3, "dent": 60}, "auto", (), ("ok", "defect", "dent")),
        ({"ng": 5}, "auto", (), ("ok", "ng")),
        ({"ng": 5}, "one", (), ("ok", "ng")),
    ],
)
def test_kinds_with_few_pictures_are_one_class(
    counts: dict[str, int], how: str, joined: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    found = dataset(counts)
    assert kinds.joined(found, how) == joined
    assert kinds.classes_of(found.classes, joined) == classes


def test_it_is_said_which_and_how_to_have_it_otherwise() -> None:
    found = Dataset(**vars(dataset({"dent": 14, "scratch": 9, "stain": 50})) | {"joined": ("dent", "scratch")})
    told = kinds.told(found)
    assert told.startswith("learnt as one class, `defect`: dent (14), scratch (9); ")
    assert "40 training pictures" in told and "--kinds all" in told and "stain" not in told


def test_labels_are_those_of_the_network() -> None:
    whole = dataset({"dent": 2, "scratch": 1, "stain": 1})
    several = Picture(Path("several"), 1, (1, 2)), Picture(Path("others"), 2, (2, 3))
    splits = {"train": (*whole.splits["train"], *several), "val": (), "test": ()}
    found = kinds.seen(Dataset("set", Path("set"), whole.classes, splits, joined=("dent", "scratch")))
    assert found.classes == ("ok", "defect", "stain")
    assert [p.label for p in found.splits["train"]] == [0, 1, 1, 1, 2, 1, 1]
    assert [p.labels for p in found.splits["train"]][-2:] == [(1,), (1, 2)]
    assert label_array([p.labels for p in found.splits["train"]], 3)[-1].tolist() == [0, 1, 1]
    assert kinds.seen(whole) == whole, "nothing is joined: nothing changes"


def test_pictures_of_several_kinds_count_for_each() -> None:
    pictures = [Picture(Path("good"), 0), *(Picture(Path(f"{i}"), 1, (1, 2)) for i in range(40))]
    found = Dataset("set", Path("set"), ("ok", "dent", "scratch"), {"train": tuple(pictures), "val": (), "test": ()})
    assert kinds.joined(found, "auto") == ()


def test_names_with_commas_survive_the_manifest() -> None:
    joined = ("dent, deep", "scratch ")
    assert kinds.joined_in(kinds.written(joined)) == joined
    assert kinds.joined_in(kinds.written(())) == () == kinds.joined_in({"tool": "of before"})


def test_verdicts_are_judged_by_the_joined_folders() -> None:
    joined = kinds.written(("dent", "scratch"))
    assert judgement.knows(("ok", "defect"), joined, ("ok", "dent", "scratch"))
    assert judgement.knows(("ok", "defect"), joined, ("ok", "scratch")), "no dent came this week"
    assert judgement.knows(("ok", "defect"), joined, ("ok", "defect"))
    assert not judgement.knows(("ok", "defect"), joined, ("ok", "dent", "crack"))
    assert not judgement.knows(("ok", "defect"), {}, ("ok", "dent", "scratch"))
    assert judgement.knows(("ok", "dent"), {}, ("ok", "dent")), "a bundle of before"
    with pytest.raises(ToolError, match=r"net.pt knows ok, defect \(defect: dent, scratch\); the data has ok, crack"):
        judgement.refuse_unknown("net.pt", ("ok", "defect"), joined, ("ok", "crack"))


def test_new_pictures_lie_in_the_folders_that_were_joined(tmp_path: Path) -> None:
    for name, count in (("ok", 12), ("Scratch", 4), ("defect", 4), ("stain", 4)):
        for index in range(count):
            picture(tmp_path / name / f"{index}.png")
    classes, joined = ("ok", "defect", "stain"), ("dent", "scratch")
    found = adapt.new_pictures(tmp_path, classes, "ok", joined=joined)
    labels = {p.path.parent.name: p.label for p in found}
    assert labels == {"ok": 0, "Scratch": 1, "defect": 1, "stain": 2}
    picture(tmp_path / "crack" / "0.png")
    with pytest.raises(ToolError, match=r"folder crack, the bundle knows ok, defect, stain \(defect: dent, scratch\)"):
        adapt.new_pictures(tmp_path, classes, "ok", joined=joined)


# Refusals.


def test_another_word_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("train", tmp_path, "--kinds", "some")
    assert stop.value.code == 2 and "'auto', 'all', 'one'" in capsys.readouterr().err


def test_things_have_nothing_but_kinds(tmp_path: Path) -> None:
    found = Dataset("set", tmp_path, ("ok", "cat"), {"train": (Picture(Path("a"), 1),), "val": (), "test": ()})
    assert kinds.joined(found, "all") == ()
    for how in ("auto", "one"):
        with pytest.raises(ToolError, match="no good pictures, so that its classes are all there is to learn"):
            kinds.joined(found, how)


# The whole way.


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three thin kinds, a checkpoint and a bundle."""
    if importlib.util.find_spec(weights.PACKAGED_WEIGHTS[network.DEFAULT_BACKBONE][0]) is None:
        pytest.skip("no packaged weights: install tools/requirements.lock")
    root = tmp_path_factory.mktemp("thin")
    product(root / "set", ok=(30, 12, 12), scratch=(8, 4, 4), dent=(8, 4, 4), chip=(8, 4, 4))
    assert run("train", root / "set", "--out", root / "net.pt", *QUICK) == 0
    assert run("evaluate", root / "net.pt", "--data", root / "set", "--record", "--only", "decoder") == 0
    few = ["--golden", 4, "--calibration", 24, "--sample-count", 4, "--method", "entropy"]
    assert run("export", root / "net.pt", root / "bundle", "--data", root / "set", *few) == 0
    return root


def test_checkpoint_and_manifest_say_what_was_joined(thin: Path) -> None:
    saved = torch.load(thin / "net.pt", weights_only=True)
    manifest = tomllib.loads((thin / "bundle" / "manifest.toml").read_text())
    assert saved["classes"] == ["ok", "defect"] == [entry["name"] for entry in manifest["classes"]]
    for provenance in (saved["provenance"], manifest["provenance"]):
        assert kinds.joined_in(provenance) == ("chip", "dent", "scratch")
        assert provenance["dataset_sha256"] == data.load(str(thin / "set")).fingerprint(), "of the folders"
    assert {golden["verdict"] for golden in manifest["golden"]} == {"pass", "reject"}


def test_evaluation_names_the_kinds_that_escape(thin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", thin / "net.pt", "--data", thin / "set", "--only", "decoder", "--bundle", thin / "bundle"]
    assert run(*asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("decoder", "int8"):
        found = told["kinds"][name]
        assert {kind: row["defective"] for kind, row in found.items()} == {"chip": 4, "dent": 4, "scratch": 4}
        assert sum(row["rejected"] for row in found.values()) == told["held_out"][name]["defective_rejected"] > 0
    assert run(*asked) == 0
    missed = {kind: row["defective"] - row["rejected"] for kind, row in told["kinds"]["int8"].items()}
    line = f"int8, escapes by kind: chip {missed['chip']} of 4, dent {missed['dent']} of 4, scratch {missed['scratch']}"
    assert line in capsys.readouterr().out


def test_engines_and_camera_agree(thin: Path, fcam: Path) -> None:
    assert run("verify", thin / "bundle", "--checkpoint", thin / "net.pt", "--fcam", fcam) == 0


def test_other_verbs_take_the_folders(thin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", thin / "net.pt", thin / "bundle", thin / "set", "--sheet", tmp_path / "x.png") == 0
    capsys.readouterr()
    assert run("inspect", thin / "set", "--checkpoint", thin / "net.pt", "--json") in (0, 1)
    assert json.loads(capsys.readouterr().out)["classes"] == ["ok", "chip", "dent", "scratch"]


def test_a_suspect_good_picture_is_guessed_a_defect(thin: Path) -> None:
    """The network has two classes, the folders four: a guess can be no kind."""
    found = data.load(str(thin / "set"))
    wrong = [Picture(p.path, 0) for p in found.splits["train"] if p.label == 2]
    told = suspect.suspects(found, [*found.splits["train"][:4], *wrong], thin / "net.pt", progress=False)
    assert told and {one.guess for one in told} == {"defect"} and {one.label for one in told} == {"ok"}


def test_a_kind_that_was_not_learnt_is_refused(thin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(thin / "set", tmp_path / "set")
    for split in data.SPLITS:
        (tmp_path / "set" / split / "dent").rename(tmp_path / "set" / split / "crack")
    for verb in (["evaluate", thin / "net.pt"], ["export", thin / "net.pt", tmp_path / "bundle"]):
        assert run(*verb, "--data", tmp_path / "set") == 2
        said = capsys.readouterr().err
        assert "crack" in said and "defect (defect: chip, dent, scratch)" in said


def test_a_new_site_is_told_which_folders_are_known(
    thin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dent", "other"):
        picture(tmp_path / "site" / name / "0.png")
    assert run("adapt", thin / "bundle", tmp_path / "site", "--checkpoint", thin / "net.pt") == 2
    assert "a folder other, the bundle knows ok, defect (defect: chip, dent, scratch)" in capsys.readouterr().err


def test_training_goes_on_with_the_same_classes(
    thin: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a bundle and from a checkpoint, where each kind has become thick enough for a class of its own."""
    monkeypatch.setattr(kinds, "ENOUGH", 8)
    asked = [*QUICK, "--outline-steps", 1, "--label-steps", 1, "--accept-unproven"]
    for start in (thin / "net.pt", thin / "bundle"):
        out = tmp_path / start.name / "next.pt"
        assert run("train", thin / "set", "--out", out, "--start", start, *asked) == 0
        assert torch.load(out, weights_only=True)["classes"] == ["ok", "defect"]
    assert "learnt as one class, `defect`: chip (8), dent (8), scratch (8)" in caplog.text


# With and without it.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    return product(root / "set", ok=(12, 5, 5), scratch=(4, 3, 3), dent=(4, 3, 3), chip=(kinds.ENOUGH, 5, 5))


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        ([], ["ok", "chip", "defect"]),
        (["--kinds", "auto"], ["ok", "chip", "defect"]),
        (["--kinds", "all"], ["ok", "chip", "dent", "scratch"]),
        (["--kinds", "one"], ["ok", "defect"]),
    ],
)
def test_thick_kinds_stay(mixed: Path, tmp_path: Path, words: list[str], classes: list[str]) -> None:
    out = tmp_path / "net.pt"
    assert run("train", mixed, "--out", out, *NO_LEARNING, *words) == 0
    saved = torch.load(out, weights_only=True)
    assert saved["classes"] == classes and saved["settings"]["classes"] == len(classes)
    assert ("joined" in saved["provenance"]) == ("defect" in classes)
    assert run("evaluate", out, "--data", mixed, "--only", "decoder") == 0


@pytest.mark.parametrize("recipe", ["inspection", "pasted"])
def test_other_recipes_keep_all_kinds(mixed: Path, tmp_path: Path, recipe: str) -> None:
    epochs = ["--epochs", 1, "--decoder-epochs", 0, "--size", 32, "--window", 16, "--precision", "fp32"]
    words = ["--recipe", recipe, *epochs, "--no-pretrained", "--accept-unproven"]
    assert run("train", mixed, "--out", tmp_path / "net.pt", *words) == 0
    saved = torch.load(tmp_path / "net.pt", weights_only=True)
    assert saved["classes"] == ["ok", "chip", "dent", "scratch"] and "joined" not in saved["provenance"]


def test_a_resumed_run_keeps_what_was_joined(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.pt"
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run("train", mixed, "--out", out, *NO_LEARNING, "--kinds", "one") == 130
    assert run_folder.Run(run_folder.beside(out)).config["joined"] == ["chip", "dent", "scratch"]
    assert run("train", "--resume", run_folder.beside(out), "--accept-unproven") == 0
    assert torch.load(out, weights_only=True)["classes"] == ["ok", "defect"]
