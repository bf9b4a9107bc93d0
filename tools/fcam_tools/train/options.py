"""A recipe on the command line. In: an argument parser, or what it read. Out: an option for each number of a recipe;
the recipe that was asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from fcam_tools.common.errors import ToolError
from fcam_tools.model.network import DECODERS, VERDICTS
from fcam_tools.train import losses, methods, seeds
from fcam_tools.train.sampling import OtsuDraw
from fcam_tools.train.seeds import Draw
from fcam_tools.train.trainer import PRECISIONS, Recipe

CHOICES: dict[str, Iterable[str]] = {
    "seeds": seeds.METHODS,
    "objective": (*methods.OBJECTIVES, "native"),
    "decoder": DECODERS,
    "verdict": VERDICTS,
    "optimizer": methods.OPTIMIZERS,
    "precision": PRECISIONS,
    "place": ("auto", "yes", "no"),
}
UNSET = {"recipe", "height", "widths", "draw", "weights"}  # no option of their own; the height is that of the pictures
# What each option does, by what it is about: a title, and the numbers of a recipe.
NETWORK = {
    "backbone": "network whose features are read, one of timm's or of the papers' (README)",
    "start": "go on from this checkpoint or bundle, in place of ImageNet weights",
    "pretrained": "begin with ImageNet weights",
    "size": "longer side of the input in pixels, a multiple of 16 (recipes of two stages: side of the square input)",
    "stride": "pixels of the picture to one cell of the deepest features: the backbone is cut there",
    "pool": "how cells become a verdict: lse, the log-sum-exp of their evidence, or avg, their mean",
    "neck": "channels between the backbone and the verdict; 0: none",
    "verdict": "what OK and NG are read from: the backbone's features, or what the decoder makes of them",
    "decoder": "what draws the map: light, depthwise-separable, or the paper's U-Net",
    "place": "compare each place with what good pictures have there; auto: if parts lie in one pose (needs fcam)",
    "decoder_stride": "stride of the deepest features that the light decoder reads",
}
LEARNING = {
    "seed": "of all that is drawn: two runs of one seed are the same",
    "precision": "bf16, fp32, or auto: bf16 where the device has instructions for it",
    "parts": "parts of a step, each with its own BatchNorm statistics; 0: one for each process",
    "decoder_lr": "learning rate of the decoder",
    "joint": "share of that rate at which features and verdict learn beside the decoder; 0: they are frozen then",
    "weight_decay": "of all weights",
    "frozen_stride": "features up to this stride stay as they are",
    "average": "decay of the running mean of the weights, which is what is kept; 0: the last weights are",
    "paste": "share of good pictures on which a defect is made up, to teach outlines",
    "window": "side of the windows that outlines are learnt in, a multiple of 16; 0: whole pictures",
    "objective": "which terms teach the decoder; comes with the recipe",
}
ONE = {  # methods.STEPS
    "outline_steps": "steps of the first stage: outlines of defects that are made up on good pictures",
    "label_steps": "steps of the second stage, which learns from labels too; none without rejects",
    "windows": "windows in a step of the first stage; half as many in one of the second",
    "pictures": "whole pictures in a step of the second stage, half of them rejects",
    "label_rate": "share of the learning rates in the second stage",
}
TWO = {
    "epochs": "epochs of the classifier; 0: that of --start stays",
    "lr": "learning rate of the classifier",
    "backbone_lr_share": "share of that rate at which the backbone learns",
    "batch": "pictures in a step",
    "train_depthwise": "let depthwise filters learn too, which makes a step a third longer on a CPU",
    "decoder_epochs": "epochs of the decoder; 0: verdicts without a map",
    "seeds": "activation map that says which pixels the decoder learns from",
    "blend": "share of the weights of --start in what is kept: between the two lie better networks",
    "crop_from": "side that training pictures are read at, to cut --size from at random; 0: read at --size",
    "optimizer": "what takes the steps",
    "lr_step": "epochs after which the classifier's rate falls to a tenth; 0: it follows a cosine",
    "decoder_lr_step": "the same of the decoder's rate",
    "barrier_growth": "factor, from epoch to epoch, by which bounds on a defect's area get stricter",
}
THRESHOLDS = {
    "false_reject": "share of good pictures that the score's threshold may reject (with good pictures alone: 0.05)",
    "map_threshold": "probability from which on a pixel is a defect",
    "map_threshold_low": "probability down to which its neighbours belong to it",
    "min_area_px": "pixels of the map that a region has at least",
}
# The same for verbs that train by a recipe of two stages.
TOLD = NETWORK | LEARNING | ONE | TWO | THRESHOLDS | {"size": "side of the square input in pixels"}
WEIGHTS = {
    "seeds": "pixels drawn from the activation map",
    "negative": "every pixel of a good picture is background",
    "size": "a defect's area lies between --weight-smallest and --weight-largest",
    "crf": "neighbours of like colour are alike",
    "peak": "a reject's brightest pixels are a defect",
    "pasted": "outlines of made-up defects",
    "own": "a reject's map relative to its own brightest pixels",
    "label": "OK or NG of the picture, where the verdict learns beside the decoder",
    "smallest": "no weight: share of the picture that a defect covers at least",
    "largest": "no weight: and at most",
    "brightest": "no weight: share of a reject's pixels that its label makes a defect",
}
DRAWS = {
    "foreground": "pixels a picture that are drawn as defect",
    "background": "pixels a picture that are drawn as background",
    "sharpness": "power of the map by which defect pixels are drawn: the higher, the nearer to its peak",
    "support": "value of the coarse map from which on a pixel may belong to the defect",
    "top": "share of the finest map, the brightest, that is never background",
    "kernel": "side of the square that each drawn pixel grows to",
    "lowest": "share of the pixels, the darkest, that background is drawn from",
    "erode": "side of the square by which Otsu's region is eroded",
    "erosions": "how often it is",
}


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each number. None has a default: what is not given is the recipe's; help tells what that is."""
    of_one, of_two = (Recipe(**methods.named(name, {})) for name in (methods.DEFAULT, "inspection"))
    native, two = (methods.DEFAULT, vars(of_one)), ("inspection", vars(of_two))
    add_group(parser, "network", NETWORK, native)
    add_group(parser, "learning", LEARNING, native)
    add_group(parser, f"steps of the recipe {methods.DEFAULT}", ONE, native)
    add_group(parser, "stages of the other recipes", TWO, two)
    add_group(parser, "thresholds that the bundle begins with", THRESHOLDS, native)
    add_group(parser, "weights of what the decoder learns from", WEIGHTS, (native[0], vars(of_one.weights)), "weight-")
    own = {name: text for name, text in DRAWS.items() if name in vars(Draw())}
    papers = {name: text for name, text in DRAWS.items() if name not in own}
    add_group(parser, "pixels drawn from the activation map", own, (two[0], vars(Draw())), "draw-")
    add_group(parser, "the same as the papers draw them", papers, ("fcam-paper", vars(OtsuDraw())), "draw-")


