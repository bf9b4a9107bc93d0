"""Training. In: labelled pictures. Out: one checkpoint file with a classifier, a decoder and their thresholds.

Stage 1 trains the classifier on image labels. Stage 2 freezes it (BatchNorm in eval, no gradient), computes class
activation maps of the defective training pictures once, and trains the decoder on seeds drawn from them anew every step
(seeds.py), with the terms of losses.py. With `joint` nothing is frozen, and the labels' loss goes on beside.

No pixel label is read: the classifier's epoch is chosen by image AUROC on the validation split, the decoder's by the
weak loss there (seeds and negatives, fixed draws), the score threshold by the false-reject rate on validation pictures
that are OK. Every epoch's decoder is kept beside the checkpoint (`NAME.decoders.pt`), so that `evaluate --oracle` can
tell what a choice with pixel labels would have given.

A run leaves a folder (run_folder.py). Killed at any moment, it goes on from its last snapshot with `--resume` and ends
as if nothing had happened: whatever is drawn is a function of the seed and the step (feed.py), and the snapshot holds
the rest. A step is made of `parts` parts, each with its own BatchNorm statistics, whose gradients and statistics are
averaged; how many processes share them out (parallel.py) does not change the result but for the order of that sum.
Tolerances, tested on a CPU with as many threads: a resumed run equals an uninterrupted one to the bit, two runs of one
seed too, and two processes one process to 1e-5 of a weight's size.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fcam_tools import data
from fcam_tools.common import parallel, run_folder
from fcam_tools.common.disk import write
from fcam_tools.common.errors import ToolError
from fcam_tools.common.parallel import Team
from fcam_tools.common.run_folder import Run, save
from fcam_tools.data import kinds
from fcam_tools.data.copies import add_leak_argument
from fcam_tools.data.sight import sight_of
from fcam_tools.measure import held_out, judgement
from fcam_tools.train import methods, native, seeds
from fcam_tools.train.classifier import probabilities, train_classifier, validate
from fcam_tools.train.decoder import train_decoder
from fcam_tools.train.described import describe
from fcam_tools.train.feed import Pictures
from fcam_tools.train.labels import label_array
from fcam_tools.train.options import add_recipe_arguments
from fcam_tools.train.plan import Plan, place_of, plan_new, plan_resumed, start_run
from fcam_tools.train.trainer import Recipe, Stage, Trainer, optimise_stage

log = logging.getLogger(__name__)
KINDS_TOLD = 0.6  # share of rejects whose kind must be right before a class is worth reading


def train_native(t: Trainer, left: dict[str, Any] | None) -> dict[str, float]:
    """Both stages of native.py; leaves the averaged weights of the last step in the net."""
    told: dict[str, float] = {}
    normal = native.learn_places(t)
    for how in native.courses(t):
        if left and left["stage"] == "labels" and how.name == "outlines":
            continue
        stage = native.stage_of(t, how)
        if left and left["stage"] == how.name:
            stage.load(left["state"])

        def judge(stage: Stage) -> dict[str, float]:
            own = copy.deepcopy(stage.module.state_dict())
            stage.kept = copy.deepcopy(stage.average.module.state_dict())
            stage.module.load_state_dict(stage.kept)
            auroc, right = validate(t)
            stage.best = {"val_auroc": auroc, "val_accuracy": right, "decoder_epoch": stage.epoch + 1}
            stage.module.load_state_dict(own)
            return {"val_auroc": auroc, "val_accuracy": right}

        optimise_stage(
            t, stage, native.TERMS, lambda part: native.loss_of(t, part), judge, feed=native.Pieces(t, how, normal)
        )
        stage.module.load_state_dict(stage.kept)
        told |= stage.best
    scores = probabilities(t, t.val.pixels)
    right, count = native.kinds_told(scores, t.val.labels)
    if scores.shape[1] > 2 and right < KINDS_TOLD * count:
        log.warning(
            "the kind of a defect is told right for %d of %d rejects (val split): trust OK and NG, and not the class; "
            "more pictures of each kind help",
            right,
            count,
        )
    return told


def read_split(pictures: Sequence[data.Picture], sight: data.Sight, classes: int, progress: bool) -> Pictures:
    pixels = sight.read_all(pictures, progress)
    return Pictures(pixels, label_array([p.labels for p in pictures], classes))


def fit(
    recipe: Recipe,
    dataset: data.Dataset,
    progress: bool,
    aside: Path | None = None,
    team: Team | None = None,
    run: Run | None = None,
    snapshot_s: float = 60.0,
) -> tuple[dict, list[dict]]:
    """Both stages; returns the checkpoint and every epoch's decoder. Goes on from the run's snapshot if it has one.

    `aside` gets the state after stage 1, from which another decoder can be trained with `--start ASIDE --epochs 0`.
    """
    seen = kinds.seen(dataset)
    classes = len(seen.classes)
    known = seen.splits["train"]
    good, rejects = ([p for p in known if (p.label != 0) is bad] for bad in (False, True))
    sight = sight_of(recipe.shape, good, rejects, recipe.place, progress)
    views = {split: replace(sight, size=recipe.read_at(split)) for split in ("train", "val")}
    splits = {split: read_split(seen.splits[split], views[split], classes, progress) for split in views}
    splits["train"].kinds = label_array([p.labels for p in dataset.splits["train"]], len(dataset.classes))
    t = Trainer(recipe, splits["train"], splits["val"], classes, progress, team, run, snapshot_s, sight.template)
    counts = f"{len(splits['train'].labels)} training and {len(splits['val'].labels)} validation pictures"
    where = f"{t.team.world} x {t.device}, {'bfloat16' if t.low else 'float32'}"
    log.info("%s, classes %s; %s weights; on %s", counts, ", ".join(seen.classes), t.origin, where)
    left = t.snapshot()
    if recipe.objective == "native":
        t.told |= train_native(t, left)
        return describe(t, dataset, t.told | {"seconds": round(time.time() - t.started)}), []
    state = left["state"] if left else None
    if not left or left["stage"] == "classifier":
        t.told, state = train_classifier(t, state), None
        if aside:
            classifier = describe(t, dataset, t.told)
            if t.team.leads:
                save(aside, classifier)
    found, every = train_decoder(t, state) if recipe.decoder_epochs else ({}, [])  # 0: verdicts without maps
    t.speed["data_path"] = round(t.feed.speed(), 1)
    if t.feed.paste:
        count, height, width = t.feed.pixels.shape[:3]
        maps = np.zeros((count, height // seeds.FINE_STRIDE, width // seeds.FINE_STRIDE, 2), np.float16)
        t.speed["pasted_data_path"] = round(t.feed.speed(maps=t.feed.hold(maps)), 1)
    return describe(t, dataset, t.told | found | {"seconds": round(time.time() - t.started)}), every


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s PICTURES [--out X.pt] [options]"  # the whole list is two screens
    parser.add_argument("data", nargs="?", help=data.HELP)
    parser.add_argument("--out", type=Path, help="checkpoint to write (X.pt, with X.run beside it), or a run folder")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go without --out")
    parser.add_argument("--name", help="name of the run (default: the data set's)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that was stopped (with DATA: its pictures are there now)",
    )
    parser.add_argument("--snapshot-seconds", type=float, default=60.0, help="between two snapshots (default 60)")
    recipes = f"where the numbers below start; README tells what each is for (default: {methods.DEFAULT})"
    parser.add_argument("--recipe", choices=list(methods.RECIPES), default=methods.DEFAULT, help=recipes)
    parser.add_argument("--kinds", choices=kinds.CHOICES, help=kinds.HELP)
    add_leak_argument(parser)
    judgement.add_accept_argument(parser, "goes into the checkpoint and the bundle")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> int:
    team = parallel.start()
    if not team.leads:
        logging.getLogger("fcam_tools").setLevel(logging.WARNING)
    try:
        if args.resume and args.out:
            raise ToolError("--resume takes recipe and place from the run: give no --out")
        plan = plan_resumed(args.resume, args.data or "") if args.resume else plan_new(args, team)
        run = Run(plan.folder) if args.resume else start_run(plan, team, args)
        return train_run(plan, run, team, args)
    finally:
        parallel.stop()


def train_run(plan: Plan, run: Run, team: Team, args: argparse.Namespace) -> int:
    try:
        if team.leads:
            run.open()
            if args.resume and args.data:
                run.update(data=place_of(args.data))
        progress = sys.stderr.isatty() and not args.json and team.leads
        aside = plan.checkpoint.with_suffix(".classifier.pt")
        checkpoint, every = fit(plan.recipe, plan.dataset, progress, aside, team, run, args.snapshot_seconds)
        unproven, accepted = "", args.accept_unproven or run.config.get("accept_unproven", False)
        if team.leads:
            unproven = refusal(plan, checkpoint)
            if unproven and accepted:
                checkpoint["provenance"]["unproven"] = checkpoint["judgement"]["doubt"]
            summary = leave(plan, run, checkpoint, every)
            print(json.dumps(summary) if args.json else shown(summary))
        team.wait()
        if unproven:
            return judgement.end("train", unproven, accepted)
    except ToolError as error:
        raise ToolError(f"{error}; then go on with `fcam-tools train --resume {run.folder}`") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"stopped; go on with `fcam-tools train --resume {run.folder}`") from stop
    except Exception:
        run.note_bug()
        raise
    finally:
        run.close()
    return 0


def refusal(plan: Plan, checkpoint: dict) -> str:
    """Why the validation pictures do not show that anything was learnt, and what to do; empty if they do."""
    found = checkpoint["judgement"]
    if not found.get("doubt"):
        return ""
    setting = held_out.setting_of(plan.dataset, "val", plan.recipe.shape, checkpoint)
    told = judgement.told(judgement.Figures(**found["figures"]), setting, plan.source)
    return f"{told}\n  the network is in {plan.checkpoint}"


def shown(summary: dict[str, Any]) -> str:
    """The summary for people: what the network does first, then where it is."""
    first, rest = summary.get("held_out"), {name: v for name, v in summary.items() if name != "held_out"}
    lines = [first["sentence"], judgement.quality(judgement.Figures(**first["figures"]))] if first else []
    last = [judgement.ALONE] if first and first["figures"]["made_up"] else []
    return "\n".join([*lines, *(f"{name}: {v}" for name, v in rest.items()), *last])


def leave(plan: Plan, run: Run, checkpoint: dict, every: list[dict]) -> dict[str, Any]:
    """The results' files; the snapshot goes last, so that a run killed here can still be resumed."""
    save(plan.checkpoint.with_suffix(".decoders.pt"), every)
    save(plan.checkpoint, checkpoint)
    own = run.folder / run_folder.CHECKPOINT
    if own.resolve() != plan.checkpoint.resolve():
        save(own, checkpoint)
        save(own.with_suffix(".decoders.pt"), every)
        aside = plan.checkpoint.with_suffix(".classifier.pt")
        if aside.is_file():  # the next training in this place writes its own over it long before it is done
            write(own.with_suffix(".classifier.pt"), aside.read_bytes())
    told = checkpoint["training"]
    speeds = {name: value for name, value in told.items() if name.startswith("pictures_per_second")}
    measured = {name: value for name, value in told.items() if name not in speeds and name != "seconds"}
    held = {}
    if found := checkpoint["judgement"]:
        figures = judgement.Figures(**found["figures"])
        held = {"held_out": found | {"sentence": judgement.sentence(figures), "auroc_interval": figures.auroc_interval}}
    thresholds = checkpoint["thresholds"]
    run.add_metrics(validation=measured, thresholds=thresholds, seconds=told["seconds"], **held, **speeds)
    run.finish()
    return {**held, "checkpoint": str(plan.checkpoint), "run": str(run.folder), "thresholds": thresholds, **told}
