"""A bundle on the disk, as it is read: its manifest and its files' hashes. In: a bundle's folder. Out: both."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from fcam_tools.common.errors import ToolError

FORMAT = 1


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
    if manifest.get("format") != FORMAT:
        raise ToolError(f"{bundle} has the format {manifest.get('format')}, this tool reads {FORMAT}")
    return manifest
