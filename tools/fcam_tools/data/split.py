"""Which pictures train, choose and test. In: pictures, with their groups. Out: train, val and test, the same anywhere.

Two ways, both by SHA-256, neither random: `by_hash` for one's own pictures (70/15/15; a picture keeps its split when
others come and go), `ranked` for published sets (exact shares within each class). A group is never divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fcam_tools.data.dataset import SPLITS, Picture, Splits

Shares = tuple[float, float, float]  # of train, val and test

WHOLE: Shares = (0.7, 0.15, 0.15)
VAL_OF_TRAIN: Shares = (0.85, 0.15, 0.0)
# Sets whose train split holds good pictures only: this is what becomes of the defects of their test split.
DEFECTS_OF_TEST: Shares = (0.5, 0.2, 0.3)


def split_of(key: bytes) -> str:
    """70 % train, 15 % val, 15 % test, by hash."""
    bucket = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % 100
    return "train" if bucket < 70 else "val" if bucket < 85 else "test"


def key_of(picture: Picture) -> bytes:
    """What a picture of one's own is split by: its group, or its bytes, so that a copy lands where its original is."""
    if picture.group:
        return picture.group.encode()
    try:
        return picture.path.read_bytes()
    except OSError:  # a link to nowhere, say: whoever reads the picture names it
        return picture.path.name.encode()


def by_hash(pictures: Sequence[Picture]) -> Splits:
    out: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for picture in pictures:
        out[split_of(key_of(picture))].append(picture)
    return {split: tuple(found) for split, found in out.items()}


def without_val(pictures: Sequence[Picture]) -> Splits:
    """Training pictures, 15 % of them taken for validation by hash of their group or bytes."""
    taken = {p.path for p in pictures if split_of(key_of(p)) == "val"}
    return {
        "train": tuple(p for p in pictures if p.path not in taken),
        "val": tuple(p for p in pictures if p.path in taken),
    }


def ranked(pictures: Sequence[Picture], root: Path, shares: Shares = WHOLE) -> Splits:
    """Within each class, groups in the order of their keys' hashes: the first share to train, the next to val, the rest
    to test. A group counts for the highest of its labels; a picture on its own is a group by its path under `root`.
    Two groups are enough for train and val."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.group or picture.path.relative_to(root).as_posix(), []).append(picture)
    by_class: dict[int, list[str]] = {}
    for key in sorted(groups, key=lambda key: hashlib.sha256(key.encode()).digest()):
        by_class.setdefault(max(p.label for p in groups[key]), []).append(key)
    out: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for names in by_class.values():
        for split, part in zip(SPLITS, cut(names, shares), strict=True):
            out[split] += [picture for key in part for picture in groups[key]]
    return {split: tuple(sorted(found, key=lambda p: p.path)) for split, found in out.items()}


def cut(names: Sequence[str], shares: Shares) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    first = min(max(1, round(len(names) * shares[0])), max(1, len(names) - 1))
    second = len(names) if not shares[2] else first + max(1, round(len(names) * shares[1]))
    return names[:first], names[first:second], names[second:]


def joined(*parts: Splits) -> Splits:
    return {split: tuple(p for part in parts for p in part.get(split, ())) for split in SPLITS}


def filled(splits: Splits) -> Splits:
    """A class whose few pictures all fell into train gives its last group, by hash, to val and the one before to test.
    Nothing moves where every split has the class already, which is so for all but small classes."""
    out = {split: list(found) for split, found in splits.items()}
    for label in sorted({p.label for found in splits.values() for p in found}):
        for split in ("val", "test", "train"):
            if split in out and not any(p.label == label for p in out[split]):
                move_last(out, label, split)
    return {split: tuple(found) for split, found in out.items()}


def move_last(splits: dict[str, list[Picture]], label: int, to: str) -> None:
    """Moves the class's last group from the split that has most of them, if it has two at least."""

    def groups(split: str) -> set[bytes]:
        return {key_of(p) for p in splits[split] if p.label == label}

    source = max(splits, key=lambda split: len(groups(split)))
    if len(groups(source)) < 2:
        return
    last = max(groups(source), key=lambda key: hashlib.sha256(key).digest())
    splits[to] += [p for p in splits[source] if key_of(p) == last]
    splits[source] = [p for p in splits[source] if key_of(p) != last]
