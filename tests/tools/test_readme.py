"""The page of the host tool: its commands parse, and what `./dev readme` walks is there and is run as it stands."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
import walk_readme
from fcam_tools import __main__
from walk_readme import MARK, PAGE, ROOT, WalkError, commands, judged_right, shortened

PAGES = ("tools/README.md", "board/README.md", "README.md")


def parsers() -> dict[str, argparse.ArgumentParser]:
    found = {}
    for verb, (folder, _) in __main__.VERBS.items():
        found[verb] = argparse.ArgumentParser(verb)
        importlib.import_module(f"fcam_tools.{folder}.{verb}").add_arguments(found[verb])
    return found


def told(page: str) -> list[list[str]]:
    """The words of each command of the host tool in a page's fenced blocks; not those with something left out."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines = [re.sub(r"\$\w+", "1", line) for line in lines if "fcam-tools" in line and "..." not in line]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0].endswith("fcam-tools")]


def test_every_command_of_the_pages_is_one_that_the_tool_takes() -> None:
    known, wrong, count = parsers(), [], 0
    for page in PAGES:
        for verb, *words in told((ROOT / page).read_text()):
            count += 1
            try:
                known[verb].parse_args(words)
            except (KeyError, SystemExit):
                wrong.append(f"{page}: {verb} {shlex.join(words)}")
    assert not wrong and count > 15


def test_the_way_is_walked_from_end_to_end() -> None:
    walked = [shlex.split(command, comments=True) for command in commands(PAGE.read_text())]
    assert [words[1] for words in walked] == [
        "ready", "build", "inspect", "pilot", "train", "evaluate", "export", "verify", "replay", "check",
    ]  # fmt: skip


def test_only_two_commands_are_shortened_and_by_what_is_written() -> None:
    for command in commands(PAGE.read_text()):
        added = shortened(command)
        verb = command.split()[1]
        if verb in walk_readme.FEWER:
            assert added == f"{command} {walk_readme.FEWER[verb]}"
        else:
            assert added == command


def test_marked_blocks_alone_are_commands() -> None:
    page = f"```\nno\n```\n{MARK}\n```\none \\\n  two\n\nthree\n```\ntext\n```\nno\n```\n"
    assert commands(page) == ["one    two", "three"]
    with pytest.raises(WalkError, match="no fenced block follows a mark"):
        commands(f"{MARK}\ntext\n")


def test_a_command_that_does_not_work_ends_the_walk(tmp_path: Path) -> None:
    with pytest.raises(WalkError, match="exit code 3 of: exit 3"):
        walk_readme.walk(f"{MARK}\n```\ntrue\nexit 3\n```\n", tmp_path)


def test_a_bundle_that_lets_all_pass_does_not_judge(tmp_path: Path) -> None:
    line = '{{"picture": "NEW_PICTURES/{}/a.png", "verdict": "pass"}}'
    said = "\n".join([line.format("ok"), line.format("ng")] * 8)
    assert judged_right(said) == {"ok": 8, "ng": 0}
    (tmp_path / "said").write_text(said)
    with pytest.raises(WalkError, match="the bundle does not judge"):
        walk_readme.walk(f"{MARK}\n```\ncat {tmp_path}/said # replay \n```\n", tmp_path / "place")
