"""The pilot's report. In: what `pilot` found. Out: one HTML page, self-contained: pictures are inlined, no network.

The page itself is templates/pilot.html; what it shows is made here. Every figure says on which pictures it was taken
and what chose it. Curves are matplotlib's (PNG), overlays are JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

from fcam_tools import data
from fcam_tools.common import run_folder
from fcam_tools.judge.compare import overlay
from fcam_tools.judge.found import Judged, Pilot
from fcam_tools.judge.page import Inline, render

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

COLOURS = {"go": "#1a7f37", "more data": "#9a6700", "no": "#b42318"}
UNPROVEN = "#59636e"
NAMES = {
    "image_auroc": "image AUROC", "image_ap": "image AP", "pxap": "PxAP (0 to 100)", "pixel_auroc": "pixel AUROC",
    "aupro_030": "AUPRO to a false-positive rate of 0.3", "max_box_acc_v2": "MaxBoxAccV2 (0 to 100)",
    "iou_fixed": "IoU at the map's threshold",
}  # fmt: skip
# What is drawn of a fold's training: stage, number, title. The stages are the recipe's.
TWO_STAGES = (
    ("classifier", "loss", "classifier's loss"), ("classifier", "val_auroc", "image AUROC, validation"),
    ("decoder", "val_weak_loss", "decoder's loss, validation"),
)  # fmt: skip
NATIVE = (
    ("outlines", "pasted", "outlines: loss on made-up defects"), ("labels", "label", "labels: the verdict's loss"),
    ("labels", "val_auroc", "labels: image AUROC, validation"),
)  # fmt: skip
SHOWN = 6  # overlays of each kind
SIDE = 160


def page(found: Pilot, judged: Judged) -> str:
    return render(
        "pilot.html",
        found=found,
        colour=COLOURS.get(found.verdict["verdict"], UNPROVEN),
        rates=rates(found),
        curves=curves(found, judged),
        quality=quality(found),
        confusion=confusion(found),
        training=training(found),
        learning=learning(found),
        learning_rows=learning_rows(found),
        robustness=robustness(found),
        boards=boards(found),
        pictures=pictures(found, judged),
        tool=run_folder.tool(),
    )


def span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def figure(drawn: Figure) -> Inline:
    out = io.BytesIO()
    drawn.tight_layout()
    drawn.savefig(out, format="png", dpi=90)
    plt.close(drawn)
    return Inline(out.getvalue())


# The tables.


def rates(found: Pilot) -> list[list[Any]]:
    point = found.point
    return [
        [name.replace("_", " "), point[f"{name}_rate"], span(point[f"{name}_interval"]), point[f"unseen_{name}_rate"]]
        for name in ("escape", "false_reject")
    ]


def quality(found: Pilot) -> list[list[Any]]:
    metrics = found.metrics
    rows = [[NAMES[n], metrics[n], span(metrics[f"{n}_interval"])] for n in ("image_auroc", "image_ap")]
    names = [name for name in metrics if not name.startswith("image_")]
    return rows + [[NAMES.get(name, name), metrics[name], ""] for name in names]


def confusion(found: Pilot) -> list[list[Any]]:
    head = ["class", *next(iter(found.confusion.values()))]
    return [head, *([name, *row.values()] for name, row in found.confusion.items())]


def learning_rows(found: Pilot) -> list[list[Any]]:
    names = ("pictures", "defects", "image_auroc", "escape_rate", "false_reject_rate", "error")
    head = [NAMES.get(name, name.replace("_", " ")) for name in names]
    return [head, *([point[name] for name in names] for point in found.learning)]


def boards(found: Pilot) -> list[list[str]]:
    rows = []
    for name, board in found.latency["boards"].items():
        fast, slow = board["ms"]
        rows.append([name, f"{fast:.1f}" if fast == slow else f"{fast:.0f} to {slow:.0f}", board["source"]])
    return rows


# The pictures.


def curves(found: Pilot, judged: Judged) -> Inline:
    bad, point = judged.bad, found.point
    reject, caught, _ = roc_curve(bad, judged.scores)
    drawn, (first, second, third) = plt.subplots(1, 3, figsize=(10.5, 3.4))
    first.plot(reject, 1 - caught, drawstyle="steps-post")
    first.plot(point["false_reject_rate"], point["escape_rate"], "o", color="#b42318", label="operating point")
    first.axhline(found.goals.escape, color="grey", lw=0.7, ls=":")
    first.axvline(found.goals.reject, color="grey", lw=0.7, ls=":")
    first.set(xlabel="false-reject rate", ylabel="escape rate", title="escapes against false rejects")
    first.set(xlim=(-0.02, 1), ylim=(-0.02, 1))
    first.legend(frameon=False)
    precision, recall, _ = precision_recall_curve(bad, judged.scores)
    second.plot(recall, precision)
    second.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.02))
    bins = np.linspace(0, 1, 31)
    third.hist(judged.scores[bad == 0], bins, alpha=0.6, label="OK")
    third.hist(judged.scores[bad == 1], bins, alpha=0.6, label="defective")
    third.axvline(point["threshold"], color="#b42318")
    third.set(xlabel="defect score", ylabel="pictures", yscale="log", title="scores")
    third.yaxis.set_major_formatter(ScalarFormatter())
    third.yaxis.set_minor_formatter(NullFormatter())
    third.legend(frameon=False)
    return figure(drawn)


def training(found: Pilot) -> Inline:
    """How each fold's network learnt: what was optimised, and what chose the epoch."""
    drawn, axes = plt.subplots(1, 3, figsize=(10.5, 3))
    panels = NATIVE if found.recipe.get("objective") == "native" else TWO_STAGES
    for axis, (stage, name, title) in zip(axes, panels, strict=True):
        for number, history in enumerate(found.curves, 1):
            epochs = [entry for entry in history if entry["stage"] == stage]
            axis.plot([e["epoch"] for e in epochs], [e[name] for e in epochs], "o-", ms=3, label=f"fold {number}")
        last = max(
            (entry["epoch"] for history in found.curves for entry in history if entry["stage"] == stage), default=1
        )
        axis.set(xlabel="epoch", title=title, xlim=(0.5, last + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].legend(frameon=False)
    return figure(drawn)


def learning(found: Pilot) -> Inline:
    points = found.learning
    drawn, axis = plt.subplots(figsize=(5, 3.2))
    for name in ("escape_rate", "false_reject_rate", "error"):
        axis.plot([p["pictures"] for p in points], [p[name] for p in points], "o-", label=name.replace("_", " "))
    axis.set(xlabel="pictures to learn from", ylabel="rate, first fold", xscale="log", ylim=(0, None))
    axis.set_xticks([p["pictures"] for p in points], [str(p["pictures"]) for p in points])
    axis.minorticks_off()
    axis.legend(frameon=False)
    return figure(drawn)


def robustness(found: Pilot) -> Inline:
    rows = found.robustness
    plain, names = rows[0], list(dict.fromkeys(row["corruption"] for row in rows[1:]))
    values = {(row["corruption"], row["severity"]): row for row in rows}
    drawn, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), sharey=True)
    for axis, metric in zip(axes, ("image_auroc", "escape_rate", "false_reject_rate"), strict=True):
        grid = np.array([[values[name, level][metric] for level in (1, 2, 3)] for name in names], np.float64)
        good = metric == "image_auroc"
        axis.imshow(grid, vmin=0.5 if good else 0, vmax=1, cmap="RdYlGn" if good else "RdYlGn_r", aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            dark = abs(value - (0.75 if good else 0.5)) > (0.18 if good else 0.36)  # either end of the colours
            axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
        axis.set_xticks(range(3), ["normal", "bad day", "fault"])
        axis.set_yticks(range(len(names)), names)
        axis.set_title(f"{NAMES.get(metric, metric.replace('_', ' '))} (undisturbed {plain[metric]:.2f})", fontsize=9)
    return figure(drawn)


def pictures(found: Pilot, judged: Judged) -> list[tuple[str, int, list[tuple[Inline, str]]]]:
    """For each kind of answer its title, how many there are, and the first ones."""
    bad, scores, threshold = judged.bad == 1, judged.scores, found.point["threshold"]
    rising = np.argsort(scores, kind="stable")
    kinds = {
        "Best: defects that were surest": [i for i in rising[::-1] if bad[i] and scores[i] >= threshold],
        "Worst: escapes, the surest mistakes first": [i for i in rising if bad[i] and scores[i] < threshold],
        "Worst: good parts rejected": [i for i in rising[::-1] if not bad[i] and scores[i] >= threshold],
    }
    return [(title, len(all_), [tile(found, judged, int(i)) for i in all_[:SHOWN]]) for title, all_ in kinds.items()]


def tile(found: Pilot, judged: Judged, index: int) -> tuple[Inline, str]:
    """A picture beside itself with its map, and the caption."""
    path = judged.pictures[index].path
    height, width = judged.maps.shape[1:]
    side = SIDE / max(width, height)
    pixels = data.read_picture(path, (round(width * side), round(height * side)))
    marked = overlay(pixels, judged.maps[index] / np.float32(255), found.recipe["map_threshold"], (255, 140, 0))
    out = io.BytesIO()
    Image.fromarray(np.concatenate([pixels, marked], axis=1)).save(out, "JPEG", quality=85)
    name = list(found.counts)[int(judged.labels[index])]
    return Inline(out.getvalue(), "jpeg"), f"{name}: {path.name}, score {judged.scores[index]:.3f}"
