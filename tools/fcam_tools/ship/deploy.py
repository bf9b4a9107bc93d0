"""One signed bundle to several cameras, over ssh: the canary first, the others once it judges its first parts.

In: a file of `fcam bundle sign`, and hosts as ssh knows them. Out: a row a camera. On each it asks `fcam bundle list`,
sends the file to `fcam bundle install`, and has it run by `fcam bundle activate`; the camera checks the signature,
proves the bundle on its own machine and goes back by itself if the first parts show a fault. It refuses a file that
nobody has signed. What a camera has already is not done again: a run that was stopped is started again as it was.
That a camera runs the bundle is believed of its station alone, never of what its disk says is active.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shlex
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from fcam_tools.common import tables
from fcam_tools.common.errors import ToolError, note_bug

log = logging.getLogger("fcam_tools")

SIGNATURE = "bundle.tar.minisig"
COMMENT = "trusted comment: fcam bundle 1: "
STORE = "/var/lib/fcam/bundles"
ENTRY = {"bundle", "active", "trial"}  # what is read of an installed bundle
CHUNK = 1 << 16
PROGRESS_S = 5.0
LONGEST_S = 7 * 24 * 3600
# A dead link ends by itself after these times; ssh never asks for a password.
SSH = (
    "ssh",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=4",
)
# The station's user owns what is installed: root and other users become it, by runuser or sudo.
AS_STATION = (
    'as() { case "$(id -un)" in {user}) "$@" ;; root) runuser -u {user} -- "$@" ;; '
    '*) sudo -n -u {user} -- "$@" ;; esac; }; '
)
# What `fcam bundle activate` ends with, and what that is for the camera.
ENDS = {"passed": "active", "running": "on trial", "waiting": "waiting", "next_start": "next start"}
GOOD = ("active", "unchanged", "installed", "would install", "would activate")
# Proven on golden pictures alone; good with --accept-trial.
WAITING = {
    "on trial": "not all of the parts have come that are watched",
    "waiting": "judges when the PLC asks for job {job}",
    "next start": "no station runs there",
}


class CameraError(Exception):
    """What went wrong on one camera."""


@dataclass(frozen=True)
class Release:
    """A signed file, and what it says it is; the cameras are who checks that."""

    path: Path
    id: str
    version: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Row:
    """What became of one camera: `state` is one of GOOD, of WAITING, "failed" or "not tried"."""

    host: str
    canary: bool
    before: str
    state: str
    detail: str
    seconds: float
    good: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the signed file, NAME-VERSION.fcam")
    parser.add_argument(
        "hosts", nargs="+", metavar="HOST", help="a camera, as ssh knows it: name, user@name, ssh://user@name:port"
    )
    parser.add_argument(
        "--canary",
        type=int,
        default=1,
        metavar="N",
        help="so many of the first cameras go first, one by one (default 1)",
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="cameras at once after that (default 4)")
    parser.add_argument(
        "--wait", type=int, default=60, metavar="SECONDS", help="for the first parts of each camera (default 60)"
    )
    parser.add_argument(
        "--accept-trial",
        action="store_true",
        help="a camera is good enough that waits for parts or for its job, or whose station is off",
    )
    parser.add_argument("--no-activate", action="store_true", help="install only: what runs goes on running")
    parser.add_argument("--dry-run", action="store_true", help="ask each camera, and say what would be done")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument("--user", default="fcam", help="the station's user on the cameras (default fcam)")
    parser.add_argument("--fcam", default="fcam", metavar="PATH", help="the program on the cameras (default fcam)")
    parser.add_argument(
        "--store", default=STORE, metavar="DIR", help=f"installed bundles on the cameras (default {STORE})"
    )
    parser.add_argument("--ssh-config", type=Path, metavar="FILE", help="in place of ~/.ssh/config")
    parser.add_argument(
        "--limit",
        type=int,
        default=900,
        metavar="SECONDS",
        help="for one step on one camera, what --wait asks for not included (default 900)",
    )


def read_release(path: Path) -> Release:
    try:
        with tarfile.open(path, "r:") as archive:
            member = archive.extractfile(SIGNATURE)
            text = member.read(CHUNK).decode("utf-8", "replace") if member else ""
    except KeyError:
        raise ToolError(f"{path} is not signed: `fcam bundle sign {path} --counter N`") from None
    except tarfile.TarError as error:
        raise ToolError(f"{path} is no file of `fcam bundle pack`: {error}") from None
    fields = next((line.removeprefix(COMMENT) for line in text.splitlines() if line.startswith(COMMENT)), "")
    head, _, version = fields.partition(" version=")
    values = dict(word.partition("=")[::2] for word in head.split(" "))
    if "name" not in values or not values.get("counter", "").isdigit():
        raise ToolError(f"{path} is not signed by this version of `fcam bundle sign`")
    content = path.read_bytes()
    identity = f"{values['name']}.{values['counter']}"
    return Release(path, identity, version, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Camera:
    """One host, and how it is reached."""

    host: str
    user: str
    fcam: str
    store: str
    config: Path | None
    limit_s: float

    def command(self, script: str) -> list[str]:
        config = ("-F", str(self.config)) if self.config else ()
        return [
            *SSH,
            *config,
            self.host,
            "sh -c " + shlex.quote(AS_STATION.replace("{user}", shlex.quote(self.user)) + script),
        ]

    def ask(self, script: str, sent: Path | None = None, waits_s: float = 0) -> str:
        """Runs a script on the camera, with a file as its standard input. Returns what it prints. `waits_s` is how long
        the script itself is told to wait, on top of what its work may take."""
        limit_s = self.limit_s + waits_s
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(self.command(script), stdin=subprocess.PIPE, stdout=out, stderr=err)
            timer = threading.Timer(limit_s, process.kill)
            timer.start()
            try:
                assert process.stdin is not None
                with process.stdin as pipe:
                    self.send(pipe, sent)
            except BrokenPipeError:
                pass  # it has said why on the way out
            finally:
                code = process.wait()
                overdue = not timer.is_alive()
                timer.cancel()
            if code != 0:
                raise CameraError(f"nothing for {limit_s:.0f} s" if overdue else complaint(code, text(err)))
            return text(out)

    def send(self, pipe: IO[bytes], path: Path | None) -> None:
        if path is None:
            return
        size, done, told = path.stat().st_size, 0, time.monotonic()
        with path.open("rb") as source:
            while chunk := source.read(CHUNK):
                pipe.write(chunk)
                done += len(chunk)
                if time.monotonic() - told > PROGRESS_S:
                    told = time.monotonic()
                    log.info("%s: %d of %d KiB sent", self.host, done >> 10, size >> 10)

    def bundle(self, *words: str) -> str:
        return "as " + shlex.join((self.fcam, "bundle", *words, "--store", self.store, "--json"))

    def installed(self, release: Release) -> tuple[list[dict[str, Any]], bool]:
        """What `fcam bundle list` says, and whether this very file is among it."""
        kept = shlex.quote(f"{self.store}/{release.id}.fcam")
        answer = self.ask(f"{self.bundle('list')} || exit; as sha256sum {kept} 2>/dev/null || true")
        entries, _, digest = answer.partition("\n")
        return entries_of(entries), digest.startswith(release.sha256)


def text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace").strip()


def complaint(code: int, said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    if code == 255:
        said = lines[-1] if lines else "no connection"
        return said if said.startswith("ssh") else f"ssh: {said}"
    if code == 127:
        return f"no fcam with `bundle` there: {lines[-1] if lines else ''}"
    # The program's own error, which may have several lines, comes last and begins with its name.
    start = max((i for i, line in enumerate(lines) if line.startswith(("fcam: ", "error: "))), default=len(lines) - 1)
    return " ".join(line.strip() for line in lines[max(start, 0) :]).removeprefix("fcam: ") or f"exit code {code}"


def parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        raise CameraError(f"its fcam answers in no JSON that is known here: {answer[:80]!r}") from None


def entries_of(answer: str) -> list[dict[str, Any]]:
    """What `fcam bundle list --json` says, an entry a bundle."""
    entries = parsed(answer)
    if isinstance(entries, list) and all(isinstance(entry, dict) and entry.keys() >= ENTRY for entry in entries):
        return entries
    raise CameraError(f"its fcam lists bundles in no form that is known here: {answer[:80]!r}")


def object_of(answer: str) -> dict[str, Any]:
    found = parsed(answer)
    if not isinstance(found, dict):
        raise CameraError(f"its fcam answers in no form that is known here: {answer[:80]!r}")
    return found


def deploy(camera: Camera, release: Release, args: argparse.Namespace, found: Callable[[str], None]) -> tuple[str, str]:
    """Brings one camera to this release, and tells what ran before. Returns its state and a detail."""
    entries, there = camera.installed(release)
    found(next((entry["bundle"] for entry in entries if entry["active"]), "-"))
    mine = next((entry for entry in entries if entry["bundle"] == release.id), {})
    refuse(release, mine)
    active = there and mine.get("active", False)
    if args.dry_run:
        doing = "its station is asked whether it runs" if active else "it is installed"
        return ("would activate", doing) if there else ("would install", f"{release.size >> 10} KiB")
    removed = [] if there else install(camera, release)
    if args.no_activate:
        return "installed", removals(removed)
    state, note = activate(camera, release, args.wait, active and not mine["trial"])
    return state, note or removals(removed)


def refuse(release: Release, entry: dict[str, Any]) -> None:
    if reason := entry.get("withdrawn"):
        raise CameraError(f"{release.id} was given up there: {reason} (mend it, sign it with a higher counter)")
    if reason := entry.get("problem"):
        raise CameraError(f"{release.id} cannot be used there: {reason}")


def activate(camera: Camera, release: Release, wait_s: int, settled: bool) -> tuple[str, str]:
    """Has it run. A station that judges with a settled bundle says so at once, of one on trial when that is through;
    anything else is proven first."""
    doing = "its station is asked whether it runs" if settled else "its proof and its first parts are waited for"
    log.info("%s: %s: %s", camera.host, release.id, doing)
    words = camera.bundle("activate", release.id, "--wait", str(wait_s))
    steps, _, last = camera.ask(words, waits_s=wait_s).rpartition("\n")
    end = object_of(last)
    if end.get("event") not in ENDS:
        raise CameraError(f"its fcam ends with {end}")
    state = ENDS[end["event"]]
    if state == "active" and settled:
        proven = '"proving"' in steps
        return ("active", "it was active, and did not run") if proven else ("unchanged", "it runs already")
    return state, WAITING.get(state, "").format(job=end.get("job"))


def install(camera: Camera, release: Release) -> list[str]:
    log.info("%s: %s is sent, %d KiB", camera.host, release.id, release.size >> 10)
    answer = object_of(camera.ask(camera.bundle("install", "-"), release.path))
    if answer.get("bundle") != release.id:
        raise CameraError(f"it installed {answer.get('bundle')} and not {release.id}")
    return answer.get("removed", [])


def removals(removed: list[str]) -> str:
    return f"{', '.join(removed)} removed" if removed else ""


def attempt(camera: Camera, release: Release, args: argparse.Namespace, canary: bool) -> Row:
    before, began = ["-"], time.monotonic()
    try:
        state, detail = deploy(camera, release, args, lambda active: before.append(active))
    except (CameraError, OSError) as error:
        state, detail = "failed", str(error)
    except Exception as error:  # what was done on the other cameras is told all the same
        state, detail = "failed", note_bug(error)
    good = state in GOOD or (args.accept_trial and state in WAITING)
    row = Row(camera.host, canary, before[-1], state, detail, round(time.monotonic() - began, 1), good)
    log.info("%s: %s%s", row.host, row.state, f" ({row.detail})" if row.detail else "")
    return row


def rollout(cameras: list[Camera], release: Release, args: argparse.Namespace) -> Iterator[Row]:
    """The canaries one by one; the first that is not well ends it, and the others keep what they have."""
    canaries, others = cameras[: args.canary], cameras[args.canary :]
    bad = ""
    for camera in canaries:
        if bad:
            yield untried(camera, True, bad)
            continue
        row = attempt(camera, release, args, True)
        bad = "" if row.good else f"the canary {camera.host}"
        yield row
    if bad:
        yield from (untried(camera, False, bad) for camera in others)
        return
    with ThreadPoolExecutor(args.jobs) as pool:
        yield from pool.map(lambda camera: attempt(camera, release, args, False), others)


def untried(camera: Camera, canary: bool, bad: str) -> Row:
    return Row(camera.host, canary, "-", "not tried", f"{bad} is not well", 0, False)


def table(rows: list[Row]) -> str:
    told = (
        (f"{row.host} *" if row.canary else row.host, row.before, row.state, f"{row.seconds:.1f}", row.detail)
        for row in rows
    )
    return tables.table(("camera", "before", "state", "s", "detail"), told)


def cameras_of(args: argparse.Namespace) -> list[Camera]:
    if wrong := next((host for host in args.hosts if host.startswith("-")), None):
        raise ToolError(f"{wrong} is no host")
    if repeated := next((host for host in args.hosts if args.hosts.count(host) > 1), None):
        raise ToolError(f"{repeated} is named twice")
    if args.canary < 0 or args.jobs < 1:
        raise ToolError("--canary is 0 or more, --jobs 1 or more")
    if not (0 <= args.wait <= LONGEST_S and 1 <= args.limit <= LONGEST_S):
        raise ToolError(f"--wait is 0 to {LONGEST_S} seconds, --limit 1 to {LONGEST_S}")
    return [Camera(host, args.user, args.fcam, args.store, args.ssh_config, args.limit) for host in args.hosts]


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 all cameras are well, 1 some are not."""
    cameras, release = cameras_of(args), read_release(args.bundle)
    rows = list(rollout(cameras, release, args))
    if args.json:
        print(json.dumps({"bundle": release.id, "version": release.version, "cameras": [asdict(row) for row in rows]}))
    else:
        print(f"{release.id}, version {release.version}{', dry run' if args.dry_run else ''}; * canary")
        print(table(rows))
    waiting = sum(not row.good for row in rows)
    if waiting:
        print(
            f"{waiting} of {len(rows)} cameras are not well: mend them, and run this again; what is done stays done",
            file=sys.stderr,
        )
    return 1 if waiting else 0
