"""Text tables: columns of numbers to the right, what is not measured, rows without an end of blanks."""

from __future__ import annotations

import pytest
from fcam_tools.common.tables import table


def test_columns_are_aligned_by_what_they_hold() -> None:
    found = table(["name", "score", "note"], [["a", 0.5, ""], ["longer", None, "seen"], ["b", "-12.25", None]])
    assert found.splitlines() == [
        "name     score  note",
        "a       0.5000",
        "longer       -  seen",
        "b       -12.25  -",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert table(["run", "seconds"], []) == "run  seconds"


def test_rows_of_another_length_are_a_bug() -> None:
    with pytest.raises(ValueError, match="argument"):
        table(["a", "b"], [["1"]])
