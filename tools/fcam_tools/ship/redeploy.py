"""New pictures to a new network on the cameras, as one command: train, evaluate, export, verify, pack, sign, deploy.

In: labelled pictures, the key that signs, hosts. Out: a folder with the checkpoint, its run, the bundle and the signed
file, and a row a camera. Each step is a verb of its own, shown before it runs, and takes its further words from here
(`--train="--recipe joint"`).

It refuses to sign a bundle whose network does not show on held-out pictures that it is good enough: one that is not
proven at all (judgement.py), one whose image AUROC may be below `--least-auroc` or whose escape rate at the shipped
threshold may be above `--most-escapes` (the worse ends of their 95 % intervals), or verdicts surely worse than those
of the bundle before it (`--than`, compare.py). What the engines
disagree on is refused by `verify`, and what the camera thinks wrong by the camera.

The folder is named after the pictures and the training: the same command goes on where it was stopped, and other
pictures begin anew. Other words for the export, or another key, make the next release of the same network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fcam_tools import data
from fcam_tools.common import run_folder
from fcam_tools.common.errors import ToolError
from fcam_tools.data import made_up
from fcam_tools.export import export
from fcam_tools.export.verify import find_fcam
from fcam_tools.measure import held_out, judgement
from fcam_tools.model.bundle import read_manifest
from fcam_tools.ship import deploy

log = logging.getLogger(__name__)

LEAST_AUROC, MOST_ESCAPES = 0.8, 0.5
LARGEST_COUNTER = 2**64 - 1
TOOLS = (sys.executable, "-m", "fcam_tools")
# In the folder: of each signed file, what beside pictures and training it was made of.
LEDGER = "signed.json"


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
        help="refuse a network whose image AUROC may be lower, by its 95 %% interval (default %(default)s)",
    )
    parser.add_argument(
        "--most-escapes",
        type=float,
        default=MOST_ESCAPES,
        metavar="SHARE",
        help="refuse a network that may pass more of the defective parts, by the 95 %% interval (default %(default)s)",
    )
    judgement.add_accept_argument(parser, "goes into the bundle")
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
    identity = f"{data.load(pictures, good_alone=True).fingerprint()} {shlex.split(words)}"
    return out / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def trained(folder: Path, args: argparse.Namespace) -> Path:
    """The checkpoint: there, gone on with, or begun."""
    checkpoint = folder / "net.pt"
    run = run_folder.Run(run_folder.beside(checkpoint))
    # A run that was killed while it began may have left a folder and nothing in it, which `train` takes.
    if not (run.folder / "run.json").is_file():
        words = [*accepted(args), *shlex.split(args.train)]
        step("train", args.pictures, "--out", checkpoint, "--name", args.name, *words)
    elif run.config.get("state") != "done":
        step("train", "--resume", run.folder, *accepted(args))
    return checkpoint


def accepted(args: argparse.Namespace) -> list[str]:
    return [judgement.ACCEPT] if args.accept_unproven else []


def made_of(args: argparse.Namespace) -> dict[str, Any]:
    """What makes another bundle of the same network, or another signature."""
    return {"export": shlex.split(args.export), "key": hashlib.sha256(args.key.read_bytes()).hexdigest()}


def ledger(folder: Path) -> dict[str, Any]:
    file = folder / LEDGER
    return run_folder.read_json(file) if file.is_file() else {}


def counter_of(file: Path) -> int:
    return int(file.stem.rpartition("-")[2])


def there(folder: Path, args: argparse.Namespace) -> tuple[Path | None, int]:
    """The signed file that this command has made before, and the counter that is the highest here.

    Refuses a counter that is taken by a file of other words: a release is one bundle.
    """
    last = max(folder.glob(f"{args.name}-*.fcam"), key=counter_of, default=None)
    file = last if args.counter is None else folder / f"{args.name}-{args.counter}.fcam"
    if file is not None and file.is_file():
        if ledger(folder).get(file.name) == made_of(args):
            return file, counter_of(file)
        if args.counter is not None:
            raise ToolError(
                f"{file} was made with other words for the export, or signed by another key: "
                "give a higher --counter, or none"
            )
        log.info(
            "%s was made with other words for the export, or signed by another key: the next release is made", file
        )
    return None, counter_of(last) if last else 0


def next_counter(cameras: Sequence[deploy.Camera], name: str) -> int:
    """One more than the highest release of this name on any camera that answers."""
    highest, silent = 0, []
    for camera in cameras:
        try:
            entries = deploy.entries_of(camera.ask(camera.bundle("list")))
        except (deploy.CameraError, OSError) as error:
            silent.append(f"{camera.host}: {error}")
            continue
        names = (entry["bundle"].rpartition(".") for entry in entries)
        highest = max([highest, *(int(counter) for own, _, counter in names if own == name)])
    if len(silent) == len(cameras):
        raise ToolError(f"which release this is, no camera says ({'; '.join(silent)}): mend it, or give --counter")
    for told in silent:
        log.warning("%s: which releases it has is not known, and it refuses one that is older", told)
    return highest + 1


def refuse_unproven(bundle: Path, args: argparse.Namespace) -> None:
    """What the export measured of the network as it ships, on pictures that it did not learn from."""
    manifest = read_manifest(bundle)
    found = judgement.figures_in(manifest)
    assert found is not None  # `export` wrote it just now
    log.info("%s; %s", judgement.sentence(found), judgement.quality(found))
    if found.made_up:
        log.warning("%s", judgement.ALONE)
    why = "" if args.accept_unproven else judgement.doubt(found) or manifest["provenance"].get("unproven", "")
    why, hint = (why, f"{judgement.ACCEPT} signs it all the same") if why else weakness(found, args)
    if not why:
        return
    size = manifest["input"]["width"], manifest["input"]["height"]
    setting = held_out.setting_of(made_up.load(args.pictures), found.split, size, {})
    raise ToolError(f"nothing was signed: {judgement.told(found, setting, args.pictures, why)}; {hint}")


def weakness(found: judgement.Figures, args: argparse.Namespace) -> tuple[str, str]:
    """Why a network that has learnt may not be good enough, and what accepts it all the same; empty if it is."""
    place = judgement.where(found.split)
    low, _ = found.auroc_interval or (0.0, 1.0)
    if low < args.least_auroc:
        why = f"image AUROC may be as low as {low:.3f}, {args.least_auroc:g} is the least: {judgement.quality(found)}"
        return f"{why} ({place})", "--least-auroc accepts less"
    _, high = found.escape_interval
    if high > args.most_escapes:
        passed = f"{found.defective - found.defective_rejected} of {found.defective} {found.spoilt} pass"
        why = f"the escape rate may be as high as {high:.3f}, {args.most_escapes:g} is the most: {passed} ({place})"
        return why, "--most-escapes accepts more"
    return "", ""


def refuse_worse(bundle: Path, args: argparse.Namespace) -> None:
    """The verdicts beside those of the bundle before it."""
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
    words = [*accepted(args), *shlex.split(args.export)]
    step("evaluate", checkpoint, "--data", args.pictures, "--record")
    step("export", checkpoint, bundle, "--data", args.pictures, *version, "--replace", *words)
    step("verify", bundle, "--checkpoint", checkpoint, "--fcam", fcam)
    refuse_unproven(bundle, args)
    refuse_worse(bundle, args)
    unsigned.unlink(missing_ok=True)
    step("bundle", "pack", bundle, "--out", unsigned, tool=(str(fcam),))
    password = ("--password-file", args.password_file) if args.password_file else ()
    step("bundle", "sign", unsigned, "--key", args.key, "--counter", counter, *password, tool=(str(fcam),))
    file = folder / f"{args.name}-{counter}.fcam"
    run_folder.write_json(folder / LEDGER, ledger(folder) | {file.name: made_of(args)})
    return unsigned.rename(file)


def refuse_early(args: argparse.Namespace) -> None:
    """What signing and comparing would refuse after hours of training."""
    if not args.key.is_file():
        raise ToolError(f"no key {args.key}: `fcam bundle keygen` makes one")
    # A pipe is as good as a file, and must not be read before its time.
    if args.password_file is not None and (args.password_file.is_dir() or not os.access(args.password_file, os.R_OK)):
        raise ToolError(
            f"no password file {args.password_file} that can be read: without --password-file the terminal is asked"
        )
    if args.counter is not None and not 1 <= args.counter <= LARGEST_COUNTER:
        raise ToolError(f"--counter {args.counter}: releases count from 1 to {LARGEST_COUNTER}")
    if args.than is not None:
        read_manifest(args.than)


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 all cameras are well, 1 some are not, 2 refused or failed before that."""
    # What is wrong is said now, not after the training.
    fcam = find_fcam()
    if fcam is None:
        raise ToolError("no fcam on this machine, which packs and signs: `cargo build`, or FCAM=/path/to/fcam")
    refuse_early(args)
    words = shlex.split(args.deploy)
    cameras = deploy.cameras_of(parsed(deploy, "BUNDLE", *args.hosts, *words))
    named = ("CHECKPOINT", "BUNDLE", "--data", args.pictures, "--name", args.name)
    export.options_of(parsed(export, *named, *shlex.split(args.export)))
    folder = folder_of(args.out, args.name, args.pictures, args.train)
    file, highest = there(folder, args)
    if file is not None:
        log.info("%s is there", file)
    else:
        counter = max(next_counter(cameras, args.name), highest + 1) if args.counter is None else args.counter
        file = signed(folder, trained(folder, args), fcam, args, counter)
    told = ["--json"] if args.json else []
    return subprocess.run([*TOOLS, "deploy", str(file), *args.hosts, *words, *told], check=False).returncode
