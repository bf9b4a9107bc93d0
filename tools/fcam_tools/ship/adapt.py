"""A trained bundle at a new site. In: a bundle, its float checkpoint, a few hundred new pictures. Out: a run folder
with a new checkpoint and a new bundle, or a refusal.

A bundle is int8 and cannot learn: the checkpoint that it was made of is needed (found where the bundle lies in its run
folder, else `--checkpoint`), and must reproduce the bundle's proof.

New pictures are folders named as the bundle's classes, or as kinds that it learnt as one (data/kinds.py), or pictures
alone, which then are all OK. Three tenths of them are held out, whole parts, folders or days (data/group.py) where
names tell them. Two candidates are made:
- `statistics`: BatchNorm's running statistics move half-way to those of the new pictures (Li et al., "Revisiting Batch
  Normalization for Practical Domain Adaptation", 2016); no weight changes;
- `tuned`: then head and decoder learn on the new pictures with `train`'s terms, while the old network's answers on the
  golden pictures and samples hold them in place (distillation, Hinton et al. 2015): OK pictures alone cannot teach it
  to pass everything.
The threshold stays: pictures that are OK say nothing about what a higher one would let escape.

It refuses what is worse: a candidate must give every golden picture its old verdict, find again the golden masks (IoU
0.5 on rejects, no new mark on passes), and make fewer mistakes on the held-out new pictures; the new int8 network must
pass on the golden set once more before the bundle is published.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fcam_tools import data
from fcam_tools.common import parallel, run_folder
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Dataset, Picture, kinds
from fcam_tools.data.copies import tied
from fcam_tools.data.group import grouped
from fcam_tools.data.split import key_of as key
from fcam_tools.export.export import write_bundle
from fcam_tools.export.options import Options
from fcam_tools.export.verify import Golden, Judge, read_golden
from fcam_tools.model.answers import Floats, defect_score, run_net, run_onnx, session, tensor, verdict
from fcam_tools.model.answers import iou as overlap
from fcam_tools.model.bundle import read_manifest, sha256
from fcam_tools.model.checkpoint import Checkpoint, load_checkpoint
from fcam_tools.model.network import Features, Net
from fcam_tools.model.place import STRIDES
from fcam_tools.train import methods, seeds, train, trainer
from fcam_tools.train.feed import Feed, Part, Pictures, key_of

log = logging.getLogger(__name__)

LEAST = 20  # new pictures; fewer say too little about a site
MASK_KEPT = 0.5  # IoU with the proof's mask
TEMPERATURE = 2.0
HOLD = 4.0  # weight of the old network's answers

Answer = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Old:
    """The bundle that is adapted."""

    bundle: Path
    checkpoint: Checkpoint
    path: Path  # of the checkpoint
    judge: Judge
    golden: list[Golden]
    entries: list[dict[str, Any]]

    @property
    def threshold(self) -> float:
        return float(self.checkpoint.thresholds["score"])


@dataclass(frozen=True)
class Mistakes:
    """On the held-out new pictures: shares, None without such pictures; and the mean score of the OK ones."""

    false_reject_rate: float | None
    escape_rate: float | None
    ok_score: float

    @property
    def rate(self) -> float:
        return (self.false_reject_rate or 0) + (self.escape_rate or 0)


def open_old(bundle: Path, given: Path | None) -> Old:
    manifest = read_manifest(bundle)
    path = given if given is not None else bundle.parent
    if not run_folder.checkpoint_in(path).is_file():
        raise ToolError(
            f"{bundle} holds an int8 network, which cannot learn: give --checkpoint the .pt file or run folder that it "
            "was exported from"
        )
    loaded = load_checkpoint(path)
    loaded.thresholds.update(manifest["thresholds"])
    judge = Judge(manifest)
    golden = [read_golden(bundle, entry, judge) for entry in manifest["golden"]]
    old = Old(bundle, loaded, run_folder.checkpoint_in(path), judge, golden, manifest["golden"])
    names = [entry["name"] for entry in manifest["classes"]]
    if names != loaded.classes or worse(old, lambda x: run_net(loaded.net, x)):
        raise ToolError(f"{path} is not the network of {bundle}: it gives the golden pictures other answers")
    return old


def worse(old: Old, answer: Answer) -> list[str]:
    """On which golden pictures a network falls behind the proof, in words."""
    found = []
    limits = old.checkpoint.thresholds
    for golden in old.golden:
        logits, marked = answer(tensor(golden.pixels))
        score = defect_score(logits, old.judge.ok)
        now = verdict(score, old.threshold)
        if now != golden.verdict:
            found.append(f"{golden.picture} was {golden.verdict} ({golden.score:.3f}) and is {now} ({score:.3f})")
        elif golden.verdict == "reject" and overlap(golden.map, marked, limits["map"]) < MASK_KEPT:
            found.append(f"the mask of {golden.picture} is no longer where it was")
        elif golden.verdict == "pass":
            extra = np.count_nonzero(marked >= limits["map"]) - np.count_nonzero(golden.map >= limits["map"])
            if extra > limits["min_area_px"]:
                found.append(f"{golden.picture}, which passes, has {extra} more marked pixels")
    return found


# The new pictures.


def new_pictures(
    root: Path, classes: Sequence[str], ok: str, progress: bool = False, joined: Sequence[str] = ()
) -> list[Picture]:
    """By folder names; pictures in no folder are OK. Those of one part, folder or day and copies are groups.
    `joined`: the kinds of reject that are one class."""
    if not root.is_dir():
        raise ToolError(f"{root} is no folder: give one with new pictures")
    out, folders = [], []
    known = {name.lower(): kinds.classes_of([name], joined)[0] for name in (*joined, *classes)}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in data.SUFFIXES or path.name.startswith("."):
            continue
        folder = path.relative_to(root).parts[0] if path.parent != root else ok
        if folder == data.MASKS:
            continue
        name = ok if data.is_ok(folder) else known.get(folder.lower(), folder)
        if name not in classes:
            raise ToolError(f"{root} has a folder {folder}, the bundle knows {kinds.shown(classes, joined)}: rename it")
        out.append(Picture(path, list(classes).index(name)))
        folders.append(path.parent if path.parent == root else root / folder)
    if len(out) < LEAST:
        raise ToolError(f"{root} has {len(out)} pictures, at least {LEAST} are needed, a few hundred are good")
    return tied(grouped(out, folders), progress)


def halves(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """To learn from, and held out, by hash of their group or bytes."""
    learn = [picture for picture in pictures if data.split_of(key(picture)) == "train"]
    chosen = {picture.path for picture in learn}
    return learn, [picture for picture in pictures if picture.path not in chosen]


def in_memory(pictures: Sequence[Picture], sight: data.Sight, ok: int) -> Pictures:
    """The checkpoint's content with the OK class first, as training wants it."""
    pixels = sight.read_all(pictures, progress=False)
    return Pictures(pixels, np.array([swapped(picture.label, ok) for picture in pictures], np.int64))


