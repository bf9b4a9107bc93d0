"""Training as a product: killed and resumed, shared between processes, repeatable; and the folder that a run leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__, data
from fcam_tools.common import disk, parallel, run_folder
from fcam_tools.common.errors import ToolError
from fcam_tools.train import decoder, feed, options, plan, train, tune
from trees import TREES, squares

# A process to fork from, with torch imported once: each child is as clean as a new one, and starts at once.
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["fcam_tools.train.train", "sklearn.metrics", "timm"])
QUICK = (
    "--recipe",
    "inspection",
    "--no-pretrained",
    "--size",
    "32",
    "--batch",
    "8",
    "--epochs",
    "3",
    "--decoder-epochs",
    "2",
)
QUICK += ("--precision", "fp32", "--frozen-stride", "0")
QUICK += ("--accept-unproven",)  # nobody learns anything in so few steps


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("pictures"), train=29, val=8)


def work(arguments: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    os._exit(__main__.main(arguments))


def begin(*arguments: object, **environment: str) -> multiprocessing.process.BaseProcess:
    child = CLEAN.Process(target=work, args=([str(a) for a in arguments], environment))
    child.start()
    return child


def finish(*arguments: object) -> None:
    child = begin(*arguments)
    child.join(120)
    assert child.exitcode == 0


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(a: Path, b: Path) -> bool:
    one, other = torch.load(a, weights_only=True), torch.load(b, weights_only=True)
    weights = all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    return weights and one["thresholds"] == other["thresholds"]


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed, and the seconds it took."""
    out = tmp_path_factory.mktemp("whole") / "net.pt"
    finish("train", pictures, "--out", out, *QUICK)
    return out


TWO_STAGES = [("classifier", 1), ("classifier", 2), ("classifier", 3), ("decoder", 1), ("decoder", 2)]
NATIVE = ("--no-pretrained", "--size", "32", "--window", "16", "--windows", "4", "--pictures", "4", "--outline-steps")
NATIVE += ("60", "--label-steps", "60", "--precision", "fp32", "--frozen-stride", "0", "--accept-unproven")


