"""New pictures to the cameras by one command: a real training, the real program that packs and signs, cameras that are
stand-ins (test_deploy.py)."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import tomli_w
from fcam_tools import __main__
from fcam_tools.common.errors import ToolError
from fcam_tools.export import verify
from fcam_tools.measure.judgement import Figures
from fcam_tools.ship import redeploy
from test_deploy import Fleet, camera, fleet  # noqa: F401 fixtures
from trees import squares

QUICK = "--recipe inspection --no-pretrained --size 32 --batch 8 --epochs 1 --decoder-epochs 1"
QUICK += " --frozen-stride 0 --precision fp32"
FEW = "--golden 2 --calibration 8 --sample-count 1 --method minmax"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("pictures"), train=16, val=8, test=8)


@pytest.fixture
def words(pictures: Path, tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> list[str]:  # noqa: F811
    """All but what a test is about; the key is new."""
    fcam = verify.find_fcam()
    if fcam is None:
        pytest.skip("no fcam: `cargo build`, or FCAM=/path/to/fcam")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    key = tmp_path / "shop.key"
    command = [fcam, "bundle", "keygen", "--no-password", "--secret", key, "--public", tmp_path / "shop.pub"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    deploy = " ".join(fleet.words)
    out = ["--name", "parts", "--key", str(key), "--out", str(tmp_path / "out"), f"--deploy={deploy}"]
    return ["redeploy", str(pictures), *out, f"--train={QUICK}", f"--export={FEW}"]


def test_from_pictures_to_cameras(
    words: list[str],
    fleet: Fleet,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Refused by training, accepted with a camera that fails, gone on with, and once more as another
    release: one training."""
    assert __main__.main([*words, "one", "two"]) == 2
    assert "train: learnt nothing" in (told := capfd.readouterr().err) and "perhaps" in told
    (folder,) = (tmp_path / "out").iterdir()
    trained = (folder / "net.run" / "run.json").stat().st_mtime_ns
    assert not list(folder.glob("*.fcam")) and set(fleet.calls("one")) == {"list"}

    fleet.behave("two", install="the card is full")
    words += ["--accept-unproven", "--least-auroc", "0", "--most-escapes", "1"]
    assert __main__.main([*words, "one", "two"]) == 1
    assert "the card is full" in capfd.readouterr().out
    file = folder / "parts-1.fcam"
    check = [str(verify.find_fcam()), "bundle", "verify", str(file), "--keys", str(tmp_path)]
    subprocess.run(check, check=True, stdout=subprocess.DEVNULL)
    signed = file.stat().st_mtime_ns

    fleet.behave("two")
    assert __main__.main([*words, "one", "two", "--json"]) == 0
    states = [row["state"] for row in json.loads(capfd.readouterr().out)["cameras"]]
    assert states == ["unchanged", "active"] and file.stat().st_mtime_ns == signed

    shutil.copytree(folder / "bundle", tmp_path / "before")
    again = ["one", "two", "--counter", "5", "--than", str(tmp_path / "before")]
    assert __main__.main([*words, *again]) == 0
    assert fleet.active("one") == fleet.active("two") == "parts.5"
    assert (folder / "net.run" / "run.json").stat().st_mtime_ns == trained


def test_a_network_that_is_surely_worse_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = {"a": 0.02, "b": 0.1, "interval": (0.03, 0.2)}
    same = {"a": 0.99, "b": 0.98, "interval": (-0.02, 0.01)}
    metrics = {"image_auroc": same, "escape_rate": metric, "false_reject_rate": {**metric, "interval": (-0.1, 0.2)}}
    monkeypatch.setattr(redeploy, "answer", lambda *_: {"metrics": metrics})
    args = argparse.Namespace(pictures="pictures", than=Path("old"))
    with pytest.raises(ToolError, match=r"worse than old: escape_rate 0\.020 -> 0\.100\. Nothing was signed"):
        redeploy.refuse_worse(tmp_path / "bundle", args)
    metrics["escape_rate"] = {**metric, "interval": (-0.01, 0.2)}
    redeploy.refuse_worse(tmp_path / "bundle", args)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        # What one good and one bad picture show, told apart as they are.
        (
            Figures("test", 1, 1, 0, 1, 0.5, 1.0),
            "too few pictures are held out to say anything: 1 good and 1 defective",
        ),
        (Figures("test", 60, 60, 1, 50, 0.5, 0.85), r"image AUROC may be as low as 0\.76\d, 0\.8 is the least"),
        (
            Figures("test", 60, 60, 0, 33, 0.5, 0.97),
            r"escape rate may be as high as 0\.58\d, 0\.5 is the most: 27 of 60",
        ),
        (Figures("test", 60, 60, 0, 0, 0.5, 0.97), "everything passes: none of 60 defective parts is rejected"),
        (Figures("test", 60, 60, 1, 50, 0.5, 0.97), ""),
    ],
)
def test_what_held_out_pictures_do_not_show_is_not_signed(
    found: Figures, words: str, tmp_path: Path, pictures: Path
) -> None:
    content = {"format": 1, "thresholds": {"score": 0.5}, "input": {"width": 32, "height": 32}}
    content |= {"metrics": found.metrics(), "provenance": found.provenance()}
    (tmp_path / "manifest.toml").write_text(tomli_w.dumps(content))
    args = argparse.Namespace(pictures=str(pictures), accept_unproven=False, least_auroc=0.8, most_escapes=0.5)
    if not words:
        redeploy.refuse_unproven(tmp_path, args)
        return
    with pytest.raises(ToolError, match=f"nothing was signed: .*{words}") as refused:
        redeploy.refuse_unproven(tmp_path, args)
    few = found.good == 1
    assert ("few: add about 16 more" if few else f"fcam-tools inspect {pictures}") in str(refused.value)
    assert few or "perhaps" in str(refused.value)