def swapped(label: int, ok: int) -> int:
    """Labels with 0 for the OK class, which a bundle may have anywhere: those two change places."""
    return 0 if label == ok else ok if label == 0 else label


def mistakes(net: Net, pictures: Pictures, ok: int, threshold: float) -> Mistakes:
    net.eval()
    with torch.no_grad():
        chunks = [
            net.classify(seeds.to_input(torch.from_numpy(pictures.pixels[i : i + 32]))).softmax(1)[:, ok]
            for i in range(0, len(pictures.labels), 32)
        ]
    scores, bad = 1 - torch.cat(chunks).numpy(), pictures.labels != 0
    good = scores[~bad]
    return Mistakes(
        float((good >= threshold).mean()) if len(good) else None,
        float((scores[bad] < threshold).mean()) if bad.any() else None,
        float(good.mean()) if len(good) else 0.0,
    )


# The candidates.


@torch.no_grad()
def move_statistics(net: Net, pixels: np.ndarray, share: float) -> None:
    """BatchNorm's statistics, `share` of the way to those of the pictures; not of features whose mean at each place the
    network knows (model/place.py)."""
    known = cast(Features, net.features).shallow(max(STRIDES)) if net.place else []
    norms = [
        m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and m not in known
    ]
    before = [(m.running_mean.clone(), m.running_var.clone(), m.momentum) for m in norms]  # type: ignore[union-attr]
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # a plain average over the batches
    for start in range(0, len(pixels) - 1, 32):
        net(seeds.to_input(torch.from_numpy(pixels[start : start + 32])))
    for norm, (mean, var, momentum) in zip(norms, before, strict=True):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(torch.lerp(mean, norm.running_mean, share))
        norm.running_var.copy_(torch.lerp(var, norm.running_var, share))
        norm.momentum = momentum
    net.eval()


