"""Does every engine judge the golden pictures as the bundle's proof says? The gate before a bundle is published.

In: a bundle, and if there are any the fcam binary and the checkpoint. Out: one row a picture and backend (ONNX Runtime
with optimisation off and on, PyTorch, fcam). It refuses (exit code 2) on a wrong hash, a broken rule of the network
file, or a difference beyond the manifest's tolerance. A backend that is absent is reported, never passed over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcam_tools.common import tables
from fcam_tools.common.program import find_fcam
from fcam_tools.data import Sight
from fcam_tools.export.proof import DISAGREE
from fcam_tools.export.qdq import lint, load
from fcam_tools.measure import judgement
from fcam_tools.model.answers import defect_score, iou, run_net, run_onnx, session, tensor, verdict
from fcam_tools.model.bundle import hashes, read_manifest, sight_of
from fcam_tools.model.checkpoint import load_checkpoint

Floats = NDArray[np.float32]
Backend = Callable[[Floats], tuple[Floats, Floats]]
FCAM_TIMEOUT_S = 600
GREY_LEVELS = 1  # how far two implementations of the resize may be apart
MOVED_LEVELS = 8  # the same where the part is moved after that: a level moves an edge by a hundredth of a pixel


@dataclass(frozen=True)
class Row:
    """What one backend made of one golden picture; iou is against the proof's map."""

    picture: str
    backend: str
    score: float
    verdict: str
    iou: float
    passed: bool


@dataclass
class Report:
    """All rows, every problem in words, and the backends that were not asked, with the reason."""

    bundle: Path
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Golden:
    """One entry of the proof, read from the bundle."""

    picture: str
    pixels: NDArray[np.uint8]
    map: Floats
    score: float
    verdict: str


class Judge:
    """The bundle's thresholds and tolerance, applied to what a backend returns."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.ok = next(i for i, entry in enumerate(manifest["classes"]) if entry.get("ok"))
        self.thresholds: dict[str, float] = manifest["thresholds"]
        self.tolerance: dict[str, float] = manifest["tolerance"]

    def judge(self, golden: Golden, backend: str, result: tuple[Floats, Floats]) -> Row:
        score = defect_score(result[0], self.ok)
        found = verdict(score, self.thresholds["score"])
        overlap = iou(golden.map, result[1], self.thresholds["map"])
        return Row(golden.picture, backend, score, found, overlap, self.agrees(golden, score, found, overlap))

    def agrees(self, golden: Golden, score: float, found: str, overlap: float) -> bool:
        near = abs(score - golden.score) <= self.tolerance["score"] and overlap >= self.tolerance["iou"]
        return near and found == golden.verdict


def verify(bundle: Path, fcam: Path | None = None, checkpoint: Path | None = None) -> Report:
    """Check a bundle's files, its network and every backend that can be had."""
    report = Report(bundle)
    manifest = read_manifest(bundle)
    report.problems += file_problems(bundle, manifest)
    if not report.ok:
        return report  # nothing that an altered file says is worth running
    report.problems += network_problems(bundle, manifest)
    judge_figures(report, manifest)
    judge = Judge(manifest)
    proof = [read_golden(bundle, entry, judge) for entry in manifest["golden"]]
    report.problems += resize_problems(bundle, sight_of(bundle, manifest), proof)
    for name, backend in backends(bundle, checkpoint, report):
        report.rows += [judge.judge(golden, name, backend(tensor(golden.pixels))) for golden in proof]
    ask_fcam(report, fcam or find_fcam(), proof)
    report.problems += [describe(row, judge.tolerance) for row in report.rows if not row.passed]
    return report


def judge_figures(report: Report, manifest: dict[str, Any]) -> None:
    """What the bundle says of held-out pictures, judged as the export did."""
    found = judgement.figures_in(manifest)
    if found is not None and found.made_up:
        report.warnings.append(judgement.ALONE)
    if found is None:
        report.warnings.append("the bundle does not say what it did to held-out pictures: export it again to know")
    elif doubt := judgement.doubt(found):
        told = f"{doubt}; train it on more or better pictures, and export it again"
        (report.warnings if "unproven" in manifest["provenance"] else report.problems).append(told)


def backends(bundle: Path, checkpoint: Path | None, report: Report) -> Iterator[tuple[str, Backend]]:
    for name, optimised in (("onnxruntime", False), ("onnxruntime optimised", True)):
        yield name, partial(run_onnx, session(bundle / "model.onnx", optimised))
    if checkpoint is None:
        report.skipped["pytorch"] = "no checkpoint given"
        return
    yield "pytorch", partial(run_net, load_checkpoint(checkpoint).net)


