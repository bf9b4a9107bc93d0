"""A bundle appears whole, by a rename, or not at all. In: its place. Out: a folder to write into."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcam_tools.common import disk
from fcam_tools.common.errors import ToolError


def refuse_existing(out: Path, replace: bool) -> None:
    if out.exists() and not replace:
        raise ToolError(f"{out} exists: choose another name, or give --replace")
    if out.exists() and not (out / "manifest.toml").is_file():
        raise ToolError(f"{out} is not a bundle: move it away yourself")


@contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """A temporary sibling directory that becomes `out` at the end, or is gone if anything fails before."""
    with disk.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            partial.chmod(0o755)
            bundle = partial / out.name
            bundle.mkdir()
            yield bundle
            exchange(bundle, out, partial / "replaced")
        finally:
            shutil.rmtree(partial)


def exchange(bundle: Path, out: Path, replaced: Path) -> None:
    """Put the new bundle in the old one's place; the old one comes back if that fails."""
    if out.exists():
        out.rename(replaced)
    try:
        bundle.rename(out)
    except BaseException:
        if replaced.exists():
            replaced.rename(out)
        raise
