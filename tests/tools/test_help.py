"""`--help` of every verb: what each option does, and not only what it is without being given."""

from __future__ import annotations

import argparse
import importlib
import re

import pytest
from fcam_tools import __main__
from fcam_tools.train import losses, methods, options, seeds
from fcam_tools.train.sampling import OtsuDraw, ProbabilityDraw
from fcam_tools.train.trainer import Recipe


def parser_of(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(verb)
    importlib.import_module(f"fcam_tools.{__main__.VERBS[verb][0]}.{verb}").add_arguments(parser)
    return parser


def told(action: argparse.Action) -> str:
    """An option's help without its default."""
    return re.sub(r"\(?default\b.*", "", action.help or "").strip()


@pytest.mark.parametrize("verb", __main__.VERBS)
def test_every_option_says_what_it_does(verb: str) -> None:
    parser = parser_of(verb)
    bare = [action.dest for action in parser._actions if len(told(action).split()) < 2]
    assert not bare


def test_a_help_that_tells_the_default_alone_is_seen() -> None:
    parser = argparse.ArgumentParser()
    texts = {"--a": "default: %(default)s", "--b": "(default 3)", "--c": None}
    bare = [parser.add_argument(flag, help=text) for flag, text in texts.items()]
    assert not any(map(told, bare))


def test_without_a_verb_it_says_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([]) == 2
    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert all(f" {verb} " in told for verb in __main__.VERBS) and "First: inspect PICTURES" in told


def test_every_number_of_a_recipe_has_an_option() -> None:
    flags = {action.dest for action in parser_of("train")._actions}
    assert set(vars(Recipe())) - options.UNSET <= flags
    assert {f"weight_{name}" for name in vars(losses.Weights())} <= flags
    drawn = {name for draw in (seeds.Draw(), OtsuDraw(), ProbabilityDraw()) for name in vars(draw)}
    assert {f"draw_{name}" for name in drawn} <= flags


def test_help_tells_the_default_recipe_s_numbers() -> None:
    shown = re.sub(r"\s+", " ", parser_of("train").format_help())
    steps = methods.RECIPES[methods.DEFAULT]["outline_steps"]
    assert f"outlines of defects that are made up on good pictures (native: {steps})" in shown
