"""The manifest of a bundle. In: a checkpoint, options, the files. Out: what manifest.toml says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch

from fcam_tools.export.options import Options
from fcam_tools.export.proof import TOLERANCE
from fcam_tools.model.bundle import FORMATS, TEMPLATE, hashes
from fcam_tools.model.checkpoint import THRESHOLDS, Checkpoint


def manifest(checkpoint: Checkpoint, options: Options, bundle: Path, golden: list[dict[str, object]]) -> dict:
    width, height = checkpoint.size
    return {
        "format": FORMATS[checkpoint.template is not None],
        "name": options.name,
        "version": options.version,
        "precision": options.precision,
        "classes": [class_entry(name, checkpoint.ok) for name in checkpoint.classes],
        "input": {"width": width, "height": height, "resize": "bilinear"},
        **locate(checkpoint),
        "thresholds": thresholds(checkpoint),
        "tolerance": TOLERANCE,
        "files": hashes(bundle),
        "golden": golden,
        "provenance": checkpoint.provenance | origin(options),
        "metrics": checkpoint.metrics,
    }


def locate(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where the camera finds parts; nothing for a network that judges them wherever they lie."""
    template = checkpoint.template
    if template is None:
        return {}
    numbers = {"shift": template.shift, "turn": template.turn, "agreement": template.agreement}
    return {"locate": {"template": TEMPLATE, **{name: round(value, 4) for name, value in numbers.items()}}}


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
