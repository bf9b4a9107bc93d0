"""What to train, and where it goes. In: the command line, or the folder of a run that was stopped. Out: a `Plan`; a
refusal of pictures that the recipe cannot learn from.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from fcam_tools import data
from fcam_tools.common import run_folder
from fcam_tools.common.errors import ToolError
from fcam_tools.common.parallel import Team
from fcam_tools.common.run_folder import Run
from fcam_tools.data import kinds, made_up, shape
from fcam_tools.data.copies import refuse_leaks
from fcam_tools.measure import held_out
from fcam_tools.train.options import recipe_from, recipe_of
from fcam_tools.train.trainer import Recipe

log = logging.getLogger(__name__)


@dataclass
class Plan:
    """What to train, and where it goes."""

    recipe: Recipe
    source: str
    dataset: data.Dataset
    checkpoint: Path  # beside it lie NAME.classifier.pt and NAME.decoders.pt
    folder: Path


def plan_new(args: argparse.Namespace, team: Team) -> Plan:
    if not args.data:
        raise ToolError("say what to train on: a folder of pictures, or --resume RUN")
    recipe, out = recipe_of(args), args.out
    dataset = made_up.load(args.data, ok_needed=recipe.objective != "fcam")  # the paper's sets have no good pictures
    refuse_good_alone(dataset, recipe)
    dataset = replace(dataset, joined=joined_kinds(dataset, recipe, args.kinds))
    if dataset.good_alone and not hasattr(args, "false_reject"):
        recipe.false_reject = made_up.FALSE_REJECT
    pictures = held_out.common_size(dataset.splits["train"])
    if recipe.objective == "native":
        recipe.size, recipe.height = shape.input_of(pictures, getattr(args, "size", 0))
    if out is not None and out.suffix not in ("", ".pt"):
        raise ToolError(f"--out {out} must end in .pt, or be a run folder without a suffix")
    name = args.name or dataset.name
    folder = run_folder.new_folder(args.runs, name) if out is None else run_folder.beside(out) if out.suffix else out
    if team.leads:
        refuse_leaks(dataset, args.allow_leaks, sys.stderr.isatty() and not args.json)
        lost = shape.shrunk if recipe.objective == "native" else shape.squashed
        if warning := lost(pictures, recipe.shape):
            log.warning("%s", warning)
        if dataset.joined:
            log.warning("%s", kinds.told(dataset))
    recipe.parts = recipe.parts or team.world
    checkpoint = out if out is not None and out.suffix else folder / run_folder.CHECKPOINT
    return Plan(recipe, args.data, dataset, checkpoint, folder)


def joined_kinds(dataset: data.Dataset, recipe: Recipe, how: str | None) -> tuple[str, ...]:
    """The kinds that are learnt as one: as told, else as what training goes on from, else by the recipe."""
    if how is None and recipe.start:
        found = kinds.joined_in(provenance_of(Path(recipe.start)))
        return found if set(found) & set(dataset.classes) else ()
    return kinds.joined(dataset, how or ("auto" if recipe.objective == "native" else "all"))


def provenance_of(start: Path) -> dict[str, str]:
    """That of a bundle or a checkpoint; empty where it says nothing."""
    if (start / "manifest.toml").is_file():
        return tomllib.loads((start / "manifest.toml").read_text()).get("provenance", {})
    return torch.load(start, map_location="cpu", weights_only=True).get("provenance", {})


def refuse_good_alone(dataset: data.Dataset, recipe: Recipe) -> None:
    """Where only good pictures are there, and the recipe learns from rejects."""
    if not dataset.good_alone:
        return
    told = f"{dataset.root} has good pictures alone"
    if recipe.objective != "native":
        raise ToolError(
            f"{told}, and the recipe {recipe.recipe} learns its classifier from rejects: leave out --recipe "
            "(`native` learns from defects made up on good pictures), or add a folder of rejects"
        )
    if not (recipe.outline_steps and recipe.paste):
        raise ToolError(f"{told}: all there is to learn from are made-up defects, give --outline-steps and --paste")


def start_run(plan: Plan, team: Team, args: argparse.Namespace) -> Run:
    """A new run's folder, made by the process that leads."""
    if team.leads:
        plan.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "name": args.name or plan.dataset.name,
            "command": sys.argv,
            "data": place_of(plan.source),
            "dataset": plan.dataset.name,
            "dataset_sha256": plan.dataset.fingerprint(),
            "joined": list(plan.dataset.joined),
            "dataset_licence": data.licence_of(plan.dataset),
            "checkpoint": str(plan.checkpoint.resolve()),
            "device": str(team.device),
            "processes": team.world,
            "threads": torch.get_num_threads(),
            "recipe": asdict(plan.recipe),
            "accept_unproven": args.accept_unproven,
        }
        run_folder.create(plan.folder, told)
    team.wait()
    return Run(plan.folder)


def plan_resumed(folder: Path, moved: str = "") -> Plan:
    """`moved`: where the pictures are now, if they are no longer where the run began with them."""
    config = Run(folder).config
    if config.get("state") == "done":
        raise ToolError(f"{folder} is done: its checkpoint is {config['checkpoint']}")
    source = moved or config["data"]
    try:
        dataset = made_up.load(source)
    except ToolError as error:
        hint = f"if the pictures have moved, `fcam-tools train NEWPATH --resume {folder}` takes them from there"
        raise ToolError(f"{error}; {hint}") from error
    if dataset.fingerprint() != config["dataset_sha256"]:
        raise ToolError(
            f"the pictures in {source} are not those that {folder} began with: put them back, or give the place where "
            f"they are (`fcam-tools train NEWPATH --resume {folder}`), or start a new run"
        )
    dataset = replace(dataset, joined=tuple(config.get("joined", ())))
    return Plan(recipe_from(config["recipe"]), source, dataset, Path(config["checkpoint"]), folder)


def place_of(source: str) -> str:
    """A source of pictures that is valid from any folder."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source
