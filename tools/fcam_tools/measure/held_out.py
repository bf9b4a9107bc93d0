"""What a data set and a checkpoint tell of why a network may not have learnt. In: both. Out: judgement.py's `Setting`,
and the split that a bundle is judged on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fcam_tools.data import Dataset, Picture
from fcam_tools.data.reading import size_of
from fcam_tools.measure.judgement import LEAST_EACH, Setting, unit_of

SIZES_OF = 200  # pictures whose size is looked at, evenly taken: one camera has one


def sides(pictures: Sequence[Picture]) -> tuple[int, int]:
    """How many are good, and how many are defective."""
    bad = sum(picture.label != 0 for picture in pictures)
    return len(pictures) - bad, bad


def split_for(dataset: Dataset) -> str:
    """The split that a bundle is judged on: test, which chose nothing; val where test has too few of a side."""

    def least(split: str) -> int:
        return min(sides(dataset.splits[split]))

    return "test" if least("test") >= min(LEAST_EACH, least("val")) else "val"


def unit_in(pictures: Sequence[Picture]) -> str:
    return unit_of([picture.group for picture in pictures])


def common_size(pictures: Sequence[Picture]) -> tuple[int, int]:
    """Width and height that most of the pictures have; zeros for none."""
    some = pictures[:: max(1, len(pictures) // SIZES_OF)]
    found = Counter(size_of(picture.path) for picture in some).most_common(1)
    return found[0][0] if found else (0, 0)


def setting_of(dataset: Dataset, split: str, size: tuple[int, int], saved: Mapping[str, Any]) -> Setting:
    """`split` is the held-out one, `size` the network's input (width, height), `saved` the checkpoint's content."""
    learnt, whole = sides(dataset.splits["train"]), dataset.pictures()
    held, every = (sides(some)[0] if dataset.good_alone else len(some) for some in (dataset.splits[split], whole))
    epochs = saved.get("recipe", {}).get("epochs")
    return Setting(
        good=learnt[0],
        defective=learnt[1],
        share=held / max(1, every),
        picture=common_size(dataset.splits["train"]),
        size=size,
        train_auroc=saved.get("judgement", {}).get("train_auroc"),
        still_learning=bool(epochs) and saved.get("training", {}).get("epoch") == epochs,
        made_up=dataset.good_alone,
    )


def source_of(dataset: Dataset) -> str:
    """The data set as a verb takes it."""
    if dataset.layout in ("tree", "elpv"):
        return str(dataset.root) if dataset.layout == "tree" else "elpv"
    return f"{dataset.layout}:{dataset.root}" + (f"#{dataset.option}" if dataset.option else "")