def test_what_cannot_come_good_is_said_before_the_training(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([*words, "gone"]) == 2
    told = capsys.readouterr().err
    assert "No route to host" in told and "--counter" in told
    assert __main__.main([*words, "one", "--key", str(tmp_path / "nobody.key")]) == 2
    assert "nobody.key" in capsys.readouterr().err
    assert __main__.main([*words, "one", "--than", str(tmp_path / "nothing")]) == 2
    assert "nothing/manifest.toml" in capsys.readouterr().err
    assert __main__.main([*words, "one", "--name", "Parts!"]) == 2
    assert "the name 'Parts!' is not made of" in capsys.readouterr().err
    assert __main__.main([*words, "one", "--password-file", str(tmp_path / "nowhere")]) == 2
    assert "no password file" in capsys.readouterr().err
    for counter in ("0", "-1", str(2**64)):
        assert __main__.main([*words, "one", f"--counter={counter}"]) == 2
        assert f"--counter {counter}: releases count from 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        __main__.main([*words, "one", "--export=--golden many"])
    assert "fcam-tools export: error" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verbs that were run, and none of them does anything but leave a file to sign."""
    told: list[str] = []

    def step(*words: object, tool: object = None) -> None:
        told.append(str(words[0]) if words[0] != "bundle" else f"bundle {words[1]}")
        if words[:2] == ("bundle", "pack"):
            Path(str(words[4])).parent.mkdir(parents=True, exist_ok=True)
            Path(str(words[4])).write_text("packed")

    def deploy(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told.append(f"deploy {Path(command[4]).name}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(redeploy, "step", step)
    monkeypatch.setattr(redeploy, "refuse_unproven", lambda *_: None)
    monkeypatch.setattr(redeploy, "refuse_worse", lambda *_: None)
    monkeypatch.setattr(redeploy, "subprocess", argparse.Namespace(run=deploy))
    return told


def test_other_words_for_the_export_make_the_next_release(
    words: list[str], tmp_path: Path, steps: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ["train", "evaluate", "export", "verify", "bundle pack", "bundle sign"]
    other, key = ["--export=--golden 3"], tmp_path / "shop.key"
    for given, wanted in [
        ([], [*whole, "deploy parts-1.fcam"]),
        ([], ["deploy parts-1.fcam"]),
        (other, [*whole, "deploy parts-2.fcam"]),
        (other, ["deploy parts-2.fcam"]),
        ([*other, "--counter", "2"], ["deploy parts-2.fcam"]),
        # A camera takes no older release: the first words make a new one again.
        ([], [*whole, "deploy parts-3.fcam"]),
        (["--counter", "7"], [*whole, "deploy parts-7.fcam"]),
    ]:
        steps.clear()
        assert __main__.main([*words, "one", *given]) == 0
        assert steps == wanted
    steps.clear()
    assert __main__.main([*words, "one", *other, "--counter", "7"]) == 2
    assert "was made with other words for the export" in capsys.readouterr().err
    key.write_text("another key")
    assert __main__.main([*words, "one", "--counter", "7"]) == 2
    assert not steps
    assert __main__.main([*words, "one"]) == 0
    assert steps[-1] == "deploy parts-8.fcam"


def test_a_camera_that_does_not_say_its_releases_is_named(
    words: list[str], steps: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert __main__.main([*words, "one", "gone"]) == 0
    assert steps[-1] == "deploy parts-1.fcam"
    assert (
        "gone: ssh: connect to host gone port 22: No route to host: which releases it has is not known" in caplog.text
    )


def test_a_training_that_was_killed_as_it_began_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "net.run"
    args = argparse.Namespace(pictures="pictures", name="parts", train="", accept_unproven=False)
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(redeploy, "step", lambda *words: calls.append(words))
    run.mkdir()
    redeploy.trained(tmp_path, args)
    for state in ("started", "done"):
        (run / "run.json").write_text(json.dumps({"state": state}))
        redeploy.trained(tmp_path, args)
    assert calls == [
        ("train", "pictures", "--out", tmp_path / "net.pt", "--name", "parts"),
        ("train", "--resume", run),
    ]
