"""Do held-out pictures show that a network has learnt anything? In: counts and scores. Out: the sentence that begins
every report, why a network is not proven, the likely causes, and what to do.

A network is proven if, on pictures that it did not learn from,
- there are `LEAST_EACH` of each side at least,
- the 95 % interval of image AUROC lies above `CHANCE` (0.5 is a coin), and
- at the shipped threshold some defective picture is rejected, and some good one is not.

The interval of AUROC is Newcombe's (Statistics in Medicine 2006, 25:559, method 5), from the value and the two counts.
A bootstrap will not do here: where a few pictures happen to be told apart, every draw tells them apart, and its
interval is 1 to 1. Five of each, all told apart, have 0.64 to 1; four of each reach below 0.6, so `LEAST_EACH` is five.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from fcam_tools.common.errors import ToolError
from fcam_tools.data import kinds
from fcam_tools.measure.metrics import confusion, image_auroc
from fcam_tools.measure.operating import LEVEL, Interval, exact_interval

LEAST_EACH = 5
CHANCE, COIN = 0.6, 0.5
FEW = 50  # pictures of a class to learn from below which a product is a start only
FEW_HELD_OUT = 30  # held-out pictures of a side below which the intervals are wide
SHRUNK = 4.0  # times that pictures may be larger than the network's input before small marks are worth a word
LEARNT_BY_HEART = 0.9  # image AUROC on the training pictures from which they have been learnt
NOTHING = "learnt nothing; this says nothing about your parts"
LITTLE = "learnt hardly anything; this says little about your parts"
ACCEPT = "--accept-unproven"
MADE_UP = "made up: no real one was seen"  # of defects, in a manifest's provenance
# Said last by whoever shows figures of made-up defects.
ALONE = "it knows good parts alone: no figure here says what escapes; add rejects as they come, and train again"
CROSS = "cross-validation"  # the split of a pilot, whose threshold is the cheapest and ships with nothing


@dataclass(frozen=True)
class Figures:
    """What a network did to held-out pictures at the threshold that ships with it.

    `auroc` is None where one side has no pictures. `unit`: what is counted, parts, or pictures where several show one
    part. `made_up`: the defective ones are good pictures with made-up defects (made_up.py).
    """

    split: str
    good: int
    defective: int
    good_rejected: int
    defective_rejected: int
    threshold: float
    auroc: float | None
    unit: str = "parts"
    made_up: bool = False

    @property
    def spoilt(self) -> str:
        """What the defective ones are called."""
        return "pictures with made-up defects" if self.made_up else f"defective {self.unit}"

    @property
    def auroc_interval(self) -> Interval | None:
        return None if self.auroc is None else auroc_interval(self.auroc, self.good, self.defective)

    @property
    def escape_interval(self) -> Interval:
        return exact_interval(self.defective - self.defective_rejected, self.defective)

    def metrics(self) -> dict[str, float]:
        """As flat numbers, for a bundle's manifest; `figures_in` reads them."""
        out: dict[str, float] = {HELD_OUT + name: float(getattr(self, name)) for name in COUNTS}
        if self.auroc is not None and (interval := self.auroc_interval):
            out |= {"image_auroc": self.auroc, "image_auroc_low": interval[0], "image_auroc_high": interval[1]}
        if self.defective:
            out["shipped_escape_rate"] = 1 - self.defective_rejected / self.defective
        if self.good:
            out["shipped_false_reject_rate"] = self.good_rejected / self.good
        return out

    def provenance(self) -> dict[str, str]:
        """What `metrics` cannot say, for the same manifest."""
        told = {"held_out": sentence(self), "held_out_split": self.split, "held_out_unit": self.unit}
        return told | ({"defects": MADE_UP} if self.made_up else {})

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"auroc_interval": self.auroc_interval, "sentence": sentence(self)}


COUNTS = ("good", "defective", "good_rejected", "defective_rejected")
HELD_OUT = "held_out_"  # before their names in a manifest


