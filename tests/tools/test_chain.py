"""The whole chain by the command line: pictures, training, evaluation, bundle, proof, and the camera's own answers."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__, data
from fcam_tools.common.errors import ToolError
from fcam_tools.export import verify
from fcam_tools.judge import compare, evaluate
from fcam_tools.model import network, weights
from fcam_tools.ship import adapt
from PIL import Image

SEEN = ["--surfaces", "plastic", "brushed", "--defects", "dent", "stain"]
# Large defects on small pictures, a high learning rate, and a threshold amid the scores: clear verdicts of both kinds
# after a few epochs (image AUROC 0.87 to 0.95 over four seeds).
QUICK = [
    "--recipe",
    "inspection",
    "--size",
    "96",
    "--batch",
    "8",
    "--epochs",
    "5",
    "--decoder-epochs",
    "2",
    "--lr",
    "4e-3",
]
QUICK += ["--precision", "fp32"]  # the same on every machine, and faster at this size
Row = dict[str, float | None]


def run(*command: object) -> int:
    return __main__.main([str(part) for part in command])


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures, the checkpoint and the bundle."""
    if importlib.util.find_spec(weights.PACKAGED_WEIGHTS[network.DEFAULT_BACKBONE][0]) is None:
        pytest.skip("no packaged weights: install tools/requirements.lock")
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("chain")
    pictures, net = root / "pictures", root / "net.pt"
    counts = ["--train", 200, "--val", 40, "--test", 40]
    assert run("synth", pictures, "--seed", 1, "--size", 128, *counts, *SEEN, "--workers", 1) == 0
    assert run("train", pictures, "--out", net, *QUICK, "--false-reject", 0.3) == 0
    assert run("evaluate", net, "--data", pictures, "--record") == 0
    few = ["--golden", 4, "--calibration", 24, "--sample-count", 4]
    assert run("export", net, root / "bundle", "--data", pictures, *few, "--method", "entropy", "--json") == 0
    return root


