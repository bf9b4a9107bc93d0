"""Folds of a cross-validation. In: labelled pictures. Out: shares of them, each class in each, groups undivided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, Picture
from fcam_tools.train.feed import key_of


def folds_of(pictures: Sequence[Picture], count: int, seed: int, least_each: int = 2) -> list[list[Picture]]:
    """`count` folds with shares of each class as equal as groups allow, which are not divided.

    Refuses a class with fewer than `least_each` groups a fold.
    """
    folds: list[list[Picture]] = [[] for _ in range(count)]
    rng = np.random.default_rng(key_of("folds", seed))
    for label, own in by_label(pictures).items():
        if len(own) < least_each * count:
            raise ToolError(
                f"a class has {len(own)} pictures (those of one part, folder or day, and copies, count once), {count} "
                f"folds need {least_each * count}: add some or --folds 2"
            )
        for index in rng.permutation(len(own)):
            least_of_it = min(folds, key=lambda fold: sum(picture.label == label for picture in fold))
            least_of_it.extend(own[index])
    return folds


def by_label(pictures: Sequence[Picture]) -> dict[int, list[list[Picture]]]:
    """Groups by the highest of their labels; a picture on its own is one."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.group or str(picture.path), []).append(picture)
    out: dict[int, list[list[Picture]]] = {}
    for group in groups.values():
        out.setdefault(max(picture.label for picture in group), []).append(group)
    return dict(sorted(out.items()))


def thinned(pictures: Sequence[Picture], share: float, seed: int) -> list[Picture]:
    """A share of each class's groups, two at least; a larger share holds the smaller one."""
    rng = np.random.default_rng(key_of("thinned", seed))
    return [
        picture
        for own in by_label(pictures).values()
        for index in rng.permutation(len(own))[: max(2, round(share * len(own)))]
        for picture in own[index]
    ]


def dataset_for(whole: Dataset, rest: Sequence[Picture], seed: int) -> Dataset:
    """What a fold's network learns from: a sixth of the rest is for validation."""
    each = least_each(whole)
    val, *train_folds = folds_of(rest, 6 if least(rest) >= 12 or not each else 2, seed + 1, each)
    splits = {"train": tuple(p for fold in train_folds for p in fold), "val": tuple(val), "test": ()}
    return replace(whole, splits=splits)


def least_each(whole: Dataset) -> int:
    """Groups of a class that a fold needs: none where thin kinds are learnt as one, and their folders may be tiny."""
    return 0 if whole.joined else 2


def least(pictures: Sequence[Picture]) -> int:
    """Groups of the class that has the fewest."""
    return min(len(own) for own in by_label(pictures).values())
