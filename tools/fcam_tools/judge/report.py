"""The pilot's report. In: what `pilot` found. Out: one HTML page, self-contained: pictures are inlined, no network.

Every figure says on which pictures it was taken and what chose it. Curves are matplotlib's (PNG), overlays are JPEG.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

from fcam_tools import data
from fcam_tools.common import run_folder
from fcam_tools.judge.compare import overlay
from fcam_tools.judge.found import Judged, Pilot

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

MAP_THRESHOLD = 0.5
COLOURS = {"go": "#1a7f37", "more data": "#9a6700", "no": "#b42318"}
UNPROVEN = "#59636e"
NAMES = {
    "image_auroc": "image AUROC", "image_ap": "image AP", "pxap": "PxAP (0 to 100)", "pixel_auroc": "pixel AUROC",
    "aupro_030": "AUPRO to a false-positive rate of 0.3", "max_box_acc_v2": "MaxBoxAccV2 (0 to 100)",
    "iou_fixed": f"IoU at the map threshold {MAP_THRESHOLD:g}",
}  # fmt: skip
CURVES = {
    "loss": "classifier's loss", "val_auroc": "image AUROC, validation", "val_weak_loss": "decoder's loss, validation",
}  # fmt: skip
SHOWN = 6  # overlays of each kind
SIDE = 160
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#1f2328}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #d0d7de;text-align:right}
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.3em;font-size:12px;text-align:center}
.verdict{color:#fff;padding:.8em 1.2em;border-radius:6px;font-size:1.2em}.note{color:#59636e;font-size:13px}"""


