"""From a trained checkpoint to a bundle: the network as one ONNX file, with the proof that it judges as it should.

In: a checkpoint (torch file), and the pictures that it was trained on. Out: a directory as models/README.md says.
It refuses a network file that breaks a rule, and a bundle without proof: pictures whose score is so near the threshold
that rounding on another engine may flip the verdict are no proof. The bundle appears whole, by a rename, or not at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import random
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import tomli_w
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fcam_tools.common import disk
from fcam_tools.common.errors import ToolError
from fcam_tools.data import SUFFIXES, Dataset, kinds, made_up, read_picture
from fcam_tools.data.reading import stored
from fcam_tools.export import operators, qdq
from fcam_tools.export import quantize as quantization
from fcam_tools.export.qdq import INPUT, OUTPUTS, lint
from fcam_tools.judge.truth import truth_of
from fcam_tools.measure import held_out, judgement, operating
from fcam_tools.model.network import Net, net_of
from fcam_tools.train.runs import checkpoint_in, keep_bundle

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Tree = dict[str, list[Path]]

FORMAT = 1
OPSET = 17
# A region of 100 pixels loses a tenth of its IoU to five pixels that round the other way on another engine.
TOLERANCE = {"score": 0.05, "iou": 0.85}
CANDIDATES = 4  # pictures tried for each golden one
JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}  # 4:4:4: thin coloured defects survive
# What to do about a bundle whose network answers otherwise than its proof or its checkpoint.
DISAGREE = (
    "do not publish this bundle: export it again with another --method or more --calibration pictures, or with "
    "--precision f32; a network that is trained longer has surer maps"
)
SETTINGS = ("settings", "state_dict", "classes", "ok", "size", "thresholds", "provenance", "metrics")
THRESHOLDS = ("score", "map", "map_low", "min_area_px")


# The checkpoint.


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what belongs to it; classes in the order of the logits, size is (width, height)."""

    net: Net
    classes: list[str]
    ok: str
    size: tuple[int, int]
    thresholds: dict[str, float]
    provenance: dict[str, str]
    metrics: dict[str, float]
    saved: Mapping[str, Any] = field(default_factory=dict)  # how it was trained, and what that showed


