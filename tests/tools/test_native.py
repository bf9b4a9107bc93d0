"""Learning at the camera's own resolution: what a step holds, what is asked of it, and that it finds specks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__
from fcam_tools.model.network import Net
from fcam_tools.train import methods, native, threshold, train
from PIL import Image

SMALL = {
    "size": 64,
    "window": 32,
    "windows": 6,
    "pictures": 4,
    "precision": "fp32",
    "pretrained": False,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def recipe(**changes: object) -> train.Recipe:
    return train.Recipe(**methods.named("native", SMALL | changes))


def pictures(good: int, kinds: tuple[int, ...]) -> train.Pictures:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.full(count, kind) for kind, count in enumerate((good, *kinds))])
    return train.Pictures(rng.integers(40, 200, (len(labels), 64, 64, 3), dtype=np.uint8), labels)


def trainer(good: int = 6, kinds: tuple[int, ...] = (9, 1), **changes: object) -> train.Trainer:
    found = pictures(good, kinds)
    return train.Trainer(recipe(**changes), found, found, 1 + len(kinds), progress=False)


def test_a_step_depends_on_its_number_alone() -> None:
    feed = native.Pieces(trainer(), native.Course("labels", 1, 3, 3, 4))
    whole, again = [list(feed.epoch("labels", 1, first)) for first in (0, 1)]
    assert len(whole) == 3 and len(again) == 2
    for one, other in zip(whole[1:], again, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.x, b.x) and torch.equal(a.labels, b.labels) and a.key == b.key
    assert not torch.equal(whole[0][0].x, whole[1][0].x)
    assert [part.share for part in whole[0]] == [0.5, 0.5]


def test_windows_show_what_was_made_up_on_them() -> None:
    feed = native.Pieces(trainer(paste=1.0), native.Course("outlines", 1, 1, 40, 0))
    (part,) = feed.step("outlines", 0, 0)
    assert part.x.shape == (40, 3, 32, 32) and part.masks is not None and part.masks.shape == (40, 32, 32)
    marked = part.masks.flatten(1).any(1)
    assert marked.float().mean() > 0.8 and torch.equal(part.labels, marked.long())


def test_windows_beside_whole_pictures_have_no_label() -> None:
    windows, whole = native.Pieces(trainer(), native.Course("labels", 1, 1, 3, 4)).step("labels", 0, 0)
    assert (windows.labels == -1).all() and whole.masks is None and whole.x.shape == (4, 3, 64, 64)


def test_each_kind_of_reject_comes_as_often_as_the_others_and_as_good_ones() -> None:
    feed = native.Pieces(trainer(good=3, kinds=(30, 1)), native.Course("labels", 1, 1, 1, 4))
    seen = torch.cat([feed.step("labels", 0, step)[1].labels for step in range(20)])
    assert torch.bincount(seen).tolist() == [40, 20, 20]


def test_kinds_that_are_learnt_as_one_come_as_often_as_each_other() -> None:
    t = trainer(good=6, kinds=(20, 2))
    kinds = t.train.labels
    t.train.labels, t.train.kinds = (kinds > 0).astype(np.int64), kinds
    feed = native.Pieces(t, native.Course("labels", 1, 40, 0, 4))
    drawn: list[int] = []
    found = {t.train.pixels[index].tobytes(): kinds[index] for index in range(len(kinds))}
    for step in range(40):
        drawn += [kind for kind in kinds_in(feed, step, found) if kind]
    assert 0.35 < drawn.count(2) / len(drawn) < 0.65


def kinds_in(feed: native.Pieces, step: int, found: dict[bytes, int]) -> list[int]:
    """The kinds of the pictures that a step chooses, seen where they are turned and lit."""
    chosen: list[int] = []
    whole = native.augment

    def seen(pixels: torch.Tensor, *rest: object) -> tuple[torch.Tensor, None]:
        chosen.extend(found[picture.numpy().tobytes()] for picture in pixels)
        return whole(pixels, *rest)  # type: ignore[arg-type,return-value]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "augment", seen)
        feed.pictures(np.random.default_rng(step), step, 1.0)
    return chosen


def test_kinds_of_several_labels_a_picture() -> None:
    hot = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], np.float32)
    assert [rows.tolist() for rows in native.kinds_of(hot)] == [[1], [1, 2]]


def test_kinds_are_counted_among_rejects_alone() -> None:
    scores = np.array([[0.9, 0.06, 0.04], [0.9, 0.06, 0.04], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5]])
    assert native.kinds_told(scores, np.array([0, 1, 2, 2])) == (2, 3)
    hot = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]], np.float32)
    assert native.kinds_told(scores, hot) == (1, 3)


def test_a_window_holds_its_pixel_and_lies_in_the_piece() -> None:
    rng = np.random.default_rng(0)
    for at in (None, 0, 1, 31, 62, 63):
        starts = {native.start(rng, 64, 32, at) for _ in range(400)}
        assert min(starts) >= 0 and max(starts) <= 32
        assert at is None or all(first <= at < first + 32 for first in starts)
    assert native.start(rng, 20, 32, 5) == 0, "a piece that is smaller than a window is taken whole"


def test_side_loss_knows_no_class() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0]])
    evidence = 2.0 + float(torch.tensor(2.0).log())
    for side in (0, 1):
        wanted = float(torch.nn.functional.softplus(torch.tensor(evidence if side == 0 else -evidence)))
        assert float(native.side_loss(logits, torch.tensor([side]))) == pytest.approx(wanted, rel=1e-5)


def test_without_rejects_there_is_nothing_to_learn_from_labels() -> None:
    alone = trainer(kinds=(), outline_steps=100, label_steps=100)
    assert [course.name for course in native.courses(alone)] == ["outlines"]
    assert [course.name for course in native.courses(trainer(outline_steps=0, label_steps=100))] == ["labels"]


@pytest.mark.parametrize(("steps", "epochs", "each"), [(1, 1, 1), (100, 1, 100), (101, 2, 51), (600, 6, 100)])
def test_steps_are_told_in_epochs(steps: int, epochs: int, each: int) -> None:
    found = native.Course.of("labels", steps, 1, 1)
    assert (found.epochs, found.steps) == (epochs, each)


def test_verdict_and_map_are_of_the_same_features() -> None:
    net = Net(3, verdict="decoder", neck=0).eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        features = net.features(x)
        logits, found = net(x)
        assert torch.equal(logits, net.classify(x))
        assert torch.equal(found, torch.sigmoid(net.map_logits(features, (64, 96))))
        assert torch.equal(logits[:, 1], logits[:, 2]) and not logits[:, 0].any(), "untrained, it pools the map alone"
        net.decoder.head.bias.add_(1)
        assert torch.allclose(net.classify(x)[:, 1:], logits[:, 1:] + 1, atol=1e-4)


def test_shallow_features_stay_and_all_else_learns() -> None:
    t = trainer(outline_steps=3, label_steps=3)
    before = {name: value.clone() for name, value in t.net.state_dict().items()}
    told = train.train_native(t, None)
    moved = {name for name, value in t.net.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("features.net.blocks.2") for name in moved)
    assert any(name.startswith("classifier") for name in moved) and any(name.startswith("decoder") for name in moved)
    assert not any(name.startswith(("features.net.conv_stem", "features.net.blocks.0")) for name in moved)
    assert not any("running" in name for name in moved if name.startswith("features"))
    assert told["decoder_epoch"] == 1 and {entry["stage"] for entry in t.history} == {
        "outlines",
        "labels",
    }


def specks(root: Path, how: str = "") -> Path:
    """Rejects have one speck of 4 x 4 pixels of 96 x 96; with `removed` none has, with `shuffled` any picture may."""
    for seed, (split, count) in enumerate({"train": 40, "val": 16, "test": 6}.items()):
        rng = np.random.default_rng(seed)
        for index in range(2 * count):
            defective = index % 2 == 1
            pixels = rng.normal(120, 12, (96, 96, 3))
            if defective and how != "removed":
                top, left = rng.integers(4, 88, 2)
                pixels[top : top + 4, left : left + 4] += 90
            side = rng.permutation(2)[0] if how == "shuffled" else int(defective)
            path = root / split / ("ok", "ng")[side] / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return root


STEPS = (
    "--size 96 --window 32 --windows 16 --pictures 8 --outline-steps 80 --label-steps 100 --precision fp32 --place no"
)


@pytest.mark.parametrize(("how", "code"), [("", 0), ("shuffled", 1), ("removed", 1)])
def test_learns_specks_from_labels_and_says_when_there_was_nothing_to_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, code: int
) -> None:
    folder = specks(tmp_path / "set", how)
    assert __main__.main(["train", str(folder), "--out", str(tmp_path / "x.pt"), *STEPS.split(), "--json"]) == code
    said = capsys.readouterr()
    assert (json.loads(said.out)["val_auroc"] > 0.9) is (code == 0)
    assert ("; this says nothing about your parts" in said.err or "this says little about" in said.err) is (code == 1)
    assert ("perhaps" in said.err and "fcam-tools" in said.err) is (code == 1), said.err


def test_known_good_pictures_count_as_much_as_they_are_known_by_heart() -> None:
    """The rate that is asked for is the one that new good pictures have, though training ones score lower."""
    rng = np.random.default_rng(0)

    def scores(count: int, mean: float) -> np.ndarray:
        return 1 / (1 + np.exp(-rng.gumbel(mean, 1, count)))

    rates, few = [], []
    for _ in range(200):
        held_out, known, new = scores(20, -2), scores(100, -3), scores(2000, -2)
        both = np.concatenate([held_out, threshold.moved_up(known, held_out)])
        for found, seen in ((rates, both), (few, held_out)):
            found.append((new > threshold.score_threshold(seen, np.ones(len(seen), bool), 0.02)).mean())
    assert 0.01 < np.mean(rates) < 0.03
    assert np.std(rates) < np.std(few)


def test_a_few_high_scores_held_out_do_not_lift_all_known_ones() -> None:
    """Scores end at a bound: where more of the held-out ones lie near it, the known ones there are no higher for it."""
    held_out, known = np.repeat([0.05, 0.7], [15, 5]), np.repeat([0.05, 0.7], [95, 5])
    assert threshold.moved_up(known, held_out) == pytest.approx(known)
    assert threshold.moved_up(known / 2, held_out).min() == pytest.approx(0.05)


def test_good_pictures_that_score_higher_when_known_stay_as_they_are() -> None:
    known, held_out = np.array([0.2, 0.4]), np.array([0.1, 0.1])
    assert threshold.moved_up(known, held_out) == pytest.approx(known)
    assert threshold.moved_up(known, known[:0]) is known


def test_a_median_of_sixteen_that_is_off_by_chance_lifts_nothing() -> None:
    """Of one product: a shift of the medians by a third of the spread passed every reject at an AUROC of 0.92."""
    known = 1 / (1 + np.exp(-np.concatenate([np.linspace(-2, -1.5, 70), np.linspace(-1.4, 0.5, 34)])))
    held_out = np.array([0.13, 0.13, 0.14, 0.14, 0.14, 0.15, 0.17, 0.22, 0.28, 0.35, 0.41, 0.43, 0.45, 0.48, 0.5, 0.54])
    assert threshold.moved_up(known, held_out).max() < known.max() + 0.04


def test_a_map_starts_from_rare_defects() -> None:
    """From even odds a placed map's answers to defects ended at even odds, and all rejects scored alike."""
    for place, low, high in (((64, 64), 0.002, 0.1), ((), 0.3, 0.7)):
        net = Net(2, verdict="decoder", stride=8, neck=0, place=place).eval()
        with torch.no_grad():
            _, found = net(torch.randn(1, 3, 64, 64))
        assert low < float(found.mean()) < high
