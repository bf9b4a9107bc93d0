"""New pictures to a new network on the cameras, as one command: train, evaluate, export, verify, pack, sign, deploy.

In: labelled pictures, the key that signs, hosts. Out: a folder with the checkpoint, its run, the bundle and the signed
file, and a row a camera. Each step is a verb of its own, shown before it runs, and takes its further words from here
(`--train="--recipe joint"`).

It refuses to sign a bundle whose int8 network is not good enough on the test split: an image AUROC below
`--least-auroc`, or verdicts surely worse than those of the bundle before it (`--than`, compare.py). What the engines
disagree on is refused by `verify`, and what the camera thinks wrong by the camera.

The folder is named after the pictures and the training: the same command goes on where it was stopped, and other
pictures begin anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fcam_tools import data, deploy, export, runs
from fcam_tools.errors import ToolError
from fcam_tools.verify import find_fcam, read_manifest

log = logging.getLogger(__name__)

LEAST_AUROC = 0.9
TOOLS = (sys.executable, "-m", "fcam_tools")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", help=data.HELP)
    parser.add_argument("hosts", nargs="+", metavar="HOST", help="cameras as ssh knows them, the canary first")
    parser.add_argument("--name", required=True, help="name of the bundle, a-z 0-9 -")
    parser.add_argument("--key", type=Path, required=True, help="the secret key, of `fcam bundle keygen`")
    parser.add_argument("--password-file", type=Path, help="its password, in place of the terminal")
    parser.add_argument("--counter", type=int, help="of this release (default: the cameras' highest of this name + 1)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where folders go (default: %(default)s)")
    parser.add_argument("--than", type=Path, metavar="BUNDLE", help="the bundle before it: refuse a worse one")
    parser.add_argument(
        "--least-auroc",
        type=float,
        default=LEAST_AUROC,
        metavar="AUROC",
        help="refuse a network whose image AUROC on the test split is lower (default %(default)s)",
    )
    for verb in ("train", "export", "deploy"):
        parser.add_argument(f"--{verb}", default="", metavar="WORDS", help=f'words for `{verb}`, as --{verb}="..."')
    parser.add_argument("--json", action="store_true", help="the rows as JSON")


def parsed(verb: ModuleType, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(f"fcam-tools {verb.__name__.rpartition('.')[2]}")
    verb.add_arguments(parser)
    return parser.parse_args(words)


def step(*words: object, tool: Sequence[str] = TOOLS) -> None:
    """One verb, told on standard error; what it refuses ends this command."""
    shown = shlex.join([Path(tool[0]).name if tool is not TOOLS else "fcam-tools", *map(str, words)])
    log.info("== %s", shown)
    began = time.monotonic()
    code = subprocess.run([*tool, *map(str, words)], stdout=2, check=False).returncode
    if code != 0:
        raise ToolError(f"`{shown}` ended with {code}: mend what it says, and run this command again")
    log.info("== %.0f s", time.monotonic() - began)


def answer(*words: object) -> dict[str, Any]:
    """What a verb says as JSON; its complaints are this command's."""
    done = subprocess.run([*TOOLS, *map(str, words), "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"`fcam-tools {shlex.join(map(str, words))}` ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def folder_of(out: Path, name: str, pictures: str, words: str) -> Path:
    made_of = f"{data.load(pictures).fingerprint()} {shlex.split(words)}"
    return out / f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"


def trained(folder: Path, args: argparse.Namespace) -> Path:
    """The checkpoint: there, gone on with, or begun."""
    checkpoint = folder / "net.pt"
    run = runs.Run(runs.beside(checkpoint))
    if not run.folder.is_dir():
        step("train", args.pictures, "--out", checkpoint, "--name", args.name, *shlex.split(args.train))
    elif run.config.get("state") != "done":
        step("train", "--resume", run.folder)
    return checkpoint


def next_counter(cameras: Sequence[deploy.Camera], name: str) -> int:
    """One more than the highest release of this name on any camera that answers."""
    highest, silent = 0, []
    for camera in cameras:
        try:
            entries = deploy.parsed(camera.ask(camera.bundle("list")))
        except (deploy.CameraError, OSError) as error:
            silent.append(f"{camera.host}: {error}")
            continue
        names = (entry["bundle"].rpartition(".") for entry in entries)
        highest = max([highest, *(int(counter) for own, _, counter in names if own == name)])
    if len(silent) == len(cameras):
        raise ToolError(f"which release this is, no camera says ({'; '.join(silent)}): mend it, or give --counter")
    return highest + 1


def refuse_worse(checkpoint: Path, bundle: Path, args: argparse.Namespace) -> None:
    """The int8 network on the test split, by itself and beside the bundle before it."""
    rows = answer("evaluate", checkpoint, "--data", args.pictures, "--bundle", bundle, "--only")["rows"]
    auroc = rows["int8"]["image_auroc"]
    if auroc is None:
        raise ToolError(f"the test split of {args.pictures} needs good and bad pictures: nothing was signed")
    if auroc < args.least_auroc:
        raise ToolError(
            f"image AUROC {auroc:.3f} on the test split, {args.least_auroc} is the least: nothing was signed. "
            f"`fcam-tools inspect {args.pictures}` looks for what is wrong; --least-auroc accepts less"
        )
    log.info("image AUROC %.3f on the test split", auroc)
    if args.than is None:
        return
    metrics = answer("compare", args.than, bundle, args.pictures, "--sheet", bundle.parent / "compare.png")["metrics"]
    # A rate is worse where it is higher.
    lost = [name for name in ("image_auroc", "pxap") if name in metrics and metrics[name]["interval"][1] < 0]
    lost += [name for name in ("escape_rate", "false_reject_rate") if metrics[name]["interval"][0] > 0]
    if lost:
        told = ", ".join(f"{name} {metrics[name]['a']:.3f} -> {metrics[name]['b']:.3f}" for name in lost)
        raise ToolError(f"worse than {args.than}: {told}. Nothing was signed; see {bundle.parent / 'compare.png'}")


def signed(folder: Path, checkpoint: Path, fcam: Path, args: argparse.Namespace, counter: int) -> Path:
    """Exports, proves, packs and signs. The signed file takes its name last, as a whole."""
    bundle, unsigned = folder / "bundle", folder / "unsigned.fcam"
    version = ("--name", args.name, "--version", f"1.0.{counter}")
    step("evaluate", checkpoint, "--data", args.pictures, "--record")
    step("export", checkpoint, bundle, "--data", args.pictures, *version, "--replace", *shlex.split(args.export))
    step("verify", bundle, "--checkpoint", checkpoint, "--fcam", fcam)
    refuse_worse(checkpoint, bundle, args)
    unsigned.unlink(missing_ok=True)
    step("bundle", "pack", bundle, "--out", unsigned, tool=(str(fcam),))
    password = ("--password-file", args.password_file) if args.password_file else ()
    step("bundle", "sign", unsigned, "--key", args.key, "--counter", counter, *password, tool=(str(fcam),))
    return unsigned.rename(folder / f"{args.name}-{counter}.fcam")


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 all cameras are well, 1 some are not, 2 refused or failed before that."""
    # What is wrong is said now, not after the training.
    fcam = find_fcam()
    if fcam is None:
        raise ToolError("no fcam on this machine, which packs and signs: `cargo build`, or FCAM=/path/to/fcam")
    if not args.key.is_file():
        raise ToolError(f"no key {args.key}: `fcam bundle keygen` makes one")
    if args.than is not None:
        read_manifest(args.than)
    words = shlex.split(args.deploy)
    cameras = deploy.cameras_of(parsed(deploy, "BUNDLE", *args.hosts, *words))
    named = ("CHECKPOINT", "BUNDLE", "--data", args.pictures, "--name", args.name)
    export.options_of(parsed(export, *named, *shlex.split(args.export)))
    folder = folder_of(args.out, args.name, args.pictures, args.train)
    files = folder.glob(f"{args.name}-{args.counter or '*'}.fcam")
    file = max(files, key=lambda path: int(path.stem.rpartition("-")[2]), default=None)
    if file is not None:
        log.info("%s is there", file)
    else:
        counter = next_counter(cameras, args.name) if args.counter is None else args.counter
        file = signed(folder, trained(folder, args), fcam, args, counter)
    told = ["--json"] if args.json else []
    return subprocess.run([*TOOLS, "deploy", str(file), *args.hosts, *words, *told], check=False).returncode
