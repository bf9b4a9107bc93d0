"""Golden pictures: the proof that another engine computes the same. In: a checkpoint, its network file, val pictures.
Out: the clearest ones, with what ONNX Runtime made of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fcam_tools.common.errors import ToolError
from fcam_tools.export.pictures import Tree, spread, write_as_camera
from fcam_tools.model import answers
from fcam_tools.model.answers import defect_score, iou, run_net, run_onnx, tensor, verdict
from fcam_tools.model.checkpoint import Checkpoint

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
# A region of 100 pixels loses a tenth of its IoU to five pixels that round the other way on another engine.
TOLERANCE = {"score": 0.05, "iou": 0.85}
CANDIDATES = 4  # pictures tried for each golden one
# What to do about a bundle whose network answers otherwise than its proof or its checkpoint.
DISAGREE = (
    "do not publish this bundle: export it again with another --method or more --calibration pictures, or with "
    "--precision f32; a network that is trained longer has surer maps"
)


@dataclass(frozen=True)
class Proof:
    """One golden picture, what ONNX Runtime made of it, and how near two other evaluations came."""

    path: Path
    pixels: Pixels
    logits: Floats
    map: Floats
    score: float
    verdict: str
    agreement: float


class Prover:
    """Makes proofs with the file as it ships, optimisation off, beside an optimised session and the float network."""

    def __init__(self, checkpoint: Checkpoint, model: Path) -> None:
        self.checkpoint = checkpoint
        self.ok = checkpoint.classes.index(checkpoint.ok)
        self.plain = answers.session(model, optimised=False)
        self.optimised = answers.session(model, optimised=True)

    def prove(self, path: Path) -> Proof:
        pixels = self.checkpoint.sight.read(path)
        picture = tensor(pixels)
        logits, found = run_onnx(self.plain, picture)
        score = defect_score(logits, self.ok)
        thresholds = self.checkpoint.thresholds
        others = (run_onnx(self.optimised, picture), run_net(self.checkpoint.net, picture))
        worst = min(self.nearness(score, found, other) for other in others)
        return Proof(path, pixels, logits, found, score, verdict(score, thresholds["score"]), worst)

    def nearness(self, score: float, found: Floats, other: tuple[Floats, Floats]) -> float:
        """1 where another evaluation agrees fully; below 0 where one of its differences exceeds the tolerance."""
        apart = abs(score - defect_score(other[0], self.ok)) / TOLERANCE["score"]
        missed = (1 - iou(found, other[1], self.checkpoint.thresholds["map"])) / (1 - TOLERANCE["iou"])
        return 1 - max(apart, missed)

    def is_clear(self, proof: Proof) -> bool:
        """Whether a backend that is off by the whole tolerance still gives the same verdict."""
        return abs(proof.score - self.checkpoint.thresholds["score"]) > TOLERANCE["score"]


def choose_golden(
    prover: Prover, tree: Tree, count: int, progress: bool, accept: bool = False
) -> tuple[list[Proof], str]:
    """The clearest pictures of a few random ones, half of them OK; and a sentence about the choice.

    Refuses a network that answers most of them otherwise than the float one.
    """
    ok = prover.checkpoint.ok
    tried = spread(tree, ok, CANDIDATES * count)
    proofs = {path: prover.prove(path) for path in tqdm(tried, desc="golden pictures", disable=not progress)}
    clear = {path: proof for path, proof in proofs.items() if prover.is_clear(proof)}
    # A map of five pixels differs by one of them: what agrees proves the engine, if it is what most pictures do.
    agreed = {path: proof for path, proof in clear.items() if proof.agreement >= 0}
    fit = agreed if 2 * len(agreed) >= len(clear) else clear
    ranked = {name: rank(paths, fit) for name, paths in tree.items()}
    chosen = spread(ranked, ok, count)
    if not chosen:
        raise ToolError(
            f"none of {len(tried)} val pictures proves the model: every score is within {TOLERANCE['score']} of the "
            f"threshold {prover.checkpoint.thresholds['score']}: train longer, or move the threshold"
        )
    refuse_disagreement([clear[path] for path in chosen], accept)
    agreeing = sum(proof.agreement >= 0 for proof in proofs.values())
    verdicts = {clear[path].verdict for path in chosen}
    if len(verdicts) == 1:
        log.warning("all golden pictures have the verdict %s: the proof would not notice a stuck engine", *verdicts)
    return [clear[path] for path in chosen], (
        f"{len(chosen)} of {len(tried)} val pictures tried, {len(clear)} clear, {agreeing} within tolerance of float"
    )


def refuse_disagreement(proofs: Sequence[Proof], accept: bool) -> None:
    """Refuses what `verify` would refuse; with `accept` it says so and goes on."""
    apart = sum(proof.agreement < 0 for proof in proofs)
    if not apart:
        return
    told = (
        f"the network for the camera answers {apart} of {len(proofs)} golden pictures otherwise than the one that was "
        f"trained, beyond the tolerance (score {TOLERANCE['score']}, map IoU {TOLERANCE['iou']})"
    )
    if not accept:
        raise ToolError(f"{told}: {DISAGREE}")
    log.warning("WARNING: %s: %s", told, DISAGREE)


def rank(paths: Sequence[Path], clear: Mapping[Path, Proof]) -> list[Path]:
    """The clear pictures of `paths`, best agreement of all evaluations first."""
    return sorted((p for p in paths if p in clear), key=lambda path: -clear[path].agreement)


def write_golden(proofs: Sequence[Proof], bundle: Path) -> list[dict[str, object]]:
    """The golden files, and the manifest's entries for them."""
    (bundle / "golden").mkdir()
    entries: list[dict[str, object]] = []
    for index, proof in enumerate(proofs):
        names = {role: f"golden/{index:03}{end}.png" for role, end in GOLDEN_FILES.items()}
        write_as_camera(proof.path, bundle / names["picture"])
        Image.fromarray(proof.pixels).save(bundle / names["input"])
        Image.fromarray(np.round(proof.map * 65535).astype(np.uint16)).save(bundle / names["map"])
        logits = [float(value) for value in proof.logits]
        entries.append({**names, "logits": logits, "verdict": proof.verdict})
    return entries


GOLDEN_FILES = {"picture": "", "input": ".input", "map": ".map"}