def rows(chain: Path, capsys: pytest.CaptureFixture[str], *more: object) -> dict[str, Row]:
    capsys.readouterr()
    assert run("evaluate", chain / "net.pt", "--data", chain / "pictures", "--json", *more) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_classifier_learns_and_its_metrics_reach_the_bundle(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(chain, capsys, "--oracle", "--bundle", chain / "bundle")
    assert list(found) == ["decoder", "cam", "int8", "epoch 1", "epoch 2"]
    learnt = found["decoder"]["image_auroc"]
    assert learnt is not None and learnt > 0.7
    assert found["cam"]["image_auroc"] == learnt  # one classifier
    assert found["int8"]["image_auroc"] == pytest.approx(learnt, abs=0.1)
    assert all(set(evaluate.SHOWN) <= set(row) for row in found.values())
    recorded = tomllib.loads((chain / "bundle" / "manifest.toml").read_text())["metrics"]
    # What the map is worth was measured on the float network; what the camera does, on the network that it gets.
    shipped = {
        name: found["int8"][name] for name in ("image_auroc", "shipped_escape_rate", "shipped_false_reject_rate")
    }
    assert shipped == {name: pytest.approx(recorded[name]) for name in shipped}
    rest = {name for name in recorded if name in evaluate.SHOWN} - shipped.keys()
    assert {name: recorded[name] for name in rest} == {name: pytest.approx(found["decoder"][name]) for name in rest}
    assert {"pxap", "aupro_030"} <= rest
    assert (recorded["held_out_good"], recorded["held_out_defective"]) == (20, 20)
    assert recorded["image_auroc_low"] < recorded["image_auroc"] < recorded["image_auroc_high"]


def test_evaluation_begins_with_what_the_networks_do(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    asked = ["evaluate", chain / "net.pt", "--data", chain / "pictures", "--only", "decoder", "--bundle"]
    assert run(*asked, chain / "bundle", "--limit", 20) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    for name, (first, second) in (("decoder", lines[:2]), ("int8", lines[2:4])):
        assert re.match(
            rf"{name}: of 10 defective parts \d+ (is|are) rejected, of 10 good ones \d \(test split, at", first
        )
        assert re.match(r"image AUROC 0\.\d+ \(95 % interval .*\) on 20 pictures, 10 of them defective; PxAP ", second)
        assert second.endswith("on 20 pictures, 10 of them with a mask of the defect")


def test_prices_choose_the_thresholds_that_ship(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--golden", 2, "--calibration", 16, "--sample-count", 2, "--method", "entropy", "--json"]
    prices = ["--escape-cost", 3, "--reject-cost", 1, "--ng-rate", 0.3]
    few += ["--accept-unproven"]  # scales of so few pictures move the map
    shutil.copy(chain / "net.pt", tmp_path / "net.pt")  # outside its run folder, which keeps the other bundle
    assert run("export", tmp_path / "net.pt", tmp_path / "priced", "--data", chain / "pictures", *few, *prices) == 0
    shipped = tomllib.loads((tmp_path / "priced" / "manifest.toml").read_text())
    plain = tomllib.loads((chain / "bundle" / "manifest.toml").read_text())
    assert shipped["thresholds"]["score"] != plain["thresholds"]["score"]
    assert shipped["provenance"]["operating_point"].startswith("escape 3, reject 1, ng rate 0.3: threshold")
    capsys.readouterr()
    asked = [
        "evaluate",
        chain / "net.pt",
        "--data",
        chain / "pictures",
        "--only",
        "--bundle",
        tmp_path / "priced",
        *prices,
    ]
    assert run(*asked, "--json") == 0
    point = json.loads(capsys.readouterr().out)["operating_points"]["int8"]
    assert point["score"]["threshold"] == pytest.approx(shipped["thresholds"]["score"], abs=0.02)
    assert point["here"]["cost"] == pytest.approx(
        0.3 * 3 * point["here"]["escape_rate"] + 0.7 * point["here"]["false_reject_rate"]
    )
    assert run(*asked, "--masks") == 0
    assert "every region alike" in capsys.readouterr().out


def test_run_folder_gets_metrics_and_bundle(chain: Path) -> None:
    folder = chain / "net.run"
    assert (folder / "bundle" / "manifest.toml").read_text() == (chain / "bundle" / "manifest.toml").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["image_auroc"] > 0.7 and metrics["test"]["pxap"] > 0


def test_proof_holds_verdicts_of_both_kinds(chain: Path) -> None:
    manifest = tomllib.loads((chain / "bundle" / "manifest.toml").read_text())
    assert {golden["verdict"] for golden in manifest["golden"]} == {"pass", "reject"}
    assert [entry["name"] for entry in manifest["classes"]] == ["good", "dent", "stain"]
    assert manifest["input"] == {"width": 96, "height": 96, "resize": "bilinear"}
    assert manifest["provenance"]["dataset_sha256"] == data.load(str(chain / "pictures")).fingerprint()


def test_bundle_is_verified(chain: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "find_fcam", lambda: None)
    assert run("verify", chain / "bundle", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"].keys() == {"pytorch", "fcam"}
    # A net of a few epochs is unsure of many pixels: int8 may move its maps by more than the tolerance, its scores not.
    proven, asked = verify.verify(chain / "bundle", checkpoint=chain / "net.pt"), {}
    for row in proven.rows:
        asked.setdefault(row.backend, []).append(row.score)
    assert asked.keys() == {"onnxruntime", "onnxruntime optimised", "pytorch"}
    assert asked["pytorch"] == pytest.approx(asked["onnxruntime"], abs=0.15)


def test_camera_agrees_with_the_proof_and_with_onnxruntime(
    chain: Path, fcam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", chain / "bundle", "--fcam", fcam, "--json") == 0
    assert "fcam" in {row["backend"] for row in json.loads(capsys.readouterr().out)["rows"]}
    command = [fcam, "replay", "--bundle", chain / "bundle", "--maps", tmp_path, chain / "pictures" / "test"]
    replayed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = tmp_path / "lines.jsonl"
    lines.write_text(replayed.stdout)
    found = rows(chain, capsys, "--only", "--bundle", chain / "bundle", "--lines", lines, "--maps", tmp_path)
    assert list(found) == ["int8", "camera"]
    assert found["camera"]["image_auroc"] == pytest.approx(found["int8"]["image_auroc"], abs=0.03)
    assert found["camera"]["pixel_auroc"] == pytest.approx(found["int8"]["pixel_auroc"], abs=0.03)


def test_interrupted_training_goes_on_from_the_classifier(chain: Path, tmp_path: Path) -> None:
    start, again = chain / "net.classifier.pt", tmp_path / "again.pt"
    went_on = ["--epochs", 0, "--decoder-epochs", 1, "--false-reject", 0.3]
    assert run("train", chain / "pictures", "--out", again, *QUICK, "--start", start, *went_on) == 0
    first, second = (torch.load(path, weights_only=True) for path in (chain / "net.pt", again))
    assert second["thresholds"] == first["thresholds"]
    classifier = [name for name in first["state_dict"] if not name.startswith("decoder.")]
    assert all(torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in classifier)


def test_a_bundle_can_learn_again(chain: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pt"
    pasted = ["--recipe", "pasted", "--window", 48, "--epochs", 0, "--decoder-epochs", 1, "--false-reject", 0.3]
    assert run("train", chain / "pictures", "--out", again, *QUICK, "--start", chain / "bundle", *pasted) == 0
    first, second = (torch.load(path, weights_only=True) for path in (chain / "net.pt", again))
    # The bundle's biases took back what rounding its weights would have shifted: near, not equal.
    assert second["thresholds"]["score"] == pytest.approx(first["thresholds"]["score"], abs=0.1)
    assert second["training"]["val_auroc"] == pytest.approx(first["training"]["val_auroc"], abs=0.05)
    assert second["training"]["val_weak_loss"] > 0


def test_foreign_pictures_are_refused(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ok", "ng"):
        (tmp_path / name).mkdir()
        for index in range(40):
            Image.new("RGB", (8, 8), (index, len(name) * ord(name[0]), 0)).save(tmp_path / name / f"{index}.png")
    assert run("evaluate", chain / "net.pt", "--data", tmp_path) == 2
    assert "the data has" in capsys.readouterr().err
    assert run("export", chain / "net.pt", tmp_path / "bundle", "--data", tmp_path) == 2
    assert "give --data the set that it was trained on" in capsys.readouterr().err
    assert run("train", tmp_path, "--out", tmp_path / "net.onnx") == 2
    assert ".pt" in capsys.readouterr().err


# A new site.


@pytest.fixture(scope="module")
def site(chain: Path) -> Path:
    """Good pictures alone, under a warmer lamp."""
    folder = chain / "site"
    folder.mkdir()
    for path in sorted((chain / "pictures" / "train" / "good").iterdir())[:100]:
        pixels = np.asarray(Image.open(path).convert("RGB")) * np.array([1.35, 1.0, 0.6])
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{path.stem}.png")
    return folder


def test_bundle_is_adapted_with_good_pictures_alone(
    chain: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = chain / "net.run" / "bundle"
    assert run("adapt", bundle, site, "--out", tmp_path / "new", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    chosen = told[told["chosen"]]
    assert chosen["false_reject_rate"] < told["old"]["false_reject_rate"] and chosen["escape_rate"] is None
    old = adapt.open_old(bundle, None)
    new = compare.open_network(tmp_path / "new" / "bundle")
    for golden in old.golden:  # the old site's verdicts, by the new bundle's own network
        score, _ = new.source(bundle / golden.picture)
        assert ("reject" if score >= new.thresholds["score"] else "pass") == golden.verdict
    assert new.thresholds["score"] == old.threshold
    manifest = tomllib.loads((tmp_path / "new" / "bundle" / "manifest.toml").read_text())
    assert manifest["version"] == "1.0.1" and manifest["provenance"]["adapted_by"] == told["chosen"]
    verified = verify.verify(tmp_path / "new" / "bundle")
    assert {row.verdict for row in verified.rows} == {"pass", "reject"}


def test_adaptation_that_loses_something_is_refused(
    chain: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--lr", 1.0, "--share", 1.0, "--epochs", 1]
    assert run("adapt", chain / "bundle", site, "--checkpoint", chain / "net.pt", "--out", tmp_path / "new", *wild) == 2
    assert "nothing is better than the old bundle" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_adaptation_needs_the_bundle_s_own_checkpoint(
    chain: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("adapt", chain / "bundle", site) == 2
    assert "give --checkpoint" in capsys.readouterr().err
    other = torch.load(chain / "net.pt", weights_only=True)
    other["state_dict"]["classifier.fc.weight"] *= -1
    torch.save(other, tmp_path / "other.pt")
    assert run("adapt", chain / "bundle", site, "--checkpoint", tmp_path / "other.pt") == 2
    assert "is not the network of" in capsys.readouterr().err


def test_new_pictures_are_known_by_their_folders(site: Path, tmp_path: Path) -> None:
    classes = ("dent", "good", "stain")
    assert {p.label for p in adapt.new_pictures(site, classes, "good")} == {1}
    for name in ("ok", "stain"):
        (tmp_path / name).mkdir()
        for path in sorted(site.iterdir())[:12]:
            (tmp_path / name / path.name).symlink_to(path)
    found = adapt.new_pictures(tmp_path, classes, "good")
    assert [sum(p.label == label for p in found) for label in range(3)] == [0, 12, 12]
    with pytest.raises(ToolError, match="folder stain, the bundle knows"):
        adapt.new_pictures(tmp_path, ("good", "dent"), "good")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ToolError, match="at least 20"):
        adapt.new_pictures(tmp_path / "empty", classes, "good")


def test_new_pictures_of_one_part_are_not_divided(site: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted(site.iterdir())[:60]):
        (tmp_path / f"part_{index // 3:04}_{index % 3}.png").symlink_to(path)
    learn, held = adapt.halves(adapt.new_pictures(tmp_path, ("good", "dent"), "good"))
    parts = [{picture.path.stem[:9] for picture in half} for half in (learn, held)]
    assert len(learn) + len(held) == 60 and len(parts[0]) + len(parts[1]) == 20
    assert parts[0] and parts[1] and not parts[0] & parts[1]


# Parts of the evaluation.


def test_limit_takes_pictures_evenly() -> None:
    pictures = [data.Picture(Path(str(index)), 0) for index in range(10)]
    assert [int(p.path.name) for p in evaluate.thinned(pictures, 4)] == [0, 2, 5, 7]
    assert evaluate.thinned(pictures, None) == evaluate.thinned(pictures, 99) == tuple(pictures)


def test_camera_must_have_seen_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "pictures" / "good" / "a.png"
    (tmp_path / "maps" / "good").mkdir(parents=True)
    other = picture.parents[1] / "bad" / "b.png"
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"picture": str(p), "score": 0.25}) + "\n" for p in (picture, other)))
    Image.fromarray(np.full((2, 3), 65535, np.uint16)).save(tmp_path / "maps" / "good" / "a.png")
    answer = evaluate.camera_source(lines, tmp_path / "maps")
    monkeypatch.chdir(tmp_path)
    score, found = answer(picture.relative_to(tmp_path))
    assert score == 0.25 and found.tolist() == [[1.0] * 3] * 2
    with pytest.raises(ToolError, match="replay the whole split"):
        answer(tmp_path / "pictures" / "good" / "c.png")