def file_problems(bundle: Path, manifest: dict[str, Any]) -> list[str]:
    """Files that are missing, altered or not in the list."""
    found, listed = hashes(bundle), manifest["files"]
    cure = "copy it again, or export it again"
    missing = [f"{name} is missing: {cure}" for name in sorted(listed.keys() - found.keys())]
    extra = [
        f"{name} is not in the manifest's list of files: remove it" for name in sorted(found.keys() - listed.keys())
    ]
    altered = [n for n in sorted(listed.keys() & found.keys()) if listed[n] != found[n]]
    return missing + extra + [f"{name} has SHA-256 {found[name]}, not {listed[name]}: {cure}" for name in altered]


def network_problems(bundle: Path, manifest: dict[str, Any]) -> list[str]:
    size, classes = manifest["input"], len(manifest["classes"])
    model = load(bundle / "model.onnx")
    found = lint(
        model, width=size["width"], height=size["height"], classes=classes, precision=manifest["precision"]
    )  # fmt: skip
    return [f"model.onnx: {violation}; export it again with this fcam-tools" for violation in found]


def read_golden(bundle: Path, entry: dict[str, Any], judge: Judge) -> Golden:
    with Image.open(bundle / entry["input"]) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    with Image.open(bundle / entry["map"]) as picture:
        proven = np.asarray(picture).astype(np.float32) / np.float32(65535)
    score = defect_score(np.array(entry["logits"], np.float32), judge.ok)
    return Golden(entry["picture"], pixels, proven, score, entry["verdict"])


def resize_problems(bundle: Path, sight: Sight, proof: list[Golden]) -> Iterator[str]:
    if sight.template is not None and find_fcam() is None:
        return  # only the camera's program moves parts; that it was not asked is said
    limit = MOVED_LEVELS if sight.template is not None else GREY_LEVELS
    for golden in proof:
        again = sight.read(bundle / golden.picture)
        apart = int(np.abs(again.astype(np.int16) - golden.pixels).max())
        if apart > limit:
            yield f"{golden.picture} resizes to something {apart} grey levels from its input picture: export it again"


def describe(row: Row, tolerance: dict[str, float]) -> str:
    return (
        f"{row.backend} disagrees with the proof on {row.picture}: score {row.score:.4f}, verdict {row.verdict}, "
        f"map iou {row.iou:.4f} (tolerance {tolerance['score']} and {tolerance['iou']}): {DISAGREE}"
    )


def ask_fcam(report: Report, fcam: Path | None, proof: list[Golden]) -> None:
    """Replay the proof on the fcam binary; its own judgement stands."""
    if fcam is None:
        report.skipped["fcam"] = "no binary: build it with cargo, or give --fcam"
        return
    answer = call_fcam(report, fcam)
    rows = [Row(g["picture"], "fcam", g["score"], g["verdict"], g["iou"], g["passed"]) for g in answer]
    report.rows += rows
    unseen = {golden.picture for golden in proof} - {row.picture for row in rows}
    report.problems += [f"fcam did not judge {picture}: take the fcam of this release" for picture in sorted(unseen)]


def call_fcam(report: Report, fcam: Path) -> list[dict[str, Any]]:
    """The golden rows of `fcam check BUNDLE --json`; what goes wrong becomes a problem."""
    command = [str(fcam), "check", str(report.bundle), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FCAM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        report.problems.append(f"cannot run {' '.join(command)}: {error}")
        return []
    if done.returncode:
        report.problems.append(f"{' '.join(command)} exited with {done.returncode}: {done.stderr.strip()[-500:]}")
    try:
        return json.loads(done.stdout)["golden"]
    except (ValueError, KeyError, TypeError):
        report.problems.append(f"{' '.join(command)} printed no golden rows: take the fcam of this release")
        return []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="the bundle directory")
    parser.add_argument("--fcam", type=Path, help="the fcam binary (default: $FCAM, target/debug/fcam, PATH)")
    parser.add_argument("--checkpoint", type=Path, help="the checkpoint of the bundle, to ask PyTorch too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    report = verify(args.bundle, args.fcam, args.checkpoint)
    print(json.dumps(asdict(report) | {"ok": report.ok}, default=str) if args.json else table(report))
    return 0 if report.ok else 2


def table(report: Report) -> str:
    """A line a picture and backend, then what is wrong and who was not asked."""
    rows = (
        (row.picture, row.backend, row.score, row.verdict, row.iou, "" if row.passed else "<- disagrees")
        for row in sorted(report.rows, key=lambda row: row.picture)
    )
    lines = [tables.table(("picture", "backend", "score", "verdict", "map iou", ""), rows)]
    lines += [f"not asked: {name} ({reason})" for name, reason in report.skipped.items()]
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines += [f"problem: {problem}" for problem in report.problems]
    return "\n".join(
        [*lines, "ok" if report.ok else "not ok: do not publish this bundle; each problem says what to do"]
    )
