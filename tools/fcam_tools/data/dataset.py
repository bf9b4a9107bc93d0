"""What training sees. In: labelled pictures. Out: `Dataset`, by split; no mask, no box, and no way to one.

Pixel labels live in `fcam_tools.judge.truth`, which reads the same sets for `evaluate` alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fcam_tools.common.errors import ToolError

SPLITS = ("train", "val", "test")

Splits = dict[str, tuple["Picture", ...]]


@dataclass(frozen=True)
class Picture:
    """A file and its label, an index into the data set's classes.

    `labels`: every class seen in it, where a set says more than one (else just `label`, which is their lowest).
    `group`: the part, folder or day that it shares with others, as `KIND:KEY`; empty for a picture on its own.
    """

    path: Path
    label: int
    labels: tuple[int, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", (self.label,))


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures by split. `classes[0]` is the OK class, without pictures in a set of things, not of defects.

    `layout` and `option` are what the set was loaded by, see `fcam_tools.data.load`. `good_alone`: no reject was seen;
    pictures of the second class, if there are any, are made up. `joined`: the classes that a network learns as one
    (kinds.py); here they are still apart.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: Splits
    layout: str = "tree"
    option: str = ""
    good_alone: bool = False
    joined: tuple[str, ...] = ()

    @property
    def ok(self) -> str:
        return self.classes[0]

    def pictures(self) -> tuple[Picture, ...]:
        return tuple(picture for split in SPLITS for picture in self.splits[split])

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures by split and class; one with several labels counts for its first."""
        out = {split: dict.fromkeys(self.classes, 0) for split in SPLITS}
        for split in SPLITS:
            for picture in self.splits[split]:
                out[split][self.classes[picture.label]] += 1
        return out

    def fingerprint(self) -> str:
        """SHA-256 over the sorted relative paths, labels and bytes of all pictures but made-up ones."""
        total = hashlib.sha256()
        for split in SPLITS:
            seen = [p for p in self.splits[split] if not (self.good_alone and p.label)]
            for picture in sorted(seen, key=lambda p: p.path):
                label = "+".join(self.classes[index] for index in picture.labels)
                total.update(f"{split}/{label}/{picture.path.name}".encode())
                total.update(hashlib.sha256(picture.path.read_bytes()).digest())
        return total.hexdigest()


def checked(dataset: Dataset, ok_needed: bool = False) -> Dataset:
    """The data set, if it can be trained on: every class in train and in val, of good pictures alone the good ones."""
    counts = dataset.counts()
    has_ok = any(counts[split][dataset.ok] for split in SPLITS)
    if ok_needed and not has_ok:
        raise ToolError(
            f"{dataset.root} has no OK pictures: an inspection needs some to tell defects from; for a set of "
            "things there is `train --recipe fcam-paper`"
        )
    for split in ("train", "val"):
        needed = dataset.classes[:1] if dataset.good_alone else dataset.classes[not has_ok :]
        missing = [name for name in needed if not counts[split][name]]
        if missing:
            raise ToolError(
                f"split `{split}` of {dataset.root} has no pictures of {missing}{hint(dataset)}: "
                "add some, or remove the class"
            )
    return dataset


def hint(dataset: Dataset) -> str:
    """Names the layouts that keep defects out of their train split on purpose."""
    defects_only_in_test = dataset.layout == "tree" and not any(p.label for p in dataset.splits["train"])
    return " (MVTec AD, BTAD or VisA? say mvtec:PATH, btad:PATH, visa:PATH)" if defects_only_in_test else ""
