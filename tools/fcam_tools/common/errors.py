"""What the host tool refuses: the command line prints its message and exits with code 2. Everything else is a bug of
the tool: its traceback goes to a file (`note_bug`), and the command line says where."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from fcam_tools import __version__


class ToolError(Exception):
    """A refusal: the message is lower case, has no full stop, and says what to do."""


class ArgumentError(ToolError, ValueError):
    """A function got arguments that it refuses; which caller gave them does not matter."""


def note_bug(error: BaseException) -> str:
    """Writes the traceback into a file of its own. Returns a line for people: what happened, that it is a bug, where to
    read on."""
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    content = f"fcam-tools {__version__}, {sys.argv}\n{''.join(traceback.format_exception(error))}"
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-"
    for place in (os.environ.get("XDG_STATE_HOME") or "~/.local/state", tempfile.gettempdir()):
        try:
            folder = Path(place).expanduser() / "fcam-tools"
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", prefix=name, suffix=".log", dir=folder, delete=False) as file:
                file.write(content)
        except (OSError, RuntimeError):  # no place to write, or a user without a home
            continue
        return f"{what}; this is a bug of fcam-tools: please report it with {file.name}"
    return f"{what}; this is a bug of fcam-tools: please report it with what --debug prints"