def load_checkpoint(path: Path) -> Checkpoint:
    path = checkpoint_in(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for each way in which a file can be no checkpoint
        raise ToolError(f"cannot read the checkpoint {path}: {error}") from error
    missing = [key for key in SETTINGS if key not in saved]
    if missing:
        raise ToolError(f"the checkpoint {path} lacks {', '.join(missing)}: write it with fcam-tools train")
    size = saved["size"]
    checkpoint = Checkpoint(
        net=net_of(saved),
        classes=list(saved["classes"]),
        ok=saved["ok"],
        size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
        thresholds=dict(saved["thresholds"]),
        provenance={key: str(value) for key, value in saved["provenance"].items()},
        metrics={key: float(value) for key, value in saved["metrics"].items()},
        saved={key: saved[key] for key in ("recipe", "training", "judgement") if key in saved},
    )
    check_checkpoint(checkpoint, int(saved["settings"]["classes"]))
    return checkpoint


def check_checkpoint(checkpoint: Checkpoint, logits: int) -> None:
    if len(checkpoint.classes) != logits or len(set(checkpoint.classes)) != logits:
        raise ToolError(f"the checkpoint names the classes {checkpoint.classes} for {logits} logits: name each once")
    if checkpoint.ok not in checkpoint.classes:
        raise ToolError(f"the ok class {checkpoint.ok} is none of the classes {checkpoint.classes}")
    if any(side % 16 or not 32 <= side <= 2048 for side in checkpoint.size):
        raise ToolError(f"the input size {checkpoint.size} is not made of multiples of 16 from 32 to 2048")
    missing = [name for name in THRESHOLDS if name not in checkpoint.thresholds]
    if missing:
        raise ToolError(f"the checkpoint has no threshold {', '.join(missing)}: write it with fcam-tools train")


# Pictures and what a camera makes of them.


def pictures_of(dataset: Dataset, split: str) -> Tree:
    """The pictures of each class in one split."""
    tree: Tree = {name: [] for name in dataset.classes}
    for picture in dataset.splits[split]:
        tree[dataset.classes[picture.label]].append(picture.path)
    return tree


def tensor(pixels: Pixels) -> Floats:
    """Pixels [H, W, 3] as the network's input [1, 3, H, W], (pixel - 128) / 128."""
    return np.ascontiguousarray((pixels.astype(np.float32) - 128).transpose(2, 0, 1)[None] / 128)


def shuffled(tree: Tree, rng: random.Random) -> Tree:
    return {name: rng.sample(paths, len(paths)) for name, paths in tree.items()}


def spread(tree: Mapping[str, Sequence[Path]], ok: str, count: int) -> list[Path]:
    """Up to `count` pictures, first ones first: half of them OK, the rest in turn from the other classes."""
    defects = [list(paths) for name, paths in sorted(tree.items()) if name != ok]
    rounds = range(max((len(paths) for paths in defects), default=0))
    bad = [paths[i] for i in rounds for paths in defects if i < len(paths)]
    good = list(tree.get(ok, []))[: max(count // 2, count - len(bad))]
    return good + bad[: count - len(good)]


# Judgement, as the camera does it.


def defect_score(logits: Floats, ok: int) -> float:
    """1 - softmax(logits)[ok], logits [K]."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return float(1 - powers[ok] / powers.sum())


def verdict(score: float, threshold: float) -> str:
    return "reject" if score >= threshold else "pass"


def iou(a: Floats, b: Floats, threshold: float) -> float:
    """Intersection over union of two maps at a threshold; two empty maps agree."""
    x, y = a >= threshold, b >= threshold
    union = np.count_nonzero(x | y)
    return np.count_nonzero(x & y) / union if union else 1.0


def run_onnx(runner: ort.InferenceSession, picture: Floats) -> tuple[Floats, Floats]:
    """Logits [K] and map [H, W] of one picture."""
    logits, found = runner.run(OUTPUTS, {INPUT: picture})
    return logits[0], found[0, 0]


# The network file.


def write_float(checkpoint: Checkpoint, out: Path) -> None:
    """The network as a float ONNX file, static shape, batch 1, tidied."""
    width, height = checkpoint.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about the static sizes that we want, and of its own age
        torch.onnx.export(
            checkpoint.net,
            (torch.zeros(1, 3, height, width),),
            str(out),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.save(quantization.prepare(out), out)


def refuse_violations(model: Path, checkpoint: Checkpoint, precision: str) -> None:
    width, height = checkpoint.size
    classes = len(checkpoint.classes)
    found = lint(qdq.load(model), width=width, height=height, classes=classes, precision=precision)
    if found:
        raise ToolError("the exported network breaks the bundle's rules:\n  " + "\n  ".join(map(str, found)))


def refuse_operators(float_onnx: Path, checkpoint: Checkpoint) -> None:
    """Refuse a network that the camera's int8 engine cannot compute, before an hour goes into its scales."""
    found = operators.refusals(onnx.load(float_onnx))
    if found:
        raise ToolError(
            f"the camera's int8 engine does not take all of {checkpoint.net.settings['backbone']} with its decoder:\n"
            f"{operators.told(found)}\nexport it with --precision f32, or train another backbone or decoder"
        )


def calibration_pictures(dataset: Dataset, count: int, seed: int, size: tuple[int, int]) -> list[Floats]:
    """Random pictures of the train and val splits; the test split stays unseen."""
    paths = [p.path for split in ("train", "val") for p in dataset.splits[split]]
    chosen = random.Random(seed).sample(paths, min(count, len(paths)))
    return [tensor(read_picture(path, size)) for path in chosen]


# The proof.


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
        self.plain = quantization.session(model, optimised=False)
        self.optimised = quantization.session(model, optimised=True)

    def prove(self, path: Path) -> Proof:
        pixels = read_picture(path, self.checkpoint.size)
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
        """A backend that is off by the whole tolerance still gives the same verdict."""
        return abs(proof.score - self.checkpoint.thresholds["score"]) > TOLERANCE["score"]


def run_net(net: Net, picture: Floats) -> tuple[Floats, Floats]:
    """Logits [K] and map [H, W] from PyTorch."""
    with torch.inference_mode():
        logits, found = net(torch.from_numpy(picture))
    return logits[0].numpy(), found[0, 0].numpy()


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
    """The clear ones, those first on which all evaluations agree best."""
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


def write_as_camera(source: Path, out: Path) -> None:
    """A PNG without alpha, palette or metadata: Gray8 or RGB8."""
    picture = stored(source)
    plain = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    Image.fromarray(np.asarray(plain)).save(out)


def write_samples(paths: Sequence[Path], bundle: Path) -> None:
    """JPEGs named by their number and class, good and bad mixed."""
    (bundle / "samples").mkdir()
    for index, path in enumerate(paths):
        label = re.sub(r"[^a-z0-9]+", "-", path.parent.name.lower()).strip("-")
        stored(path).convert("RGB").save(bundle / "samples" / f"{index:02}-{label}.jpg", **JPEG)


def choose_samples(dataset: Dataset, folder: Path | None, ok: str, count: int, rng: random.Random) -> list[Path]:
    """Pictures of a folder, else of the test split (of the val split where there is none)."""
    if folder is not None:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise ToolError(f"no pictures in {folder}: give --samples a folder of pictures")
    else:
        tree = pictures_of(dataset, "test" if dataset.splits["test"] else "val")
        paths = spread(shuffled(tree, rng), ok, count)
    return rng.sample(paths, min(count, len(paths)))


# The manifest.


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(bundle: Path) -> dict[str, str]:
    """Every file of a bundle but the manifest, by its path inside."""
    names = sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if not p.is_dir())
    return {name: sha256(bundle / name) for name in names if name != "manifest.toml"}


def manifest(checkpoint: Checkpoint, options: Options, bundle: Path, golden: list[dict[str, object]]) -> dict:
    width, height = checkpoint.size
    return {
        "format": FORMAT,
        "name": options.name,
        "version": options.version,
        "precision": options.precision,
        "classes": [class_entry(name, checkpoint.ok) for name in checkpoint.classes],
        "input": {"width": width, "height": height, "resize": "bilinear"},
        "thresholds": thresholds(checkpoint),
        "tolerance": TOLERANCE,
        "files": hashes(bundle),
        "golden": golden,
        "provenance": checkpoint.provenance | origin(options),
        "metrics": checkpoint.metrics,
    }


def class_entry(name: str, ok: str) -> dict[str, object]:
    return {"name": name, "ok": True} if name == ok else {"name": name}


def thresholds(checkpoint: Checkpoint) -> dict[str, float | int]:
    given = checkpoint.thresholds
    return {name: float(given[name]) for name in THRESHOLDS[:3]} | {"min_area_px": int(given["min_area_px"])}


def origin(options: Options) -> dict[str, str]:
    return {
        "exporter": f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {ort.__version__}",
        "export_seed": str(options.seed),
    }


# The bundle.


@dataclass(frozen=True)
class Options:
    """What an export may vary."""

    name: str = "model"
    version: str = "1.0.0"
    precision: str = "int8"
    method: str = "auto"
    calibration: int = 128
    golden: int = 8
    samples: int = 12
    samples_from: Path | None = None
    seed: int = 0
    replace: bool = False
    progress: bool = False
    prices: operating.Prices | None = None
    masks: bool = False
    accept_unproven: bool = False
    judge: bool = True  # whether held-out pictures must show that the network has learnt

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]{1,64}", self.name):
            raise ToolError(f"the name {self.name!r} is not made of a-z, 0-9 and -, 1 to 64 of them: give --name")
        if self.precision not in ("int8", "f32"):
            raise ToolError(f"no precision {self.precision}: choose int8 or f32")
        if self.golden < 1:
            raise ToolError("a bundle needs at least one golden picture: give --golden 2 or more")


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and how far the int8 network is from the float one."""

    bundle: Path
    golden: int
    choice: str
    operators: dict[str, int]
    quantization: quantization.Quantization | None = None
    files: int = field(default=0)
    held_out: dict[str, Any] | None = None  # judgement.Figures and its sentence


def export(checkpoint: Path, out: Path, data: Path, options: Options | None = None) -> Exported:
    """Write the bundle `out` from a checkpoint and the pictures that it was trained on."""
    options = options or Options(name=out.name)
    refuse_existing(out, options.replace)
    loaded = load_checkpoint(checkpoint)
    refuse_untrained(checkpoint)
    dataset = made_up.load(str(data))
    refuse_foreign(dataset, loaded)
    if options.prices is not None:
        made_up.refuse_prices(dataset)
    loaded.provenance.update({"checkpoint_sha256": sha256(checkpoint_in(checkpoint))})
    written = write_bundle(loaded, dataset, out, options)
    keep_bundle(checkpoint, out)
    return written


def refuse_untrained(checkpoint: Path) -> None:
    """A classifier alone draws marks at random."""
    saved = torch.load(checkpoint_in(checkpoint), map_location="cpu", weights_only=True)
    trained = "decoder_epoch" in saved.get("training", {"decoder_epoch": 1})  # what others write is taken at its word
    if not trained and not saved.get("recipe", {}).get("start"):
        raise ToolError(f"the decoder in {checkpoint} was not trained: train with one --decoder-epochs or more")


def write_bundle(loaded: Checkpoint, dataset: Dataset, out: Path, options: Options) -> Exported:
    """Write the bundle `out` of a network, with its proof on pictures of the val split."""
    with publishing(out) as bundle:
        quantised = write_network(loaded, dataset, bundle / "model.onnx", options)
        refuse_violations(bundle / "model.onnx", loaded, options.precision)
        if options.prices is not None:
            set_operating_point(loaded, dataset, bundle / "model.onnx", options)
        if dataset.good_alone:
            set_good_threshold(loaded, dataset, bundle / "model.onnx")
        found = judged(loaded, dataset, bundle / "model.onnx", options) if options.judge else None
        rng = random.Random(options.seed)
        prover = Prover(loaded, bundle / "model.onnx")
        val = shuffled(pictures_of(dataset, "val"), rng)
        accept = options.accept_unproven or not options.judge
        proofs, choice = choose_golden(prover, val, options.golden, options.progress, accept)
        golden = write_golden(proofs, bundle)
        write_samples(choose_samples(dataset, options.samples_from, loaded.ok, options.samples, rng), bundle)
        described = {"quantization": describe(quantised)} if quantised else {}
        loaded.provenance.update({"golden": choice} | described)
        (bundle / "manifest.toml").write_text(tomli_w.dumps(manifest(loaded, options, bundle, golden)))
        counts = operators.counts(onnx.load(bundle / "model.onnx"))
        held = found.plain() if found else None
        written = Exported(out, len(golden), choice, counts, quantised, len(hashes(bundle)), held)
    return written


def judged(loaded: Checkpoint, dataset: Dataset, model: Path, options: Options) -> judgement.Figures:
    """What the network as it ships does to held-out pictures, written into metrics and provenance; refuses one that
    they do not show to have learnt."""
    split = held_out.split_for(dataset)
    source, pictures = onnx_answers(loaded, model), dataset.splits[split]
    bar = tqdm(pictures, f"judging on {split}", unit="picture", disable=not options.progress)
    scores = [source(picture.path)[0] for picture in bar]
    bad = [int(picture.label != 0) for picture in pictures]
    unit = held_out.unit_in(pictures)
    found = judgement.figures(scores, bad, loaded.thresholds["score"], split, unit, dataset.good_alone)
    loaded.metrics.update(found.metrics())
    loaded.provenance.pop("defects", None)  # of the pictures that it learned from; what is said is of those here
    loaded.provenance.update(found.provenance())
    accepted = options.accept_unproven or "unproven" in loaded.provenance  # by `train` already
    loaded.provenance.pop("unproven", None)
    if doubt := judgement.doubt(found):
        setting = held_out.setting_of(dataset, split, loaded.size, loaded.saved)
        told = judgement.told(found, setting, held_out.source_of(dataset))
        if not accepted:
            raise ToolError(
                f"do not publish this bundle: {told}\n  {judgement.ACCEPT} makes it all the same, and says so in it"
            )
        log.warning("WARNING, %s: %s", judgement.ACCEPT, told)
        loaded.provenance["unproven"] = doubt
    return found


def onnx_answers(loaded: Checkpoint, model: Path) -> Callable[[Path], tuple[float, Any]]:
    """Defect score and map [H, W] of a picture by a network file."""
    runner, ok = quantization.session(model), loaded.classes.index(loaded.ok)

    def answer(path: Path) -> tuple[float, Any]:
        logits, found = run_onnx(runner, tensor(read_picture(path, loaded.size)))
        return defect_score(logits, ok), np.clip(found, 0, 1)

    return answer


def refuse_extreme(point: Mapping[str, Any], prices: str, accept: bool) -> None:
    """Refuses prices that make the camera accept or reject everything; with `accept` it says so and goes on."""
    extreme = operating.extreme_of(dict(point))
    if not extreme:
        return
    told = (
        f"at these prices ({prices}) the cheapest is to {extreme} everything: the camera would {extreme} each part; "
        "correct --escape-cost, --reject-cost or --ng-rate, or train a network that tells good from bad more surely"
    )
    if not accept:
        raise ToolError(f"do not publish this bundle: {told}; {judgement.ACCEPT} makes it all the same")
    log.warning("WARNING, %s: %s", judgement.ACCEPT, told)


def set_operating_point(loaded: Checkpoint, dataset: Dataset, model: Path, options: Options) -> None:
    """The cheapest thresholds of the network as it ships, on the val split, in place of the checkpoint's."""
    assert options.prices is not None
    truth = truth_of(dataset, "val", loaded.size)
    if options.masks and not truth.has_masks:
        raise ToolError(f"--masks: {truth.masks} has no mask of a val picture")
    source = onnx_answers(loaded, model)
    bar = tqdm(truth.pictures, "operating point", unit="picture", disable=not options.progress)
    area = int(loaded.thresholds["min_area_px"])
    points = operating.measure(bar, source, area, truth.mask if options.masks else None).points(options.prices)
    loaded.thresholds.update(operating.shipped(loaded.thresholds, points))
    prices = f"escape {options.prices.escape:g}, reject {options.prices.reject:g}, ng rate {options.prices.ng_rate:.4g}"
    refuse_extreme(points["score"], prices, options.accept_unproven)
    told = f"{prices}: {operating.shown(points['score'])}; map by {points['map']['chosen_by']}"
    told += "" if points["map"]["useful"] else ", of no use: the old threshold stays"
    loaded.provenance.update({"operating_point": told})


def set_good_threshold(loaded: Checkpoint, dataset: Dataset, model: Path) -> None:
    """The score's threshold of the network as it ships, by the val split's good pictures, in place of the float
    network's: without rejects the threshold lies just above what good ones reach, and rounding moves that."""
    source = onnx_answers(loaded, model)
    scores = np.array([source(picture.path)[0] for picture in dataset.splits["val"] if picture.label == 0])
    wanted = float(loaded.saved.get("recipe", {}).get("false_reject", 0.01))
    loaded.thresholds["score"] = made_up.good_threshold(scores, wanted)
    loaded.provenance["operating_point"] = made_up.counted(len(scores), wanted)


def write_network(
    checkpoint: Checkpoint, dataset: Dataset, out: Path, options: Options
) -> quantization.Quantization | None:
    if options.precision == "f32":
        write_float(checkpoint, out)
        return None
    pictures = calibration_pictures(dataset, options.calibration, options.seed, checkpoint.size)
    with disk.scratch("fcam-export-") as folder:
        float_onnx, int8_onnx = folder / "float.onnx", folder / "int8.onnx"
        write_float(checkpoint, float_onnx)
        refuse_operators(float_onnx, checkpoint)
        found = quantization.quantize(float_onnx, pictures, int8_onnx, options.method, options.progress)
        content = int8_onnx.read_bytes()
    out.write_bytes(content)  # outside: a full disk is told with the place that is full
    return found


def describe(quantised: quantization.Quantization) -> str:
    return f"{quantised.method} over {quantised.pictures} pictures; held out: {quantised.agreement}"


def refuse_foreign(dataset: Dataset, checkpoint: Checkpoint) -> None:
    joined = kinds.joined_in(checkpoint.provenance)
    if set(kinds.classes_of(dataset.classes, joined)) != set(checkpoint.classes):
        raise ToolError(
            f"{dataset.root} has the classes {', '.join(dataset.classes)}; the checkpoint "
            f"{kinds.shown(checkpoint.classes, joined)}: give --data the set that it was trained on"
        )


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


# The command line.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the torch file that fcam-tools train wrote, or its run folder")
    parser.add_argument("out", type=Path, help="the bundle directory to write")
    parser.add_argument("--data", type=Path, required=True, help="the pictures that it was trained on")
    parser.add_argument("--name", help="name of the bundle, a-z 0-9 - (default: the directory's)")
    parser.add_argument("--version", default=Options.version, help="version of the bundle (default: %(default)s)")
    parser.add_argument("--precision", choices=("int8", "f32"), default=Options.precision)
    methods = ("auto", *quantization.METHODS)
    parser.add_argument("--method", choices=methods, default=Options.method, help="how the int8 scales are found")
    parser.add_argument("--calibration", type=int, default=Options.calibration, help="pictures to find scales on")
    parser.add_argument("--golden", type=int, default=Options.golden, help="golden pictures (default: %(default)s)")
    parser.add_argument(
        "--samples", type=Path, dest="samples_from", help="folder of sample pictures, not the test split"
    )
    parser.add_argument("--sample-count", type=int, dest="samples", default=Options.samples)
    parser.add_argument("--seed", type=int, default=Options.seed, help="chooses pictures (default: %(default)s)")
    operating.add_price_arguments(parser)
    judgement.add_accept_argument(parser, "goes into the bundle")
    parser.add_argument("--replace", action="store_true", help="replace a bundle of this name")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def options_of(args: argparse.Namespace) -> Options:
    chosen = {name: getattr(args, name) for name in Options.__dataclass_fields__ if hasattr(args, name)}
    return Options(**chosen | {"name": args.name or args.out.name, "progress": not args.json})


def run(args: argparse.Namespace) -> int:
    options = options_of(args)
    if (prices := operating.prices_of(args, labels_of_val(args))) is not None:
        options = dataclasses.replace(options, prices=prices)
    written = export(args.checkpoint, args.out, args.data, options)
    print(json.dumps(asdict(written), default=str) if args.json else summary(written))
    return 0


def labels_of_val(args: argparse.Namespace) -> list[int]:
    """Where the share of defective parts comes from when nobody tells it."""
    if args.escape_cost is None or args.ng_rate is not None:
        return [0, 1]
    labels = [picture.label for picture in made_up.load(str(args.data)).splits["val"]]
    log.warning(
        "no --ng-rate: %.2f of the val pictures are defective, which no line has", np.mean(np.array(labels) != 0)
    )
    return labels


def summary(written: Exported) -> str:
    lines = [written.held_out["sentence"]] if written.held_out else []
    lines += [f"{written.bundle}: {written.files} files, {written.golden} golden pictures ({written.choice})"]
    if written.quantization:
        chosen = written.quantization.method
        lines += [f"{'* ' if n == chosen else '  '}{n}: {a}" for n, a in written.quantization.agreements.items()]
    last = [judgement.ALONE] if written.held_out and written.held_out["made_up"] else []
    counts = ", ".join(f"{name} {count}" for name, count in written.operators.items())
    return "\n".join([*lines, f"operators: {counts}", *last])