def tune(
    net: Net, teacher: Net, learn: Pictures, held_in_place: Tensor, ok: int, settings: Settings, progress: bool
) -> None:
    """Head and decoder on the new pictures; the teacher's answers on `held_in_place` [n, 3, H, W] keep the rest."""
    recipe = train.Recipe(batch=settings.batch, weight_decay=0.0)
    for parameter in net.features.parameters():
        parameter.requires_grad_(False)
    feed = Feed(learn, parallel.Team(), settings.batch, 1, settings.seed)
    maps = torch.from_numpy(activation_maps(teacher, learn, ok))
    groups = [{"params": [*net.classifier.parameters(), *net.decoder.parameters()]}]
    optimizer, rate = trainer.optimise(recipe, groups, settings.lr, settings.epochs, feed.steps())
    with torch.no_grad():
        logits_before, map_before = teacher(held_in_place)
    size = (int(held_in_place.shape[2]), int(held_in_place.shape[3]))
    net.eval()  # BatchNorm keeps the statistics that it was given, and dropout would blur a few pictures more

    def loss(part: Part) -> Tensor:
        with torch.no_grad():
            features, kept = net.features(part.x), net.features(held_in_place)
        labels = torch.tensor([swapped(int(label), ok) for label in part.labels])
        learnt = F.cross_entropy(net.classifier(net.read(features)), labels)
        generator = torch.Generator().manual_seed(part.key)
        assert part.maps is not None
        logits = net.map_logits(features, (part.x.shape[2], part.x.shape[3]))
        terms = methods.terms(recipe, logits, part.x, part.labels, part.maps, 1.0, generator)
        now = F.log_softmax(net.classifier(net.read(kept)) / TEMPERATURE, 1)
        then = F.softmax(logits_before / TEMPERATURE, 1)
        held = F.kl_div(now, then, reduction="batchmean") * TEMPERATURE**2
        held = held + F.binary_cross_entropy_with_logits(net.map_logits(kept, size), map_before)
        return learnt + torch.stack(list(terms.values())).sum() + HOLD * held

    for epoch in tqdm(range(settings.epochs), "tuning", unit="epoch", disable=not progress):
        for (part,) in feed.epoch("adapt", epoch, maps=maps):
            optimizer.zero_grad(set_to_none=True)
            loss(part).backward()
            optimizer.step()
            rate.step()
    net.eval()


