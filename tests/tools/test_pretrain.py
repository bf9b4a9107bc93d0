"""The weights that training starts from: who may make them, what they hold, and what becomes of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fcam_tools import __main__, methods, pretrain, rendered, train
from fcam_tools.errors import ToolError
from fcam_tools.model import Net
from PIL import Image


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def fresh(**changes: object) -> Net:
    recipe = train.Recipe(**methods.named("native", {}))
    settings = {
        "classes": 2, "backbone": recipe.backbone, "stride": recipe.stride, "widths": recipe.widths,
        "decoder_stride": recipe.decoder_stride, "neck": recipe.neck, "verdict": recipe.verdict,
    }  # fmt: skip
    return Net(**(settings | changes))  # type: ignore[arg-type]


def rendered_set(root: Path, bad: int = 6) -> Path:
    """Noise with squares, in the layout of `synth`."""
    rng = np.random.default_rng(3)
    for name, count in (("good", 6), ("dent", bad)):
        for index in range(count):
            pixels = np.clip(rng.normal(120, 10, (160, 192, 3)), 0, 255).astype(np.uint8)
            if name == "dent":
                top, left = int(rng.integers(0, 140)), int(rng.integers(0, 170))
                pixels[top : top + 12, left : left + 12] += 60
                mask = np.zeros(pixels.shape[:2], np.uint8)
                mask[top : top + 12, left : left + 12] = 255
                save(mask, root / "ground_truth" / "train" / name / f"{index}_mask.png")
            save(pixels, root / "train" / name / f"{index}.png")
            save(pixels[::-1], root / "val" / name / f"{index}.png")
            if name == "dent":
                save(mask[::-1], root / "ground_truth" / "val" / name / f"{index}_mask.png")
    (root / "dataset.json").write_text(json.dumps({"generator": 1}))
    return root


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def test_only_rendered_sets_teach_outlines(tmp_path: Path) -> None:
    folder = rendered_set(tmp_path / "set")
    assert len(pretrain.read(str(folder), False).pictures) == 24
    (folder / "dataset.json").unlink()
    with pytest.raises(ToolError, match="is no set that `fcam-tools synth` wrote"):
        pretrain.read(str(folder), False)


def test_windows_are_a_function_of_their_step_and_most_show_a_defect(tmp_path: Path) -> None:
    windows = pretrain.Windows([pretrain.read(str(rendered_set(tmp_path / "set")), False)], 64, 12, 5)
    (one,), (same,), (other,) = windows.step(3), windows.step(3), windows.step(4)
    assert torch.equal(one.x, same.x) and one.masks is not None and same.masks is not None
    assert torch.equal(one.masks, same.masks) and not torch.equal(one.x, other.x)
    assert one.x.shape == (12, 3, 64, 64) and one.masks.shape == (12, 64, 64)
    found = [windows.step(step)[0].masks for step in range(8)]
    shown = [bool(mask.any()) for masks in found if masks is not None for mask in masks]
    assert 0.6 < np.mean(shown) < 0.95


def test_marks_stay_on_their_defect_however_a_window_is_changed() -> None:
    rng = np.random.default_rng(0)
    pixels, mask = np.full((50, 50, 3), 100.0, np.float32), np.zeros((50, 50), bool)
    pixels[10:20, 30:45], mask[10:20, 30:45] = 200, True
    for _ in range(20):
        seen, marked = pretrain.varied(rng, *pretrain.scaled(pixels, mask, 64))
        inside, outside = seen[marked].mean(), seen[~marked].mean()
        assert abs(inside - outside) > 20 and 0.03 < marked.mean() < 0.09


def test_weights_come_back_and_leave_the_classes_alone(tmp_path: Path) -> None:
    source, net, path = fresh(), fresh(classes=5), tmp_path / "weights.pt"
    torch.save(rendered.content_of(source, {"sets": "none"}), path)
    before = net.classifier.fc.weight.clone()
    assert rendered.load(net, path).startswith("rendered parts sha256:")
    wanted, own = source.state_dict(), net.state_dict()
    for name, value in own.items():
        if name.startswith(rendered.PARTS):
            assert torch.allclose(value.float(), wanted[name].float(), rtol=2e-3, atol=1e-6), name
    assert torch.equal(before, net.classifier.fc.weight)


def test_another_backbone_starts_without_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "weights.pt"
    torch.save(rendered.content_of(fresh(), {}), path)
    net = fresh(backbone="mobilenetv2_050")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with caplog.at_level("INFO", "fcam_tools"):
        assert rendered.load(net, path) == ""
    assert "for backbone efficientnet_lite0" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("damage", [b"", b"PK", None])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "weights.pt"
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(ToolError, match="install the tool again, or train with --no-rendered"):
        rendered.load(fresh(), path)


def test_the_verb_writes_what_training_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = rendered_set(tmp_path / "set"), tmp_path / "weights.pt"
    assert __main__.main(["pretrain", str(folder), "--out", str(out), "--steps", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert rendered.load(fresh(), out)


def test_the_tool_s_own_weights_fit_the_recipe() -> None:
    """They find a defect that no training showed them: a spot on noise, and nothing on noise alone."""
    net = fresh()
    assert rendered.load(net) and net.eval()
    rng = np.random.default_rng(1)
    pixels = np.clip(rng.normal(120, 4, (2, 128, 128, 3)), 0, 255)
    pixels[1, 60:68, 60:68] = 30
    x = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        plain, spot = (found[0] for found in net((x - 128) / 128)[1])
    assert plain.max() < 0.5 < spot[62:66, 62:66].min()
