"""Scores maps and verdicts on a held-out split. In: a checkpoint, a bundle, a camera's maps. Out: a table of metrics.

Every source of maps is a row: `decoder` (PyTorch), `cam` (the same classifier's activation map, interpolated: what the
decoder has to beat), further training-free maps by `--methods` (seeds.py; memory_bank.py, which knows no label), `int8`
(the bundle's network in ONNX Runtime), `camera` (what `fcam replay --maps` wrote). A set without masks gets the image
metrics; where the truth is boxes or ellipses (truth.py), pixel metrics say little.

A CAM row is given its best case: the map of the most probable defect class, min-max scaled as the paper does, then
weighted by the picture's defect score, so that what min-max invents on a good picture does not count against it.

The rows `int8` and `camera` are scored at the bundle's thresholds where --bundle is given, all others at the
checkpoint's. Before the table stands what each network does at them.

Given prices of mistakes, the thresholds that cost least are chosen on the val split (operating.py) for the decoder and
the bundle, and what they do on the scored split is told beside.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import parallel, tables
from fcam_tools.common.errors import ToolError
from fcam_tools.common.program import refuse_damaged
from fcam_tools.common.run_folder import checkpoint_in, run_of, save
from fcam_tools.data import made_up
from fcam_tools.data.reading import stored
from fcam_tools.judge.memory_bank import Bank
from fcam_tools.judge.truth import Truth, truth_of
from fcam_tools.measure import held_out, judgement, operating
from fcam_tools.measure.metrics import Scorer
from fcam_tools.model.answers import defect_score, run_onnx, session
from fcam_tools.model.bundle import read_manifest, sight_of
from fcam_tools.model.checkpoint import Checkpoint, load_checkpoint
from fcam_tools.model.network import Joint, Net
from fcam_tools.train import seeds

SHOWN = (
    "image_auroc", "image_ap", "pxap", "pixel_auroc", "aupro_030", "max_box_acc_v1", "max_box_acc_v2",
    "f1_fixed", "iou_fixed", "iou_fixed_mean", "f1_max",
    "escape_at_fr_1pct", "escape_at_fr_5pct", "shipped_escape_rate", "shipped_false_reject_rate",
)  # fmt: skip

MEMORY_BANK = "memory-bank"
NETWORKS = ("decoder", "int8", "camera")  # rows that are a network as it would run, told before the table

Answer = tuple[float, np.ndarray]  # defect score, map [H, W] in 0..1
Source = Callable[[Path], Answer]


def decoder_source(checkpoint: Checkpoint, ok: int, states: dict | None = None) -> Source:
    net = checkpoint.net.eval().to(parallel.device())
    if states is not None:  # of the decoder, or of a net that learnt as a whole
        whole = any(name.startswith("decoder.") for name in states)
        (Joint(net) if whole else net.decoder).load_state_dict(states)

    sight = checkpoint.sight

    @torch.no_grad()
    def answer(path: Path) -> Answer:
        logits, found = net(to_tensor(path, sight).to(parallel.device()))
        score = 1 - float(logits.softmax(1)[0, ok])
        return sight.answer(path, score, found[0, 0].clamp(0, 1).cpu().numpy())

    return answer


def cam_source(net: Net, sight: data.Sight, ok: int, method: str = "cam") -> Source:
    """An activation map of one of seeds.METHODS, interpolated: no training beyond the classifier's."""

    net = net.to(parallel.device())

    def answer(path: Path) -> Answer:
        x = to_tensor(path, sight).to(parallel.device())
        with torch.no_grad():
            scores = net.classify(x).softmax(1)[0]
        defects = scores.clone()
        defects[ok] = -1
        coarse = seeds.scale(seeds.batch_maps(net, x, [int(defects.argmax())], method))
        full = F.interpolate(coarse[:, None], size=sight.size[::-1], mode="bilinear", align_corners=False)[0, 0]
        score = 1 - float(scores[ok])
        return sight.answer(path, score, (full * score).clamp(0, 1).cpu().numpy())

    return answer