@dataclass(frozen=True)
class Setting:
    """What a network learned from, as far as it tells why it did not: pictures of each side to learn from; the share
    of all pictures that is held out; (width, height) of the pictures and of the network's input; image
    AUROC on the training pictures; whether the last epoch was the best; whether there are made-up defects alone."""

    good: int
    defective: int
    share: float
    picture: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    train_auroc: float | None = None
    still_learning: bool = False
    more: str = "--epochs"  # what to train on with
    made_up: bool = False


def auroc_interval(auroc: float, good: int, defective: int) -> Interval:
    """The 95 % interval of an image AUROC of so many good and defective pictures; (0, 1) where a side has none."""
    if not good or not defective:
        return 0.0, 1.0
    z, more = float(norm.ppf((1 + LEVEL) / 2)), (good + defective) / 2 - 1

    def beyond(value: float) -> float:
        """Above zero outside the interval."""
        spread = 1 + more * (1 - value) / (2 - value) + more * value / (1 + value)
        return (auroc - value) ** 2 - z**2 * value * (1 - value) * spread / (good * defective)

    # At 0 and 1 the spread is zero: a value just inside has both ends beyond it.
    middle = min(max(auroc, 1e-9), 1 - 1e-9)
    low = brentq(beyond, 0.0, middle) if auroc > 0 else 0.0
    high = brentq(beyond, middle, 1.0) if auroc < 1 else 1.0
    return float(low), float(high)


def figures(
    scores: ArrayLike,
    bad: Sequence[int] | Any,
    threshold: float,
    split: str,
    unit: str = "parts",
    made_up: bool = False,
) -> Figures:
    """From defect scores [N] and 0 (good) or 1 (defective) [N] of a split."""
    if not len(bad):
        return Figures(split, 0, 0, 0, 0, threshold, None, unit, made_up)
    found = {name: int(value or 0) for name, value in confusion(scores, bad, threshold).items()}
    return Figures(
        split=split,
        good=found["ok_rejected"] + found["ok_accepted"],
        defective=found["defects_rejected"] + found["defects_accepted"],
        good_rejected=found["ok_rejected"],
        defective_rejected=found["defects_rejected"],
        threshold=threshold,
        auroc=image_auroc(scores, bad),
        unit=unit,
        made_up=made_up,
    )


def figures_of(row: Mapping[str, Any], split: str, unit: str = "parts", made_up: bool = False) -> Figures:
    """From what metrics.Scorer computes with a score threshold."""
    return Figures(
        split=split,
        good=int(row["shipped_ok_rejected"] + row["shipped_ok_accepted"]),
        defective=int(row["shipped_defects_rejected"] + row["shipped_defects_accepted"]),
        good_rejected=int(row["shipped_ok_rejected"]),
        defective_rejected=int(row["shipped_defects_rejected"]),
        threshold=float(row["shipped_threshold"]),
        auroc=row["image_auroc"],
        unit=unit,
        made_up=made_up,
    )


def figures_in(manifest: dict[str, Any]) -> Figures | None:
    """What a bundle's manifest says of itself; None if it says nothing, as other tools' bundles and older ones."""
    metrics, provenance = manifest.get("metrics", {}), manifest.get("provenance", {})
    if any(HELD_OUT + name not in metrics for name in COUNTS):
        return None
    counts = {name: int(metrics[HELD_OUT + name]) for name in COUNTS}
    split, unit = provenance.get("held_out_split", "test"), provenance.get("held_out_unit", "parts")
    auroc = metrics.get("image_auroc") if counts["good"] and counts["defective"] else None
    made_up, threshold = provenance.get("defects") == MADE_UP, manifest["thresholds"]["score"]
    return Figures(split=split, threshold=threshold, auroc=auroc, unit=unit, made_up=made_up, **counts)


def knows(classes: Sequence[str], provenance: Mapping[str, Any], wanted: Sequence[str]) -> bool:
    """Whether verdicts of a network with these classes, the OK one first, can be judged by pictures of the `wanted`
    ones; one that learned from good pictures alone tells good from bad, whatever the bad ones are called."""
    same = set(classes) == set(kinds.classes_of(wanted, kinds.joined_in(provenance)))
    return same or (provenance.get("defects") == MADE_UP and classes[0] == wanted[0])


