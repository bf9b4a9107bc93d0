"""The weights that `native` starts from: they have seen defects on parts of many kinds. In: a fresh network. Out: the
same with these weights.

They come with the tool, are made by `fcam-tools pretrain` from rendered parts alone, and know no class: features and
decoder that tell a defect from a surface, as far as that is the same on all. What a plant's own pictures add is what
its parts look like. models/README.md says what they were made from.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch

from fcam_tools.errors import ToolError
from fcam_tools.model import Net

log = logging.getLogger(__name__)

FILE = Path(__file__).with_name("rendered.pt")
PARTS = ("features.", "decoder.")  # of a network; the classifier's classes are each user's own
FITTING = ("backbone", "stride", "decoder_stride", "widths", "decoder")  # settings that must agree


def load(net: Net, path: Path = FILE) -> str:
    """Fills features and decoder; says where the weights come from, or why they stay as they are. Refuses a damaged
    file."""
    try:
        content = path.read_bytes()
        saved = torch.load(path, map_location="cpu", weights_only=True)
        settings, state = saved["settings"], saved["state_dict"]
    except Exception as error:  # torch raises a different type for each way in which a file can be damaged
        raise ToolError(f"cannot read {path}: {error}; install the tool again, or train with --no-rendered") from error
    other = [name for name in FITTING if net.settings[name] != settings[name]]
    if other:
        log.info(
            "the start weights of rendered parts are for %s %s: these start from ImageNet's alone",
            other[0],
            settings[other[0]],
        )
        return ""
    own = net.state_dict()
    own.update({name: value.to(own[name].dtype) for name, value in state.items() if name.startswith(PARTS)})
    net.load_state_dict(own)
    return f"rendered parts sha256:{hashlib.sha256(content).hexdigest()[:16]}"


def content_of(net: Net, told: dict[str, str]) -> dict:
    """What the file holds: half the size in float16, whose error is far below a training step's."""
    state = {name: value for name, value in net.state_dict().items() if name.startswith(PARTS)}
    halved = {name: value.half() if value.dtype.is_floating_point else value for name, value in state.items()}
    return {"settings": {name: net.settings[name] for name in FITTING}, "state_dict": halved, "made_from": told}
