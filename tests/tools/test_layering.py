"""Folders of the host tool import from their left alone: from data to the cameras, as a network comes to be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import fcam_tools
import pytest

PACKAGE = Path(fcam_tools.__file__).parent
ORDER = ("common", "synth", "data", "measure", "model", "train", "judge", "export", "bench", "ship")


def imported(text: str) -> Iterator[str]:
    """Folders of the package that a file imports from, in functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they go"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("fcam_tools."))


def to_the_right(folder: str, text: str) -> set[str]:
    return {name for name in imported(text) if name in ORDER and ORDER.index(name) > ORDER.index(folder)}


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_from_its_left_alone(folder: str) -> None:
    files = list((PACKAGE / folder).rglob("*.py"))
    assert len(files) > 1
    wrong = {
        str(path.relative_to(PACKAGE)): right for path in files if (right := to_the_right(folder, path.read_text()))
    }
    assert not wrong, "move what they need to their left, or them to the right"


def test_every_folder_has_its_place() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ORDER)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_an_import_from_the_right_is_seen() -> None:
    text = "import fcam_tools.ship.deploy\ndef f():\n    from fcam_tools import data, export\n"
    assert to_the_right("train", text) == {"ship", "export"} and not to_the_right("ship", text)