def activation_maps(net: Net, pictures: Pictures, ok: int) -> np.ndarray:
    """As decoder.defect_maps: coarse and fine maps of the defective pictures, zeros for the others."""
    height, width = (side // seeds.FINE_STRIDE for side in pictures.pixels.shape[1:3])
    out = np.zeros((len(pictures.labels), height, width, 2), np.float16)
    chosen = pictures.defective()
    labels = [swapped(int(label), ok) for label in pictures.labels[chosen]]
    for index, method in enumerate(("cam", "product")):
        if len(chosen):
            out[chosen, ..., index] = seeds.activation_maps(
                net, pictures.pixels[chosen], labels, method, progress=False
            )
    return out


def anchors(old: Old) -> Tensor:
    """What holds the network in place: the golden pictures and the samples that the bundle carries."""
    samples = sorted(path for path in (old.bundle / "samples").glob("*") if path.suffix.lower() in data.SUFFIXES)
    pixels = [golden.pixels for golden in old.golden]
    sight = old.checkpoint.sight
    pixels += [sight.read(path) for path in samples]
    return seeds.to_input(torch.from_numpy(np.stack(pixels)))


@dataclass(frozen=True)
class Settings:
    """What an adaptation may vary."""

    epochs: int = 4
    lr: float = 3e-4
    batch: int = 16
    share: float = 0.5
    seed: int = 0


def candidates(old: Old, learn: Pictures, settings: Settings, progress: bool) -> dict[str, Net]:
    teacher = old.checkpoint.net.eval()
    moved = copy.deepcopy(teacher)
    move_statistics(moved, learn.pixels, settings.share)
    tuned = copy.deepcopy(moved)
    torch.manual_seed(key_of("adapt", settings.seed))
    tune(tuned, teacher, learn, anchors(old), old.judge.ok, settings, progress)
    return {"statistics": moved, "tuned": tuned}


def choose(old: Old, made: dict[str, Net], held: Pictures) -> tuple[str, dict[str, Any]]:
    """The candidate with the fewest mistakes among those that lose nothing on the golden set, or a refusal."""
    before = mistakes(old.checkpoint.net, held, old.judge.ok, old.threshold)
    told: dict[str, Any] = {"old": asdict(before)}
    best, least = "", before
    for name, net in made.items():
        problems = worse(old, lambda x, net=net: run_net(net, x))  # type: ignore[misc]
        after = mistakes(net, held, old.judge.ok, old.threshold)
        told[name] = asdict(after) | {"worse_on_golden": problems}
        nearer = best != "" and after.rate == least.rate and after.ok_score < least.ok_score
        if not problems and (after.rate < least.rate or nearer):
            best, least = name, after
    if not best:
        raise ToolError(f"nothing is better than the old bundle, which stays: {json.dumps(told)}")
    return best, told


# The new bundle.


def dataset_of(old: Old, learn: list[Picture], held: list[Picture], root: Path) -> Dataset:
    """What the export draws its pictures from; golden pictures stand for the old site."""
    golden = [
        Picture(old.bundle / entry["picture"], old.judge.ok if entry["verdict"] == "pass" else worst(old, entry))
        for entry in old.entries
    ]
    splits = {"train": tuple(learn + golden), "val": tuple(golden + held), "test": tuple(held)}
    return Dataset(root.name, root, tuple(old.checkpoint.classes), splits)


def worst(old: Old, entry: dict[str, Any]) -> int:
    logits = np.array(entry["logits"], np.float64)
    logits[old.judge.ok] = -np.inf
    return int(logits.argmax())


def adapt(bundle: Path, root: Path, checkpoint: Path | None, folder: Path, settings: Settings, progress: bool) -> dict:
    old = open_old(bundle, checkpoint)
    joined = kinds.joined_in(old.checkpoint.provenance)
    learn, held = halves(new_pictures(root, old.checkpoint.classes, old.checkpoint.ok, progress, joined))
    ok, sight = old.judge.ok, old.checkpoint.sight
    if not any(picture.label == ok for picture in held):
        raise ToolError(f"{root} has too few OK pictures to hold some out: add more")
    if all(picture.label == ok for picture in held):
        log.warning("no new defects: what escapes at the new site is not measured, only that the golden rejects stay")
    made = candidates(old, in_memory(learn, sight, ok), settings, progress)
    best, told = choose(old, made, in_memory(held, sight, ok))
    log.info("%s: %s", best, json.dumps(told[best]))
    dataset = dataset_of(old, learn, held, root)
    run = run_folder.create(folder, {
        "name": folder.name, "command": sys.argv, "data": str(root), "dataset": root.name,
        "dataset_sha256": dataset.fingerprint(), "adapted_from": str(bundle), "recipe": asdict(settings),
        "checkpoint": str((folder / run_folder.CHECKPOINT).resolve()),
    })  # fmt: skip
    try:
        publish(old, made[best], best, learn, dataset, folder)
    except BaseException:
        shutil.rmtree(folder)  # a refusal leaves nothing behind
        raise
    run.add_metrics(adapted=told, chosen=best)
    run.update(state="done")
    return {"run": str(folder), "bundle": str(folder / run_folder.BUNDLE), "chosen": best, **told}


def publish(old: Old, net: Net, how: str, learn: list[Picture], dataset: Dataset, folder: Path) -> None:
    """The new checkpoint and bundle, if the int8 network too loses nothing on the golden set."""
    provenance = {"adapted_from_sha256": sha256(old.bundle / "manifest.toml"), "adapted_by": how}
    provenance |= {"adapted_on": f"{dataset.name}, {len(learn)} pictures", "adapted_data_sha256": dataset.fingerprint()}
    content = torch.load(old.path, weights_only=True) | {"state_dict": net.state_dict(), "metrics": {}}
    content["provenance"] = content["provenance"] | provenance
    content["thresholds"] = old.checkpoint.thresholds
    run_folder.save(folder / run_folder.CHECKPOINT, content)
    manifest, samples = read_manifest(old.bundle), old.bundle / "samples"
    options = Options(
        name=manifest["name"],
        version=bumped(manifest["version"]),
        precision=manifest["precision"],
        samples_from=samples if samples.is_dir() else None,
        golden=len(old.golden),
        method="entropy",
        judge=False,  # the old bundle's golden set judges it
    )
    trial = folder / "trial"
    write_bundle(load_checkpoint(folder), dataset, trial, options)
    runner = session(trial / "model.onnx")
    if problems := worse(old, lambda x: run_onnx(runner, x)):
        raise ToolError(f"the new int8 network is worse on the old golden set, so the old bundle stays: {problems}")
    trial.rename(folder / run_folder.BUNDLE)


def bumped(version: str) -> str:
    """1.0.0 becomes 1.0.1; anything else gets a suffix."""
    *front, last = version.split(".")
    return ".".join([*front, str(int(last) + 1)]) if last.isdigit() else f"{version}-adapted"


# The verb.

TOLD = {
    "epochs": "epochs of tuning head and decoder",
    "lr": "learning rate at which they are tuned",
    "batch": "pictures in a step",
    "share": "share of the way that BatchNorm's statistics move to those of the new pictures",
    "seed": "chooses which pictures are held out, and what is drawn",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="the bundle to adapt")
    parser.add_argument("pictures", type=Path, help="new pictures: folders named as its classes, or OK pictures alone")
    parser.add_argument("--checkpoint", type=Path, help="the .pt file or run folder that the bundle was made of")
    parser.add_argument("--out", type=Path, help="the run folder to write (default: one in `runs`)")
    for name, value in vars(Settings()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{TOLD[name]} (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    settings = Settings(**{name: getattr(args, name) for name in vars(Settings())})
    folder = args.out or run_folder.new_folder(Path("runs"), f"{args.bundle.name}-adapted")
    progress = sys.stderr.isatty() and not args.json
    done = adapt(args.bundle, args.pictures, args.checkpoint, folder, settings, progress)
    if args.json:
        print(json.dumps(done))
        return 0
    for name in ("old", "statistics", "tuned"):
        told = done[name]
        shares = ", ".join(f"{key} {told[key]:.4f}" for key in ("false_reject_rate", "escape_rate", "ok_score")
                           if told[key] is not None)  # fmt: skip
        print(f"{'* ' if name == done['chosen'] else '  '}{name}: {shares}" + "".join(
            f"; {problem}" for problem in told.get("worse_on_golden", [])))  # fmt: skip
    print(f"{done['bundle']}: the new bundle, as good as the old one on its golden set")
    return 0