def onnx_source(bundle: Path, ok: int) -> Source:
    runner, sight = session(bundle / "model.onnx"), sight_of(bundle, read_manifest(bundle))

    def answer(path: Path) -> Answer:
        logits, found = run_onnx(runner, to_tensor(path, sight).numpy())
        return sight.answer(path, defect_score(logits, ok), np.clip(found, 0, 1))

    return answer


def camera_source(lines: Path, maps: Path) -> Source:
    """Answers that `fcam replay ... --maps MAPS > LINES` wrote; maps lie as the pictures do below their own folder."""
    scores = {}
    try:
        for line in lines.read_text().splitlines():
            entry = json.loads(line)
            scores[Path(entry["picture"]).resolve()] = entry["score"]
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{lines} is not what `fcam replay` writes: {error}") from error
    if not scores:
        raise ToolError(f"{lines} is empty: replay the whole split")
    root = os.path.commonpath([path.parent for path in scores])

    def answer(path: Path) -> Answer:
        score = scores.get(path.resolve())
        if score is None:
            raise ToolError(f"{lines} has no score of {path}: replay the whole split")
        found = (maps / path.resolve().relative_to(root)).with_suffix(".png")
        return float(score), np.asarray(stored(found), np.float64) / 65535

    return answer


def to_tensor(path: Path, sight: data.Sight) -> torch.Tensor:
    return seeds.to_input(torch.from_numpy(sight.read(path))[None])


def scored(truth: Truth, source: Source, limits: dict, name: str, progress: bool) -> Scorer:
    """Every metric of one source of maps, at the thresholds `limits`."""
    scorer = Scorer(score_threshold=limits["score"], taus=100)
    for picture in tqdm(truth.pictures, name, unit="picture", disable=not progress):
        found, score_map = source(picture.path)
        mask, ignored = truth.mask(picture), truth.ignored(picture)
        scorer.update(min(max(found, 0.0), 1.0), int(picture.label != 0), score_map, mask, limits["map"], ignored)
    return scorer


def by_kind(truth: Truth, rejected: np.ndarray) -> dict[str, dict[str, int]]:
    """How many there are of each kind of reject (its folder's name), and how many of them are rejected."""
    found = {}
    for label, kind in enumerate(truth.classes[1:], 1):
        own = np.array([label in picture.labels for picture in truth.pictures], bool)
        if own.any():
            found[kind] = {"defective": int(own.sum()), "rejected": int(rejected[own].sum())}
    return found


def told_kinds(name: str, found: dict[str, dict[str, int]]) -> str:
    told = (f"{kind} {row['defective'] - row['rejected']} of {row['defective']}" for kind, row in found.items())
    return f"\n{name}, escapes by kind: {', '.join(told)}"


def oracle(args: argparse.Namespace, checkpoint: Checkpoint, truth: Truth, ok: int) -> Iterator[tuple[str, Source]]:
    """Every epoch's decoder: what choosing with pixel labels would have given. Never used to choose what is shipped."""
    path = checkpoint_in(args.checkpoint).with_suffix(".decoders.pt")
    if not path.is_file():
        raise ToolError(f"{path} is not there: --oracle needs the decoders that training left beside the checkpoint")
    for epoch, states in enumerate(torch.load(path, weights_only=True), 1):
        yield f"epoch {epoch}", decoder_source(checkpoint, ok, states)


