"""HTML pages that need nothing beside them. In: a template's name and what it shows. Out: the page, pictures inlined.

Templates are in the folder `templates`. Whatever they show is escaped.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fcam_tools.common import tables


@dataclass(frozen=True)
class Inline:
    """A picture's bytes, PNG or JPEG, as a page carries them."""

    content: bytes
    kind: str = "png"

    @property
    def base64(self) -> str:
        return base64.b64encode(self.content).decode()


def render(template: str, **shown: Any) -> str:
    environment = Environment(
        loader=PackageLoader("fcam_tools.judge"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": tables.cell, "short": "{:g}".format}
    return environment.get_template(template).render(**shown)
