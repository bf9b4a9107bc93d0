"""Checks that published sets' loaders share: what must be there, and an error that names what is not."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.data.reading import pictures_in


def need_folder(path: Path, layout: str) -> Path:
    if not path.is_dir():
        raise ToolError(f"{path} is not there: expected is {layout}{neighbours(path.parent)}")
    return path


def need_file(path: Path, layout: str) -> Path:
    if not path.is_file():
        raise ToolError(f"{path} is not there: expected is {layout}{neighbours(path.parent)}")
    return path


def need_pictures(folder: Path, layout: str) -> list[Path]:
    found = pictures_in(need_folder(folder, layout))
    if not found:
        raise ToolError(f"{folder} has no pictures: expected is {layout}")
    return found


def neighbours(folder: Path) -> str:
    """The first folders of a place, to name in an error where the set's root was given in place of one product's."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())[:12] if folder.is_dir() else []
    return f"; {folder} has {', '.join(names)}" if names else ""


def refuse_option(option: str, name: str) -> None:
    if option:
        raise ToolError(f"{name} takes no `#{option}`: remove it")


def choose(option: str, choices: Sequence[str], name: str) -> str:
    """The option, or the first choice without one."""
    if option and option not in choices:
        raise ToolError(f"{name} knows no `#{option}`: choose one of {', '.join(choices)}")
    return option or choices[0]


TEXT = "utf-8-sig"  # spreadsheets put a byte-order mark in front


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding=TEXT)
    except UnicodeDecodeError as error:
        raise ToolError(f"cannot read {path} as UTF-8: {error}") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file whose header has these columns."""
    try:
        with path.open(newline="", encoding=TEXT) as file:
            rows = csv.DictReader(file)
            missing = [name for name in columns if name not in (rows.fieldnames or ())]
            if missing:
                raise ToolError(f"{path} has no column {', '.join(missing)}: its header must have {','.join(columns)}")
            return list(rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ToolError(f"cannot read {path} as CSV: {error}") from error


def read_fields(path: Path, count: int, separator: str | None = None) -> list[list[str]]:
    """Lines of `count` fields or more; blanks around fields are dropped, empty lines too."""
    out = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) < count and any(fields):
            raise ToolError(f"{path}, line {number}: {line!r} has {len(fields)} fields, not {count}")
        if any(fields):
            out.append(fields)
    return out


def number(text: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise ToolError(f"{path}: {text!r} is no whole number") from None