@pytest.mark.parametrize("kind", ["two stages", "joint", "native"])
def test_killed_training_ends_as_if_nothing_had_happened(
    kind: str, pictures: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, draw = tmp_path / "net.pt", random.Random(time.time_ns())
    run, kills = run_folder.beside(out), 0
    command: tuple[object, ...] = ("train", pictures, "--out", out, *(NATIVE if kind == "native" else QUICK))
    if kind != "two stages":
        if kind == "joint":  # the activation maps are of a classifier that no longer is
            command = (*command, "--joint", 0.1)
        whole = tmp_path / "whole.pt"
        finish(*command[:2], "--out", whole, *command[4:])
    while True:
        child = begin(*command, "--snapshot-seconds", 0.05)
        child.join(draw.uniform(0.0, 3.0) if kills < 6 else 60)
        if child.exitcode is not None:
            break
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        kills += 1
        if (run / "run.json").is_file():
            assert run_folder.Run(run).state() in ("stopped", "done")
            command = ("train", "--resume", run)
    assert kills >= 1 and (child.exitcode == 0 or "is done" in capfd.readouterr().err)
    assert run_folder.Run(run).state() == "done"
    assert same(whole, out)
    stages = [(entry["stage"], entry["epoch"]) for entry in history(run)]
    assert stages == ([("outlines", 1), ("labels", 1)] if kind == "native" else TWO_STAGES)
    assert not (run / run_folder.SNAPSHOT).exists()


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_one_seed_gives_one_network(pictures: Path, whole: Path, tmp_path: Path) -> None:
    finish("train", pictures, "--out", tmp_path / "again.pt", *QUICK)
    finish("train", pictures, "--out", tmp_path / "other.pt", *QUICK, "--seed", 1)
    assert same(whole, tmp_path / "again.pt") and not same(whole, tmp_path / "other.pt")


def test_a_run_has_a_copy_of_all_that_lies_beside_it(whole: Path) -> None:
    """What the next training in this place writes over before it is done."""
    for suffix in (".pt", ".classifier.pt", ".decoders.pt"):
        own = (run_folder.beside(whole) / run_folder.CHECKPOINT).with_suffix(suffix)
        assert own.read_bytes() == whole.with_suffix(suffix).read_bytes()


def test_two_processes_train_the_network_of_one(pictures: Path, tmp_path: Path) -> None:
    finish("train", pictures, "--out", tmp_path / "one.pt", *QUICK, "--parts", 2)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    command = ("train", pictures, "--out", tmp_path / "two.pt", *QUICK)
    children = [begin(*command, **team, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    one, two = tensors(tmp_path / "one.pt"), tensors(tmp_path / "two.pt")
    for name, value in one.items():
        if value.is_floating_point():
            assert torch.allclose(value, two[name], rtol=1e-5, atol=1e-5 * float(value.abs().max())), name
    assert run_folder.Run(tmp_path / "two.run").config["processes"] == 2
    for mine, its in zip(history(tmp_path / "two.run"), history(tmp_path / "one.run"), strict=True):
        assert mine.pop("stage") == its.pop("stage") and mine == pytest.approx(its, rel=1e-4)


def test_run_folder_tells_how_the_network_was_made(pictures: Path, whole: Path) -> None:
    folder = run_folder.beside(whole)
    run = run_folder.Run(folder)
    config = run.config
    assert config["recipe"]["epochs"] == 3 and config["recipe"]["pretrained"] is False
    assert options.recipe_from(config["recipe"]).size == 32
    assert config["versions"]["torch"] and len(config["dataset_sha256"]) == 64 and "+" in config["tool"]
    assert config["dataset_sha256"] == torch.load(whole, weights_only=True)["provenance"]["dataset_sha256"]
    assert same(folder / run_folder.CHECKPOINT, whole)
    assert torch.load(whole, weights_only=True)["history"] == history(folder)
    measured = run.metrics
    assert measured["validation"]["val_auroc"] == max(entry.get("val_auroc", 0) for entry in history(folder))
    assert 0 < measured["thresholds"]["score"] < 1
    assert measured["pictures_per_second_data_path"] > 0 and measured["pictures_per_second_classifier"] > 0
    assert "classifier  3/3" in (folder / "train.log").read_text()
    assert any(path.name.startswith("events.out") for path in folder.iterdir())


def test_runs_are_listed(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = (*QUICK, "--epochs", "1", "--decoder-epochs", "1")
    finish("train", pictures, "--runs", tmp_path, "--name", "first", *few)
    assert __main__.main(["runs", str(tmp_path), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["state"] == "done" and "-first-" in entry["run"] and 0 <= entry["val_auroc"] <= 1
    assert __main__.main(["runs", str(tmp_path)]) == 0
    assert entry["id"] in capsys.readouterr().out
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert __main__.main(["runs", str(tmp_path), "--json"]) == 0
    assert [told["id"] for told in json.loads(capsys.readouterr().out)] == [entry["id"]]
    assert __main__.main(["train", "--out", "net.pt", "--resume", entry["run"]]) == 2
    assert "give no --out" in capsys.readouterr().err
    assert __main__.main(["runs", str(tmp_path / "absent")]) == 2


def test_without_decoder_epochs_no_map_is_drawn(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "defect_maps", lambda *_: pytest.fail("maps for a decoder that is not trained"))
    recipe = train.Recipe(pretrained=False, size=32, batch=8, epochs=1, decoder_epochs=0, precision="fp32")
    checkpoint, every = train.fit(recipe, data.load(str(pictures)), progress=False)
    assert every == [] and 0 <= checkpoint["training"]["val_auroc"] <= 1
    assert "val_weak_loss" not in checkpoint["training"]


def test_spread_is_of_finished_runs_and_of_what_all_of_them_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (auroc, pxap) in enumerate([(0.9, 40.0), (0.94, None), (0.98, 50.0)]):
        run = run_folder.create(tmp_path / str(seed), {"state": "done"})
        run.add_metrics(test={"image_auroc": auroc, "pxap": pxap})
    run_folder.create(tmp_path / "killed", {}).add_metrics(test={"image_auroc": 0.1})
    assert __main__.main(["runs", str(tmp_path), "--spread", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["runs"]) == 4 and list(found["spread"]) == ["image_auroc"]
    told = found["spread"]["image_auroc"]
    # Deviations of -0.04, 0, 0.04 from the mean: their squares' sum over 3 - 1 is 0.0016.
    assert told == pytest.approx({"runs": 3, "mean": 0.94, "deviation": 0.04, "lowest": 0.9, "highest": 0.98})
    assert __main__.main(["runs", str(tmp_path), "--spread"]) == 0
    assert "image_auroc: 0.9400 ± 0.0400 (0.9000 to 0.9800, 3 runs)" in capsys.readouterr().out
    assert __main__.main(["runs", str(tmp_path / "1"), "--spread"]) == 2
    assert "1 finished runs have no spread: train two or more" in capsys.readouterr().err


def test_unfinished_run_is_not_overwritten(pictures: Path, tmp_path: Path) -> None:
    run_folder.create(tmp_path / "run", {"dataset": "x"})
    with pytest.raises(ToolError, match="--resume"):
        run_folder.create(tmp_path / "run", {"dataset": "x"})
    run_folder.Run(tmp_path / "run").update(state="done", checkpoint="net.pt")
    with pytest.raises(ToolError, match="is done"):
        plan.plan_resumed(tmp_path / "run")
    run_folder.create(tmp_path / "run", {"dataset": "y"})
    assert run_folder.Run(tmp_path / "run").config["dataset"] == "y"


def finished(folder: Path, name: str) -> Path:
    """A run that is done, with a checkpoint."""
    run = run_folder.create(folder, {"dataset": name})
    (folder / run_folder.CHECKPOINT).write_text(name)
    run.finish()
    return folder


def kept(folder: Path) -> set[str]:
    """The checkpoints of finished runs in a place."""
    places = (folder / run_folder.CHECKPOINT, run_folder.before(folder) / run_folder.CHECKPOINT)
    return {path.read_text() for path in places if path.is_file()}


def test_a_finished_run_stays_until_the_next_one_is_done(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "old")
    new = run_folder.create(run, {"dataset": "new"})
    assert kept(run) == {"old"} and new.state() == "stopped"
    found = run_folder.run_of(run)
    assert found is not None and found.config["dataset"] == "old", "a checkpoint is still that of the run before"
    (run / run_folder.CHECKPOINT).write_text("new")
    new.finish()
    assert (
        kept(run) == {"new"}
        and not run_folder.before(run).exists()
        and run_folder.run_of(run).config["dataset"] == "new"
    )


@pytest.mark.parametrize("at", ["rename", "write_json", "rmtree"])
def test_a_kill_between_two_runs_loses_neither(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at each step of the change, with what the attempt before left behind too; the next attempt goes on."""
    run = finished(tmp_path / "run", "old")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place = {
        "rename": (Path, "rename"),
        "write_json": (run_folder, "write_json"),
        "rmtree": (run_folder.shutil, "rmtree"),
    }[at]
    with monkeypatch.context() as patch:
        patch.setattr(*place, killed)
        if at == "rmtree":  # the new one is done, the old one is still there
            new = run_folder.create(run, {"dataset": "new"})
            (run / run_folder.CHECKPOINT).write_text("new")
            with pytest.raises(KeyboardInterrupt):
                new.finish()
        else:
            with pytest.raises(KeyboardInterrupt):
                run_folder.create(run, {"dataset": "new"})
    assert "new" in kept(run) if at == "rmtree" else kept(run) == {"old"}
    third = run_folder.create(run, {"dataset": "third"})
    assert kept(run) == {"new"} if at == "rmtree" else kept(run) == {"old"}
    third.finish()
    assert not run_folder.before(run).exists()


def test_training_that_is_killed_leaves_the_network_before_it(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish("train", pictures, "--out", run, *QUICK)
    old = (run / run_folder.CHECKPOINT).read_bytes()
    child = begin("train", pictures, "--out", run, *QUICK, "--seed", 1, "--snapshot-seconds", 0.05)
    deadline = time.monotonic() + 120
    while not (run / run_folder.SNAPSHOT).is_file() or not run_folder.before(run).is_dir():
        assert time.monotonic() < deadline and child.exitcode is None
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert (run_folder.before(run) / run_folder.CHECKPOINT).read_bytes() == old
    finish("train", "--resume", run)
    assert (run / run_folder.CHECKPOINT).read_bytes() != old and not run_folder.before(run).exists()


def test_a_folder_of_someone_else_is_not_removed(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "old")
    run_folder.before(run).mkdir()
    (run_folder.before(run) / "letters").write_text("mine")
    with pytest.raises(ToolError, match=r"run\.before is in the way and is no run"):
        run_folder.create(run, {"dataset": "new"})
    assert kept(run) == {"old"} and (run_folder.before(run) / "letters").is_file()


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    first, second = run_folder.create(tmp_path / "run", {}), run_folder.Run(tmp_path / "run")
    assert first.state() == "stopped"
    first.open()
    assert second.state() == "running"
    with pytest.raises(ToolError, match="another process"):
        second.open()
    first.close()
    assert second.state() == "stopped"


def test_changed_pictures_stop_a_resumption(pictures: Path, tmp_path: Path) -> None:
    told = {"data": str(pictures), "dataset_sha256": "0" * 64, "recipe": {}, "checkpoint": "net.pt"}
    run_folder.create(tmp_path / "run", told)
    with pytest.raises(ToolError, match="are not those that"):
        plan.plan_resumed(tmp_path / "run")


def test_pictures_that_moved_are_taken_from_their_new_place(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, run, quick = tmp_path / "pictures", tmp_path / "run", (*QUICK, "--epochs", "1", "--decoder-epochs", "1")
    shutil.copytree(pictures, place)
    with monkeypatch.context() as stopped:
        stopped.setattr(train, "fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert __main__.main(["train", str(place), "--out", str(run), *quick]) == 130
    assert f"stopped; go on with `fcam-tools train --resume {run}`" in capsys.readouterr().err
    place.rename(tmp_path / "moved")
    assert __main__.main(["train", "--resume", str(run)]) == 2
    assert f"`fcam-tools train NEWPATH --resume {run}`" in capsys.readouterr().err
    picture = next((tmp_path / "moved").rglob("*.png"))
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "moved", other)
    (other / picture.relative_to(tmp_path / "moved")).unlink()
    assert __main__.main(["train", str(other), "--resume", str(run)]) == 2
    assert f"the pictures in {other} are not those that {run} began with" in capsys.readouterr().err
    assert __main__.main(["train", str(tmp_path / "moved"), "--resume", str(run)]) == 0
    assert run_folder.Run(run).state() == "done" and run_folder.Run(run).config["data"] == str(tmp_path / "moved")


def test_training_that_shows_nothing_ends_with_one_and_leaves_its_network(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No step is made: the scores are those of random weights."""
    quick = [word for word in QUICK if word != "--accept-unproven"] + ["--epochs", "0", "--decoder-epochs", "0"]
    assert __main__.main(["train", str(pictures), "--out", str(tmp_path / "net.pt"), *quick]) == 1
    said = capsys.readouterr()
    assert re.match(r"of 8 defective parts \d are rejected, of 8 good ones \d \(val split, at the shipped", said.out)
    assert "fcam-tools train: learnt nothing; this says nothing about your parts: image AUROC is 0." in said.err
    assert "perhaps too few good pictures: 29 to learn from" in said.err and "--accept-unproven goes on" in said.err
    assert f"fcam-tools inspect {pictures}" in said.err and f"the network is in {tmp_path / 'net.pt'}" in said.err
    assert run_folder.Run(tmp_path / "net.run").state() == "done"
    assert "unproven" not in torch.load(tmp_path / "net.pt", weights_only=True)["provenance"]
    accepted = ["train", str(pictures), "--out", str(tmp_path / "net.pt"), *quick, "--accept-unproven", "--json"]
    assert __main__.main(accepted) == 0
    told = json.loads(capsys.readouterr().out)["held_out"]
    assert (told["figures"]["good"], told["figures"]["defective"]) == (8, 8) and told["doubt"].startswith("learnt")
    assert torch.load(tmp_path / "net.pt", weights_only=True)["provenance"]["unproven"] == told["doubt"]
    assert run_folder.Run(tmp_path / "net.run").metrics["held_out"] == told


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    disk.write(path, b"old")
    monkeypatch.setattr(disk.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(ToolError, match=r"cannot write .*file \(15 bytes\): no space; make room"):
        disk.write(path, b"new, and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(disk.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        disk.write(path, b"new")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    disk.write(path, b"newest")
    assert path.read_bytes() == b"newest" and list(tmp_path.iterdir()) == [path]


def test_licence_goes_with_the_network(pictures: Path, tmp_path: Path) -> None:
    quick = (*QUICK, "--epochs", "1", "--decoder-epochs", "1", "--allow-leaks")
    made = TREES["mvtec"](tmp_path / "set")
    for source, wanted in ((made.source, "CC BY-NC-SA 4.0, no commercial use"), (str(pictures), None)):
        run = tmp_path / ("published" if wanted else "own")
        assert __main__.main(["train", source, "--out", str(run), *quick]) == 0
        told = torch.load(run / run_folder.CHECKPOINT, weights_only=True)["provenance"].get("dataset_licence")
        assert (wanted in told if wanted else told is None) and run_folder.Run(run).config["dataset_licence"] == (
            told or ""
        )


def test_things_need_the_recipe_that_needs_no_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", TREES["neu"](tmp_path / "set").source, "--out", str(tmp_path / "run"), *QUICK]
    command += ["--epochs", "1", "--decoder-epochs", "1", "--allow-leaks"]
    assert __main__.main(command) == 2
    assert "no OK pictures" in (told := capsys.readouterr().err) and "--recipe fcam-paper" in told
    small = ("--backbone", "lcnet_035", "--stride", "16", "--decoder", "light", "--crop-from", "40", "--batch", "4")
    assert __main__.main([*command, "--recipe", "fcam-paper", *small]) == 0


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """As on a disk that is full once a file has so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_training_on_a_full_disk_says_so_and_goes_on_later(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, quick = tmp_path / "run", (*QUICK, "--epochs", "1", "--decoder-epochs", "1")
    with files_of_at_most(200_000):
        assert __main__.main(["train", str(pictures), "--out", str(run), *quick]) == 2
    error = capsys.readouterr().err
    assert "cannot write" in error and "snapshot.pt" in error and "make room" in error
    assert f"train --resume {run}" in error
    assert not [path for path in run.iterdir() if path.name.endswith(".aside")] and not (run / "snapshot.pt").exists()
    assert __main__.main(["train", "--resume", str(run)]) == 0
    assert run_folder.Run(run).state() == "done" and (run / run_folder.CHECKPOINT).is_file()


# Batches.


def some(count: int = 11) -> feed.Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return feed.Pictures(pixels, np.arange(count) % 2)


def test_epoch_goes_on_where_it_stopped_and_holds_every_picture_once() -> None:
    source = feed.Feed(some(), parallel.Team(), 4, 1, seed=5)
    whole = list(source.epoch("classifier", 2))
    rest = list(source.epoch("classifier", 2, first=1))
    assert [len(parts[0].labels) for parts in whole] == [4, 4, 3]
    assert all(torch.equal(a[0].x, b[0].x) and a[0].key == b[0].key for a, b in zip(whole[1:], rest, strict=True))
    assert sum(int(parts[0].labels.sum()) for parts in whole) == 5
    assert not torch.equal(whole[0][0].x, next(source.epoch("classifier", 3))[0].x)


def test_team_shares_out_the_parts_of_one() -> None:
    alone = next(feed.Feed(some(), parallel.Team(), 7, 3, seed=5).epoch("decoder", 0))
    both = [next(feed.Feed(some(), parallel.Team(rank, 2), 7, 3, seed=5).epoch("decoder", 0)) for rank in range(2)]
    assert [len(parts) for parts in both] == [2, 1] and sum(part.share for part in alone) == pytest.approx(1)
    for part, own in zip(alone, (both[0][0], both[1][0], both[0][1]), strict=True):
        assert torch.equal(part.x, own.x) and (part.key, part.share) == (own.key, own.share)


def test_steps_prepared_ahead_are_the_same_and_tell_errors() -> None:
    source = feed.Feed(some(), parallel.Team(), 4, 1, seed=5)
    plain = list(source.epoch("classifier", 0))
    source.on_device = False
    ahead = list(source.epoch("classifier", 0))
    assert all(torch.equal(a[0].x, b[0].x) for a, b in zip(plain, ahead, strict=True))

    def broken(step: int) -> list[feed.Part]:
        if step == 5:
            raise ValueError("a bad picture")
        return plain[0]

    seen = feed.ahead(broken, range(9), workers=3)
    assert [next(seen) for _ in range(5)] == [plain[0]] * 5
    with pytest.raises(ValueError, match="a bad picture"):
        next(seen)


def test_work_is_collected_in_order() -> None:
    alone = parallel.Team().collect(10, 4, lambda chunk: list(range(10))[chunk])
    assert alone == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


# The search for a recipe.


def test_search_goes_on_and_says_its_budget_first(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fcam_tools.train.tune")
    command = ["tune", str(pictures), "--out", str(tmp_path / "j"), "--no-pretrained", "--size", "32", "--batch", "16"]
    command += ["--epochs", "2", "--precision", "fp32", "--json"]
    assert __main__.main([*command, "--trials", "2"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert caplog.messages[0].startswith("2 trials of 2 epochs, 0 of them done; at most 60 minutes")
    assert __main__.main([*command, "--trials", "3"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (first["trials"], second["trials"]) == (2, 3)
    assert (
        second["best_val_auroc"] >= first["best_val_auroc"] >= first["default_val_auroc"] == second["default_val_auroc"]
    )
    drawn = [trial.params["lr"] for trial in tune.open_study(tmp_path / "j", {}, 0).get_trials()]
    assert len(set(drawn)) == 3  # going on draws something new
    assert second["train_with"].startswith("--lr ") and set(second["best"]) >= {"lr", "pool", "frozen_stride"}
    assert __main__.main([*command, "--trials", "3", "--seed", "1"]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_search_prunes_what_falls_behind(pictures: Path) -> None:
    study = tune.open_study(pictures.parent / "journal", {"data": "x"}, 0)

    def pretended(trial: tune.Trial) -> float:
        value = 0.9 if trial.number < tune.WARM_UP else 0.1
        for epoch in range(4):
            trial.report(value, epoch)
            if trial.should_prune():
                raise tune.optuna.TrialPruned
        return value

    study.optimize(pretended, n_trials=tune.WARM_UP + 2)
    assert [trial.state.name for trial in tune.finished(study)] == ["COMPLETE"] * tune.WARM_UP + ["PRUNED"] * 2