def sources(
    args: argparse.Namespace, checkpoint: Checkpoint, dataset: data.Dataset, truth: Truth
) -> Iterator[tuple[str, Source]]:
    ok = checkpoint.classes.index(checkpoint.ok)
    if args.only is None or "decoder" in args.only:
        yield "decoder", decoder_source(checkpoint, ok)
    if args.only is None or "cam" in args.only:
        yield "cam", cam_source(checkpoint.net.eval(), checkpoint.sight, ok)
    if MEMORY_BANK in args.methods:
        good = [picture.path for picture in dataset.splits["train"] if picture.label == 0]
        backbone, progress = str(checkpoint.net.settings["backbone"]), sys.stderr.isatty() and not args.json
        yield MEMORY_BANK, Bank(backbone, good, checkpoint.size, progress=progress).answer
    for method in (method for method in args.methods if method != MEMORY_BANK):
        yield method, cam_source(checkpoint.net.eval(), checkpoint.sight, ok, method)
    if args.bundle:
        yield "int8", onnx_source(args.bundle, ok)
    if args.lines:
        yield "camera", camera_source(args.lines, args.maps)
    if args.oracle:
        yield from oracle(args, checkpoint, truth, ok)


def table(rows: dict[str, dict]) -> str:
    return tables.table(["", *rows], ([metric, *(row.get(metric) for row in rows.values())] for metric in SHOWN))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the .pt file that `train` wrote")
    parser.add_argument("--data", required=True, help="the data set, as for `train`")
    parser.add_argument("--split", choices=data.SPLITS, default="test", help="pictures to score (default: %(default)s)")
    parser.add_argument("--bundle", type=Path, help="also score this bundle's network in ONNX Runtime")
    parser.add_argument("--lines", type=Path, help="JSON lines of `fcam replay`")
    parser.add_argument("--maps", type=Path, help="maps of `fcam replay --maps`")
    parser.add_argument(
        "--only", nargs="*", choices=("decoder", "cam"), help="PyTorch rows wanted (default: both; none: no value)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[],
        choices=(*seeds.METHODS, MEMORY_BANK),
        help=f"also score these maps, interpolated; {MEMORY_BANK} needs no label and has to be beaten",
    )
    parser.add_argument("--oracle", action="store_true", help="also score every epoch's decoder")
    parser.add_argument("--limit", type=int, help="only so many pictures, evenly taken")
    parser.add_argument(
        "--record", action="store_true", help="write the decoder's row into the checkpoint, for the bundle"
    )
    operating.add_price_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def thinned(pictures: Sequence[data.Picture], limit: int | None) -> tuple[data.Picture, ...]:
    count = min(limit or len(pictures), len(pictures))
    return tuple(pictures[i * len(pictures) // count] for i in range(count))


def run(args: argparse.Namespace) -> int:
    if (args.lines is None) != (args.maps is None):
        raise ToolError("--lines and --maps go together: both are written by one `fcam replay`")
    checkpoint, dataset = load_checkpoint(args.checkpoint), made_up.load(args.data)
    judgement.refuse_unknown(str(args.checkpoint), checkpoint.classes, checkpoint.provenance, dataset.classes)
    pictures = thinned(dataset.splits[args.split], args.limit)
    progress = sys.stderr.isatty() and not args.json
    refuse_damaged([picture.path for picture in pictures], progress)
    truth = truth_of(dataset, args.split, checkpoint.size, pictures)
    shipped = read_manifest(args.bundle)["thresholds"] if args.bundle else checkpoint.thresholds
    rows, kinds = {}, {}
    for name, source in sources(args, checkpoint, dataset, truth):
        limits = shipped if name in ("int8", "camera") else checkpoint.thresholds
        scorer = scored(truth, source, limits, name, progress)
        rows[name] = scorer.compute()
        if name in NETWORKS:
            kinds[name] = by_kind(truth, scorer.scores >= limits["score"])
    unit, alone = held_out.unit_in(pictures), dataset.good_alone
    networks = {
        name: judgement.figures_of(row, args.split, unit, alone) for name, row in rows.items() if name in NETWORKS
    }
    points = dict(operating_points(args, checkpoint, dataset, truth, progress))
    if args.record and "decoder" in rows:
        record(args.checkpoint, rows["decoder"], points)
    if truth.kind in ("boxes", "ellipses"):
        print(f"the truth is {truth.kind}, not outlines: read no pixel metric but the box ones", file=sys.stderr)
    if args.json:
        told_of = {name: found.plain() for name, found in networks.items()}
        whole = {"data": dataset.name, "split": args.split, "held_out": told_of, "kinds": kinds, "rows": rows}
        print(json.dumps(whole | {"operating_points": points}))
    else:
        lines = [told_kinds(name, found) for name, found in kinds.items() if len(found) > 1]
        lines += [line for name, found in points.items() for line in told(name, args.split, found)]
        last = [judgement.ALONE] if alone else []
        print("\n".join([*first(networks, rows), table(rows), *lines, *last]))
    for doubt in dict.fromkeys(judgement.doubt(found) for found in networks.values()):
        if doubt:
            print(f"WARNING: {doubt}", file=sys.stderr)
    return 0


def first(networks: dict[str, judgement.Figures], rows: dict[str, dict]) -> Iterator[str]:
    """What a person wants to know of each network, before the table."""
    for name, found in networks.items():
        begin = f"{name}: " if len(networks) > 1 else ""
        yield f"{begin}{judgement.sentence(found)}"
        yield f"{judgement.quality(found)}; {judgement.marks(rows[name], found.made_up)}\n"


def operating_points(
    args: argparse.Namespace, checkpoint: Checkpoint, dataset: data.Dataset, truth: Truth, progress: bool
) -> Iterator[tuple[str, dict]]:
    """The cheapest thresholds on val of the decoder and of the bundle, and what they do on the scored split."""
    val = truth_of(dataset, "val", checkpoint.size)
    prices = operating.prices_of(args, [picture.label for picture in val.pictures])
    if prices is None:
        return
    made_up.refuse_prices(dataset)
    ok, area = checkpoint.classes.index(checkpoint.ok), int(checkpoint.thresholds["min_area_px"])
    if args.masks and not val.has_masks:
        raise ToolError(f"--masks: {val.masks} has no mask of a val picture")
    shipping = {"decoder": decoder_source(checkpoint, ok)}
    if args.bundle:
        shipping["int8"] = onnx_source(args.bundle, ok)
    for name, source in shipping.items():
        bar = tqdm(val.pictures, f"{name} on val", unit="picture", disable=not progress)
        points = operating.measure(bar, source, area, val.mask if args.masks else None).points(prices)
        bar = tqdm(truth.pictures, f"{name} on {args.split}", unit="picture", disable=not progress)
        seen = operating.measure(bar, source, area)
        yield name, points | {"here": operating.at(seen.scores, seen.labels, points["score"]["threshold"], prices)}


def told(name: str, split: str, points: dict) -> Iterator[str]:
    prices = points["prices"]
    yield (
        f"\n{name}, cheapest for {prices['escape']:g} an escape, {prices['reject']:g} a false reject, "
        f"{prices['ng_rate']:.4g} of the parts defective:"
    )
    yield f"  score on val: {operating.shown(points['score'])}"
    yield f"  map on val ({points['map']['chosen_by']}): {operating.shown(points['map'])}"
    here = points["here"]
    rates = []
    for rate in ("escape", "false_reject"):
        low, high = here[f"{rate}_interval"]
        rates.append(f"{rate.replace('_', ' ')}s {here[f'{rate}_rate']:.4f} ({low:.4f} to {high:.4f})")
    yield f"  score on {split}: {', '.join(rates)}, cost a part {here['cost']:.4g}"


def record(path: Path, row: dict, points: dict) -> None:
    """Into the checkpoint, from where the export takes them into the bundle."""
    path = checkpoint_in(path)
    content = torch.load(path, weights_only=True)
    content["metrics"] = {name: float(row[name]) for name in SHOWN if row.get(name) is not None}
    save(path, content)
    if run := run_of(path):
        run.add_metrics(test=row, **({"operating_points": points} if points else {}))