def add_group(
    parser: argparse.ArgumentParser,
    title: str,
    told: Mapping[str, str],
    recipe: tuple[str, Mapping[str, Any]],
    prefix: str = "",
) -> None:
    group, (of, values) = parser.add_argument_group(title), recipe
    for name, text in told.items():
        flag, value = f"--{prefix}{name.replace('_', '-')}", values[name]
        shown = f"{text} ({of}: {value})" if value != "" else text
        if isinstance(value, bool):
            yes = f"{text} ({of}: {'yes' if value else 'no'})"
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=yes)
            continue
        metavar = None if name in CHOICES and not prefix else {int: "N", float: "X"}.get(type(value), name.upper())
        choices = CHOICES.get(name) if not prefix else None
        group.add_argument(
            flag, type=type(value), choices=choices, default=argparse.SUPPRESS, metavar=metavar, help=shown
        )


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The named recipe with what the command line gives instead; refuses what the recipe has no use for."""
    given = {name: getattr(args, name) for name in vars(Recipe()) if hasattr(args, name) and name != "recipe"}
    base = Recipe(**methods.named(args.recipe, given))
    foreign = [name for name in given if name in methods.EPOCHS and base.objective == "native"]
    foreign += [name for name in given if name in methods.STEPS and base.objective != "native"]
    if foreign:
        flags, own = (
            ", ".join("--" + name.replace("_", "-") for name in names)
            for names in (foreign, methods.STEPS if base.objective == "native" else methods.EPOCHS)
        )
        raise ToolError(f"the recipe {args.recipe} has no {flags}: it has {own}; another is chosen by --recipe")
    weights = {name: getattr(args, f"weight_{name}") for name in vars(base.weights) if hasattr(args, f"weight_{name}")}
    draw = {name.removeprefix("draw_"): value for name, value in vars(args).items() if name.startswith("draw_")}
    foreign = [name for name in draw if name not in vars(base.draw)]
    if foreign:
        own = ", ".join(f"--draw-{name}" for name in vars(base.draw))
        raise ToolError(f"the recipe {args.recipe} has no --draw-{foreign[0]}: it has {own}")
    return replace(base, weights=replace(base.weights, **weights), draw=replace(base.draw, **draw))


def recipe_from(plain: dict[str, Any]) -> Recipe:
    """A recipe as a run's folder holds it."""
    given = {name: plain.get(name, own) for name, own in vars(Recipe()).items()}
    named = Recipe(**methods.named(given["recipe"], {}))
    weights, draw = losses.Weights(**plain["weights"]), replace(named.draw, **plain["draw"])
    return Recipe(**given | {"widths": tuple(given["widths"]), "weights": weights, "draw": draw})