def page(found: Pilot, judged: Judged) -> str:
    colour = COLOURS.get(found.verdict["verdict"], UNPROVEN)
    perhaps = "".join(f"<li>perhaps {html.escape(cause)}</li>" for cause in found.verdict.get("perhaps", []))
    parts = [
        f"<h1>Pilot: {html.escape(found.data)}</h1>",
        *(f"<p>{html.escape(line)}</p>" for line in found.first),
        f'<p class="verdict" style="background:{colour}">{html.escape(found.headline)}</p>',
        f"<ul>{perhaps}</ul>" if perhaps else "",
        setting(found),
        operating_part(found, judged),
        quality(found),
        confusion(found),
        training(found),
        learning(found),
        robustness(found),
        latency(found),
        overlays(found, judged),
        f'<p class="note">Made by fcam-tools {run_folder.tool()}; recipe: {html.escape(str(found.recipe))}</p>',
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pilot: {html.escape(found.data)}</title>'
        f"<style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


# Building blocks.


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def text(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def inline(content: bytes, kind: str, width: int | None = None) -> str:
    size = f' width="{width}"' if width else ""
    return f'<img{size} alt="" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def figure(drawn: Figure) -> str:
    out = io.BytesIO()
    drawn.tight_layout()
    drawn.savefig(out, format="png", dpi=90)
    plt.close(drawn)
    return inline(out.getvalue(), "png")


# The sections.


def setting(found: Pilot) -> str:
    counts = ", ".join(f"{count} {html.escape(name)}" for name, count in found.counts.items())
    prices = found.prices
    assumed = " (assumed: the two rates weigh the same; give --escape-cost, --reject-cost and --ng-rate)"
    return (
        f"<p>{sum(found.counts.values())} pictures: {counts}. {found.folds}-fold cross-validation: every picture is "
        f"judged by a network that never saw it. Goals: escapes at most {found.goals.escape:g}, false rejects at most "
        f"{found.goals.reject:g}. An escape costs {prices.escape:g}, a false reject {prices.reject:g}, "
        f"{prices.ng_rate:g} of the parts are defective{assumed if found.assumed else ''}.</p>"
    )


def operating_part(found: Pilot, judged: Judged) -> str:
    point = found.point
    rows = [
        [name.replace("_", " "), point[f"{name}_rate"], span(point[f"{name}_interval"]), point[f"unseen_{name}_rate"]]
        for name in ("escape", "false_reject")
    ]
    told = table(["rate", "on these pictures", "95 % interval (exact)", "on pictures that did not choose it"], rows)
    low, high = point["threshold_interval"]
    return (
        f"<h2>Operating point</h2><p>Reject at a score of {point['threshold']:.4f} or more (95 % bootstrap interval "
        f"{low:.4f} to {high:.4f}): the cheapest threshold, {point['cost']:.4g} a part.</p>{told}"
        f"{curves(found, judged)}"
    )


def curves(found: Pilot, judged: Judged) -> str:
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


def quality(found: Pilot) -> str:
    metrics = found.metrics
    rows = [[NAMES[n], metrics[n], span(metrics[f"{n}_interval"])] for n in ("image_auroc", "image_ap")]
    names = [name for name in metrics if not name.startswith("image_")]
    rows += [[NAMES.get(name, name), metrics[name], ""] for name in names]
    told = table(["metric", "value", "95 % interval (bootstrap)"], rows)
    if not found.oracle:
        return f"<h2>Quality</h2>{told}<p class='note'>There are no masks: how well maps fit is not measured.</p>"
    weak, best = found.oracle["pxap_chosen_by_labels"], found.oracle["pxap_oracle"]
    return (
        f"<h2>Quality</h2>{told}<p>Maps were chosen with image labels alone: PxAP {weak:.2f} (mean over folds). "
        f"An <b>oracle</b>, the decoder's epoch chosen with masks, would have had {best:.2f}; a line has no masks.</p>"
    )


def confusion(found: Pilot) -> str:
    head = ["class", *next(iter(found.confusion.values()))]
    rows = [[name, *row.values()] for name, row in found.confusion.items()]
    return f"<h2>Confusion</h2>{table(head, rows)}"


def training(found: Pilot) -> str:
    """How each fold's network learnt: what was optimised, and what chose the epoch."""
    drawn, axes = plt.subplots(1, 3, figsize=(10.5, 3))
    panels = (("classifier", "loss"), ("classifier", "val_auroc"), ("decoder", "val_weak_loss"))
    for axis, (stage, name) in zip(axes, panels, strict=True):
        for number, history in enumerate(found.curves, 1):
            epochs = [entry for entry in history if entry["stage"] == stage]
            axis.plot([e["epoch"] for e in epochs], [e[name] for e in epochs], "o-", ms=3, label=f"fold {number}")
        last = max(
            (entry["epoch"] for history in found.curves for entry in history if entry["stage"] == stage), default=1
        )
        axis.set(xlabel="epoch", title=CURVES[name], xlim=(0.5, last + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].legend(frameon=False)
    return (
        f"<h2>Training</h2>{figure(drawn)}<p class='note'>The best epoch of the second and of the third curve was "
        "kept; both are of image labels alone. A curve that still climbs or falls at its end asks for more "
        "--epochs.</p>"
    )


def learning(found: Pilot) -> str:
    points = found.learning
    drawn, axis = plt.subplots(figsize=(5, 3.2))
    for name in ("escape_rate", "false_reject_rate", "error"):
        axis.plot([p["pictures"] for p in points], [p[name] for p in points], "o-", label=name.replace("_", " "))
    axis.set(xlabel="pictures to learn from", ylabel="rate, first fold", xscale="log", ylim=(0, None))
    axis.set_xticks([p["pictures"] for p in points], [str(p["pictures"]) for p in points])
    axis.minorticks_off()
    axis.legend(frameon=False)
    names = ("pictures", "defects", "image_auroc", "escape_rate", "false_reject_rate", "error")
    told = table(
        [NAMES.get(name, name.replace("_", " ")) for name in names], [[p[name] for name in names] for p in points]
    )
    return (
        f"<h2>Is more data worth it?</h2>{figure(drawn)}{told}<p class='note'>First fold only; rates at the cheapest "
        "threshold, on pictures that did not choose it (bootstrap). Few points on few pictures: a direction, "
        "no promise.</p>"
    )


def robustness(found: Pilot) -> str:
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
    return (
        f"<h2>What a line does to pictures</h2>{figure(drawn)}<p class='note'>The first fold's network at the "
        "operating point's threshold, on its own held-out pictures.</p>"
    )


def latency(found: Pilot) -> str:
    rows = []
    for name, board in found.latency["boards"].items():
        fast, slow = board["ms"]
        rows.append([name, f"{fast:.1f}" if fast == slow else f"{fast:.0f} to {slow:.0f}", board["source"]])
    told = table(["board", "ms a picture, network alone", "rate from"], rows)
    macs = found.latency["multiply_adds"] / 1e6
    return f"<h2>Time</h2><p>{macs:.0f} M multiply-adds a picture. These are estimates:</p>{told}"


def overlays(found: Pilot, judged: Judged) -> str:
    bad, scores, threshold = judged.bad == 1, judged.scores, found.point["threshold"]
    rising = np.argsort(scores, kind="stable")
    kinds = {
        "Best: defects that were surest": [i for i in rising[::-1] if bad[i] and scores[i] >= threshold],
        "Worst: escapes, the surest mistakes first": [i for i in rising if bad[i] and scores[i] < threshold],
        "Worst: good parts rejected": [i for i in rising[::-1] if not bad[i] and scores[i] >= threshold],
    }
    out = ["<h2>Pictures</h2>"]
    for title, chosen in kinds.items():
        tiles = "".join(tile(found, judged, int(index)) for index in chosen[:SHOWN])
        out.append(f"<h3>{title} ({len(chosen)})</h3>{tiles or '<p>none</p>'}")
    return "".join(out)


def tile(found: Pilot, judged: Judged, index: int) -> str:
    path = judged.pictures[index].path
    pixels = data.read_picture(path, (SIDE, SIDE))
    marked = overlay(pixels, judged.maps[index] / np.float32(255), MAP_THRESHOLD, (255, 140, 0))
    out = io.BytesIO()
    Image.fromarray(np.concatenate([pixels, marked], axis=1)).save(out, "JPEG", quality=85)
    name = list(found.counts)[int(judged.labels[index])]
    caption = html.escape(f"{name}: {path.name}, score {judged.scores[index]:.3f}")
    return f"<figure>{inline(out.getvalue(), 'jpeg')}<br>{caption}</figure>"
