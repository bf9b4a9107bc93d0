"""Whole files. In: a path and its bytes. Out: the file, or an error that says what to do; never a piece of a file.

Written aside, synced, renamed, the folder synced: after a kill, a power cut or a full disk the file is the old one or
the new one.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from fcam_tools.common.errors import ToolError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
CURE = "make room, or choose another place"


@contextmanager
def writing(place: Path, cure: str = CURE) -> Iterator[None]:
    """For code that writes into a folder by itself: an error of a full disk names the folder, as the system's own does
    not."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL and not isinstance(error, shutil.Error):
            raise
        raise ToolError(f"cannot write {error.filename or place}: {error.strerror or error}; {cure}") from error


@contextmanager
def scratch(prefix: str, room: int = 0) -> Iterator[Path]:
    """A folder for files that are gone afterwards. `room`: bytes that will be needed there; less is refused at once,
    because libraries cut their files short on a full disk and say nothing."""
    place, cure = Path(tempfile.gettempdir()), "make room there, or set TMPDIR to another place"
    if shutil.disk_usage(place).free < room:
        raise ToolError(f"{place} has less than the {room / 1e6:.0f} MB that are needed for a while: {cure}")
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, writing(place, cure):
        yield Path(folder)


def write(path: Path, content: bytes) -> None:
    """Writes a file whole; its folder is made."""
    aside = path.with_name(f".{path.name}.aside")  # one name: what a killed process leaves, the next one takes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync(path.parent)
    except OSError as error:
        if not isinstance(error, NotADirectoryError):
            aside.unlink(missing_ok=True)
        raise ToolError(f"cannot write {path} ({len(content)} bytes): {error.strerror}; {CURE}") from error


def prepare(path: Path) -> None:
    """Makes the folder of a file that will be written much later, and refuses a place where it could not be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(f"cannot make {path.parent}: {error.strerror}; choose another place") from error
    if path.is_dir():
        raise ToolError(f"{path} is a folder: give the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise ToolError(f"cannot write into {path.parent}: choose another place")


def sync(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut (fsync)."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
