"""A bundle on the disk, as it is read: its manifest and its files' hashes. In: a bundle's folder. Out: both."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from fcam_tools.common.errors import ToolError
from fcam_tools.data.reading import stored
from fcam_tools.data.sight import Sight, Template

FORMATS = (1, 2, 3)  # the second one has `[locate]`, the third one `[drift]`
TEMPLATE = "template.png"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(bundle: Path) -> dict[str, str]:
    """Every file of a bundle but the manifest, by its path inside."""
    names = sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if not p.is_dir())
    return {name: sha256(bundle / name) for name in names if name != "manifest.toml"}


def read_manifest(bundle: Path) -> dict[str, Any]:
    try:
        manifest = tomllib.loads((bundle / "manifest.toml").read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot read {bundle / 'manifest.toml'}: {error}") from error
    if manifest.get("format") not in FORMATS:
        raise ToolError(
            f"{bundle} has the format {manifest.get('format')}, this tool reads {FORMATS[0]} to {FORMATS[-1]}"
        )
    return manifest


def sight_of(bundle: Path, manifest: dict[str, Any]) -> Sight:
    """What the bundle's network sees of a picture."""
    size, locate = (manifest["input"]["width"], manifest["input"]["height"]), manifest.get("locate")
    if not locate:
        return Sight(size)
    pixels = np.asarray(stored(bundle / locate["template"]).convert("RGB"))
    return Sight(size, Template(pixels, locate["shift"], locate["turn"], locate["agreement"]))
