"""Text tables. In: a head and rows. Out: aligned columns, as every verb prints them.

Columns of numbers are aligned to the right, others to the left. A float has four digits unless it is given as text;
None, which is "not measured", is shown as "-".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"[-+]?[0-9.]*")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [[cell(value) for value in row] for row in rows]
    columns = list(zip(head, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(map(NUMBER.fullmatch, column[1:])) for column in columns]
    return "\n".join(
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(head), *lines]
    )


def cell(value: object) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