def refuse_unknown(name: str, classes: Sequence[str], provenance: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """Refuses pictures of other classes than the network of this name `knows`."""
    if not knows(classes, provenance, wanted):
        known = kinds.shown(classes, kinds.joined_in(provenance))
        raise ToolError(f"{name} knows {known}; the data has {', '.join(wanted)}: take pictures of its classes")


def unit_of(groups: Sequence[str]) -> str:
    """What pictures with these groups count as: parts, unless two of them show one part."""
    parts = [group for group in groups if group.startswith("part:")]
    return "parts" if len(set(parts)) == len(parts) else "pictures"


# What is said.


def sentence(found: Figures) -> str:
    """What a person wants to know first."""
    threshold = f"the {'cheapest' if found.split == CROSS else 'shipped'} threshold {found.threshold:.4g}"
    return (
        f"of {found.defective} {found.spoilt} {verb(found.defective_rejected)} rejected, "
        f"of {found.good} good ones {found.good_rejected} ({where(found.split)}, at {threshold})"
    )


def verb(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"


def where(split: str) -> str:
    return {"test": "test split", "val": "val split", "train": "train split"}.get(split, split)


def quality(found: Figures) -> str:
    """The second sentence: image AUROC, and the pictures that it stands on."""
    kind = "with made-up defects" if found.made_up else "defective"
    return f"image AUROC {span(found)} on {found.good + found.defective} pictures, {found.defective} of them {kind}"


def marks(row: Mapping[str, Any], made_up: bool = False) -> str:
    """The third sentence, from what metrics.Scorer computes: PxAP, and the pictures that it stands on."""
    if row.get("pxap") is None:
        return "no PxAP: no defective picture has a mask"
    marked, good = int(row["defects_with_mask"]), int(row["pictures"] - row["defects"])
    whose = "a made-up" if made_up else "the"
    return (
        f"PxAP {row['pxap']:.1f} (0 to 100) on {marked + good} pictures, {marked} of them with a mask of {whose} defect"
    )


def span(found: Figures) -> str:
    if found.auroc is None or found.auroc_interval is None:
        return "unknown"
    low, high = found.auroc_interval
    return f"{found.auroc:.3f} (95 % interval {low:.3f} to {high:.3f})"


def doubt(found: Figures) -> str:
    """Why a network is not proven, in one sentence; empty if it is."""
    if min(found.good, found.defective) < LEAST_EACH:
        return (
            f"too few pictures are held out to say anything: {found.good} good and {found.defective} {short(found)} "
            f"({where(found.split)}), {LEAST_EACH} of each are the least"
        )
    low, _ = found.auroc_interval or (0.0, 1.0)
    if low <= CHANCE:
        pictures = f"{found.good} good and {found.defective} {short(found)} pictures ({where(found.split)})"
        verdict = NOTHING if low <= COIN else LITTLE
        return (
            f"{verdict}: image AUROC is {span(found)} on {pictures}; it must be surely above {CHANCE:g}, a coin has 0.5"
        )
    return blind(found)


def short(found: Figures) -> str:
    return "made-up defective" if found.made_up else "defective"


def blind(found: Figures) -> str:
    """What is wrong with a threshold that rejects nothing or everything; empty if it does neither."""
    at = f"at the threshold {found.threshold:.4g} ({where(found.split)})"
    if not found.defective_rejected:
        return f"everything passes: none of {found.defective} {found.spoilt} is rejected {at}"
    if found.good_rejected == found.good:
        return f"everything is rejected: all of {found.good} good {found.unit} are {at}"
    return ""


def causes(found: Figures, setting: Setting) -> list[str]:
    """What may be behind a doubt, or behind figures that are not good enough, as far as it can be seen; each says what
    to do."""
    if missing := held_out_missing(found, setting):
        return missing
    low, high = found.auroc_interval or (0.0, 1.0)
    if low > CHANCE and blind(found):
        if found.made_up:
            return [
                f"the threshold: with few good pictures held out ({found.good} here) it lies far above their scores; "
                "more good pictures bring it down, or `train --false-reject 0.1`"
            ]
        return ["the threshold: `train --false-reject` sets it, or prices do (`export --escape-cost --reject-cost`)"]
    out = []
    if high < COIN and not found.made_up:
        out.append("the folders are swapped: good pictures have the higher scores")
    least = min(found.good, found.defective)
    if (found.auroc or 0) > CHANCE and least < FEW_HELD_OUT:
        out.append(
            f"few pictures are held out ({found.good} good, {found.defective} {short(found)}): more would "
            f"show whether {found.auroc:.3f} is luck"
        )
    out += too_few(setting)
    learnt = setting.train_auroc if low <= CHANCE else None
    if learnt is not None and learnt >= LEARNT_BY_HEART:
        out.append(
            f"it knows its training pictures by heart (image AUROC {learnt:.2f} on them) and no others: "
            "more and more varied pictures help, or labels that differ between the splits are wrong"
        )
    elif learnt is not None:
        out.append(
            f"labels are mixed up, or nobody can see the defects in these pictures: even the training pictures are not "
            f"told apart (image AUROC {learnt:.2f} on them)"
        )
    if told := shrunk(setting.picture, setting.size):
        out.append(told)
    if setting.still_learning:
        out.append(f"it was still learning in its last epoch: train with more {setting.more}")
    return out


def held_out_missing(found: Figures, setting: Setting) -> list[str]:
    """How many pictures of which side it takes to hold out the least count."""
    out = []
    sides = [("good", found.good), ("defective", found.defective)]
    if found.made_up:  # a good one brings its own
        sides = [("good", min(found.good, found.defective))]
    for side, count in sides:
        if count < LEAST_EACH:
            more = math.ceil((LEAST_EACH - count) / setting.share) if setting.share else LEAST_EACH - count
            told = f", of which about {LEAST_EACH - count} will be held out"
            told = told if setting.share else " to the held-out pictures"
            out.append(f"{side} pictures are too few: add about {more} more{told}")
    return out


def too_few(setting: Setting) -> list[str]:
    sides = (("good", setting.good), ("defective", setting.defective))[: 1 if setting.made_up else 2]
    return [
        f"too few {side} pictures: {count} to learn from, {FEW} are a start: add about {FEW - count} more"
        for side, count in sides
        if count < FEW
    ]


def shrunk(picture: tuple[int, int], size: tuple[int, int]) -> str:
    """What is lost where pictures (width, height) are much larger than the network's input; empty if they are not."""
    if not all(picture) or not all(size):
        return ""
    times = max(side / own for side, own in zip(picture, size, strict=True))
    if times < SHRUNK:
        return ""
    return (
        f"the marks are too small: pictures of {picture[0]} x {picture[1]} become {size[0]} x {size[1]}, so that a "
        f"mark of {times:.0f} pixels is a single one: crop to the ROI, cut it into tiles, or train with a larger --size"
    )


def told(found: Figures, setting: Setting, source: str, why: str = "") -> str:
    """The refusal for people, some lines: the doubt, what may be behind it, the next command."""
    first = why or doubt(found)
    if missing := held_out_missing(found, setting):
        return "\n  ".join([first, *missing, f"next: add them to {source}, and train again"])
    maybe = [f"perhaps {cause}" for cause in causes(found, setting)]
    following = f"next: `fcam-tools inspect {source} --html inspect.html` shows labels that look wrong"
    if found.made_up:
        following = f"next: add good pictures to {source}, or rejects, or train with more --outline-steps"
    return "\n  ".join([first, *maybe, following])


# For the verbs.


def add_accept_argument(parser: argparse.ArgumentParser, where: str) -> None:
    told = f"go on though held-out pictures do not show that anything was learnt, which {where}"
    parser.add_argument(ACCEPT, action="store_true", help=told)


def end(verb: str, refusal: str, accepted: bool) -> int:
    """Says why a network is not proven, after all is written; the exit code: 1, or 0 where that is accepted."""
    hint = f"{ACCEPT}: it goes on, and the bundle will say so"
    if not accepted:
        hint = f"`export` would refuse it; {ACCEPT} goes on, and the bundle will say so"
    print(f"fcam-tools {verb}: {refusal}; {hint}", file=sys.stderr)
    return int(not accepted)
