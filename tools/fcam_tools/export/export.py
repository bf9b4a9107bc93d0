"""From a trained checkpoint to a bundle: the network as one ONNX file, with the proof that it judges as it should.

In: a checkpoint (torch file), and the pictures that it was trained on. Out: a directory as models/README.md says.
It refuses a network file that breaks a rule, and a bundle without proof: pictures whose score is so near the threshold
that rounding on another engine may flip the verdict are no proof. The bundle appears whole, by a rename, or not at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomli_w
import torch
from PIL import Image

from fcam_tools.common.errors import ToolError
from fcam_tools.common.run_folder import checkpoint_in, keep_bundle
from fcam_tools.data import Dataset, kinds, made_up
from fcam_tools.export import operators, ranges
from fcam_tools.export import quantize as quantization
from fcam_tools.export.drift import drift
from fcam_tools.export.figures import judged
from fcam_tools.export.manifest import manifest
from fcam_tools.export.network_file import describe, refuse_violations, write_network
from fcam_tools.export.options import Options
from fcam_tools.export.pictures import choose_samples, pictures_of, shuffled, write_samples
from fcam_tools.export.proof import Prover, choose_golden, write_golden
from fcam_tools.export.publish import publishing, refuse_existing
from fcam_tools.export.thresholds import set_good_threshold, set_operating_point
from fcam_tools.measure import judgement, operating
from fcam_tools.model.bundle import FORMATS, TEMPLATE, hashes, sha256
from fcam_tools.model.checkpoint import Checkpoint, load_checkpoint

log = logging.getLogger(__name__)


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
    """Refuses a checkpoint whose decoder did not learn: its map would be random."""
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
        if loaded.template:
            Image.fromarray(loaded.template.pixels).save(bundle / TEMPLATE)
        write_samples(choose_samples(dataset, options.samples_from, loaded.ok, options.samples, rng), bundle)
        described = {"quantization": describe(quantised)} if quantised else {}
        loaded.provenance.update({"golden": choice} | described)
        said = manifest(loaded, options, bundle, golden)
        (bundle / "manifest.toml").write_text(tomli_w.dumps(said))
        if watched := drift(bundle, dataset):  # measured by the bundle as it is
            said = said | {"format": FORMATS[-1]} | watched
            (bundle / "manifest.toml").write_text(tomli_w.dumps(said))
        counts = operators.counts(onnx.load(bundle / "model.onnx"))
        held = found.plain() if found else None
        written = Exported(out, len(golden), choice, counts, quantised, len(hashes(bundle)), held)
    return written


def refuse_foreign(dataset: Dataset, checkpoint: Checkpoint) -> None:
    joined = kinds.joined_in(checkpoint.provenance)
    if set(kinds.classes_of(dataset.classes, joined)) != set(checkpoint.classes):
        raise ToolError(
            f"{dataset.root} has the classes {', '.join(dataset.classes)}; the checkpoint "
            f"{kinds.shown(checkpoint.classes, joined)}: give --data the set that it was trained on"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the torch file that fcam-tools train wrote, or its run folder")
    parser.add_argument("out", type=Path, help="the bundle directory to write")
    parser.add_argument("--data", type=Path, required=True, help="the pictures that it was trained on")
    parser.add_argument("--name", help="name of the bundle, a-z 0-9 - (default: the directory's)")
    parser.add_argument("--version", default=Options.version, help="version of the bundle (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("int8", "f32"), default=Options.precision, help="int8, or f32 for stock tract"
    )
    methods = ("auto", *ranges.METHODS)
    parser.add_argument(
        "--method",
        choices=methods,
        default=Options.method,
        help="how the int8 scales are found: auto tries all, and keeps what is closest to float",
    )
    parser.add_argument(
        "--calibration", type=int, default=Options.calibration, help="pictures to find scales on (default: %(default)s)"
    )
    parser.add_argument("--golden", type=int, default=Options.golden, help="golden pictures (default: %(default)s)")
    parser.add_argument(
        "--samples", type=Path, dest="samples_from", help="folder of sample pictures, not the test split"
    )
    parser.add_argument(
        "--sample-count",
        type=int,
        dest="samples",
        metavar="N",
        default=Options.samples,
        help="sample pictures (default: %(default)s)",
    )
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
    """Labels to take the share of defective parts from, where --ng-rate does not tell it."""
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
