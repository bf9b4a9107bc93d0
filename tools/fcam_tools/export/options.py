"""What an export may vary. In: the command line. Out: checked options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fcam_tools.common.errors import ToolError
from fcam_tools.measure import operating


@dataclass(frozen=True)
class Options:
    """What an export may vary."""

    name: str = "model"
    version: str = "1.0.0"
    precision: str = "int8"
    method: str = "auto"
    calibration: int = 128
    golden: int = 8
    samples: int = 12
    samples_from: Path | None = None
    seed: int = 0
    replace: bool = False
    progress: bool = False
    prices: operating.Prices | None = None
    masks: bool = False
    accept_unproven: bool = False
    judge: bool = True  # whether held-out pictures must show that the network has learnt

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]{1,64}", self.name):
            raise ToolError(f"the name {self.name!r} is not made of a-z, 0-9 and -, 1 to 64 of them: give --name")
        if self.precision not in ("int8", "f32"):
            raise ToolError(f"no precision {self.precision}: choose int8 or f32")
        if self.golden < 1:
            raise ToolError("a bundle needs at least one golden picture: give --golden 2 or more")
