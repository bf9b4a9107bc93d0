"""Which kinds of reject a network learns as one class. In: a data set by its folders. Out: the same by the network's
classes.

A kind with few training pictures is told from the others by chance, and takes its share of the classifier all the same.
Such kinds are learnt together, as `DEFECT`, or as the folder of that name if there is one. The data set stays as it
lies on disk, so that every report names the kinds: whoever asks a network maps it here. The names of the joined kinds
are `Dataset.joined` in training; checkpoint and manifest carry them in their provenance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fcam_tools.common.errors import ToolError
from fcam_tools.data.dataset import Dataset, Picture
from fcam_tools.data.tree import DEFECT

CHOICES = ("auto", "all", "one")
ENOUGH = 40  # training pictures from which a kind is a class of its own; chosen, not measured
HELP = (
    f"auto: kinds of reject with under {ENOUGH} training pictures are learnt as one class, `{DEFECT}`; all: each kind "
    "is a class; one: all kinds are one (default: that of --start, else auto for the recipe native, all for others)"
)
BETWEEN = " / "  # names in the provenance: a folder's name holds no slash


def joined(dataset: Dataset, how: str) -> tuple[str, ...]:
    """The kinds that are learnt as one class: with `auto` those with few pictures, with `one` every kind."""
    if how not in CHOICES:
        raise ToolError(f"no --kinds {how}: choose one of {', '.join(CHOICES)}")
    if how == "all":
        return ()
    if all(picture.label for picture in dataset.pictures()):
        raise ToolError(
            f"{dataset.root} has no good pictures, so that its classes are all there is to learn: leave out --kinds"
        )
    kinds, counts = dataset.classes[1:], training_pictures(dataset)
    few = [kind for kind in kinds if how == "one" or counts[kind] < ENOUGH]
    if all(is_defect(kind) for kind in few):
        return ()
    found = tuple(kind for kind in kinds if kind in few or is_defect(kind))
    return found if len(found) > 1 else ()


def training_pictures(dataset: Dataset) -> dict[str, int]:
    """How many pictures show each kind; one of several kinds counts for each of them."""
    pictures = dataset.splits["train"]
    return {name: sum(label in p.labels for p in pictures) for label, name in enumerate(dataset.classes)}


def is_defect(kind: str) -> bool:
    return kind.lower() == DEFECT


def name_of(joined: Sequence[str]) -> str:
    """What the joined kinds are called together."""
    return next((kind for kind in joined if is_defect(kind)), DEFECT)


def told(dataset: Dataset) -> str:
    """What is learnt as one, and how to have it otherwise."""
    counts = training_pictures(dataset)
    names = ", ".join(f"{kind} ({counts[kind]})" for kind in dataset.classes if kind in dataset.joined)
    return (
        f"learnt as one class, `{name_of(dataset.joined)}`: {names}; a kind is a class of its own from {ENOUGH} "
        "training pictures on, or with --kinds all"
    )


def written(joined: Sequence[str]) -> dict[str, str]:
    """The joined kinds as an entry of a provenance; `joined_in` reads it back."""
    return {"joined": BETWEEN.join(joined)} if joined else {}


def joined_in(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """The joined kinds of a provenance; none where the network has a class for each kind."""
    return tuple(provenance["joined"].split(BETWEEN)) if provenance.get("joined") else ()


def classes_of(kinds: Sequence[str], joined: Sequence[str]) -> tuple[str, ...]:
    """The network's classes for folders of these names, in their order."""
    return tuple(dict.fromkeys(name_of(joined) if kind in joined else kind for kind in kinds))


def seen(dataset: Dataset) -> Dataset:
    """The data set with the classes of a network that learns its `joined` kinds as one."""
    classes = classes_of(dataset.classes, dataset.joined)
    place = [classes.index(classes_of([kind], dataset.joined)[0]) for kind in dataset.classes]

    def relabelled(picture: Picture) -> Picture:
        labels = tuple(sorted({place[label] for label in picture.labels}))
        return replace(picture, label=labels[0], labels=labels)

    splits = {split: tuple(map(relabelled, pictures)) for split, pictures in dataset.splits.items()}
    return replace(dataset, classes=classes, splits=splits, joined=())


def shown(classes: Sequence[str], joined: Sequence[str]) -> str:
    """The classes of a network, in words."""
    together = f" ({name_of(joined)}: {', '.join(joined)})" if joined else ""
    return f"{', '.join(classes)}{together}"
