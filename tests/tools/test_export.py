"""From a checkpoint to a verified bundle on a tiny random net, and one broken file for each rule of the linter."""

import json
import re
import tempfile
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fcam_tools.common import disk
from fcam_tools.common.errors import ToolError
from fcam_tools.data import made_up, read_picture
from fcam_tools.export import (
    export,
    figures,
    network_file,
    proof,
    publish,
    qdq,
    quantize,
    ranges,
    thresholds,
    tidy,
    verify,
)
from fcam_tools.export.options import Options
from fcam_tools.model import answers, onnx_graph
from fcam_tools.model.bundle import hashes
from fcam_tools.model.checkpoint import load_checkpoint
from fcam_tools.model.network import Net
from onnx import ModelProto, NodeProto, helper, numpy_helper
from PIL import Image

SIZE = 64
CLASSES = ["good", "dent", "scratch"]
# A random network learnt nothing.
OPTIONS = Options(name="tiny", method="minmax", calibration=8, golden=4, samples=4, accept_unproven=True)
LEGAL_OPS = {
    "Conv", "Clip", "Relu", "Add", "Mul", "Exp", "ReduceMean", "Log", "Concat", "Resize", "Sigmoid", "Reshape",
    "Squeeze", "Gemm", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve textured pictures, one class and split a folder, one of them gray."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    for split, each in (("train", 2), ("val", 1), ("test", 1)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(each):
                texture = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
                picture = texture.resize((80, 72), Image.Resampling.BICUBIC)
                (picture.convert("L") if name == "dent" else picture).save(folder / f"{index:03}.png")
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    settings = {"classes": len(CLASSES), "widths": (16, 8)}
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    saved = {
        "settings": settings,
        "state_dict": Net(**settings).state_dict(),
        "classes": CLASSES,
        "ok": "good",
        "size": SIZE,
        "thresholds": {"score": 0.5, "map": 0.5, "map_low": 0.3, "min_area_px": 6},
        "provenance": {"dataset": "random"},
        "metrics": {"image_auroc": 0.5},
    }
    torch.save(saved, path)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, data: Path) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export.export(checkpoint, out, data, OPTIONS)
    return out


def test_classifier_alone_is_not_exported(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True) | {"training": {"val_auroc": 0.9, "epoch": 3}}
    torch.save(saved | {"recipe": {"decoder_epochs": 0, "start": ""}}, tmp_path / "net.pt")
    with pytest.raises(ToolError, match=r"net\.pt was not trained: train with one --decoder-epochs or more"):
        export.export(tmp_path / "net.pt", tmp_path / "bundle", data, OPTIONS)
    assert not (tmp_path / "bundle").exists()


@pytest.fixture
def model(bundle: Path) -> ModelProto:
    return onnx.load(bundle / "model.onnx")


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    out = tmp_path / "copy"
    for path in (p for p in bundle.rglob("*") if p.is_file()):
        target = out / path.relative_to(bundle)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return out


@pytest.fixture
def no_fcam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "find_fcam", lambda: None)


def lint(model: ModelProto) -> list[qdq.Violation]:
    return qdq.lint(model, width=SIZE, height=SIZE, classes=len(CLASSES))


# The exported bundle.


def test_exported_network_breaks_no_rule(model: ModelProto) -> None:
    assert lint(model) == []
    onnx.checker.check_model(model, full_check=True)


def test_exported_network_has_only_the_operators_that_the_runtimes_share(model: ModelProto) -> None:
    assert {node.op_type for node in model.graph.node} <= LEGAL_OPS


def test_int8_export_says_what_the_engine_does_not_take(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    saved["settings"]["backbone"] = "mobilenetv3_small_050"
    saved["thresholds"]["score"] = 0.1  # far from a random net's scores: every picture is clear
    saved["state_dict"] = Net(**saved["settings"]).state_dict()
    torch.save(saved, tmp_path / "v3.pt")
    with pytest.raises(ToolError, match="HardSigmoid is not known to it") as refused:
        export.export(tmp_path / "v3.pt", tmp_path / "int8", data, OPTIONS)
    assert "Mul is of two tensors" in str(refused.value) and "--precision f32" in str(refused.value)
    assert not (tmp_path / "int8").exists()
    written = export.export(
        tmp_path / "v3.pt",
        tmp_path / "f32",
        data,
        Options(name="f32", precision="f32", golden=2, samples=2, accept_unproven=True),
    )
    assert written.operators["HardSigmoid"] > 0


def test_nearest_resize_and_its_concat_share_one_scale(model: ModelProto) -> None:
    wiring = onnx_graph.Wiring(model)

    def scale_of(name: str) -> float:
        return wiring.constant(wiring.producer[name].input[1]).item()

    concats = [node for node in model.graph.node if node.op_type == "Concat"]
    assert concats
    for concat in concats:
        resize = wiring.producer[wiring.producer[wiring.producer[concat.input[0]].input[0]].input[0]]
        assert resize.op_type == "Resize"
        after = next(n for n in wiring.followers(concat) if n.op_type == "QuantizeLinear")
        scales = {scale_of(resize.input[0]), scale_of(concat.input[0]), wiring.constant(after.input[1]).item()}
        assert len(scales) == 1


def test_quantised_outputs_stay_near_the_float_ones(checkpoint: Path, bundle: Path, data: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    runner = answers.session(bundle / "model.onnx", optimised=False)
    for path in sorted((data / "test").rglob("*.png")):
        picture = answers.tensor(read_picture(path, loaded.size))
        (logits, found), (wanted, expected) = answers.run_onnx(runner, picture), answers.run_net(loaded.net, picture)
        assert np.abs(logits - wanted).max() < 0.05
        assert np.abs(found - expected).max() < 0.05


def test_manifest_lists_every_file(bundle: Path) -> None:
    manifest = tomllib.loads((bundle / "manifest.toml").read_text())
    files = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == files - {"manifest.toml"}
    assert len(manifest["golden"]) == 3  # of four: the val split has no more
    assert len(list((bundle / "samples").iterdir())) == 3
    assert [entry["name"] for entry in manifest["classes"] if entry.get("ok")] == ["good"]


def test_golden_map_holds_the_probabilities_to_16_bits(bundle: Path) -> None:
    manifest = tomllib.loads((bundle / "manifest.toml").read_text())
    entry = manifest["golden"][0]
    pixels = np.asarray(Image.open(bundle / entry["input"]))
    runner = answers.session(bundle / "model.onnx", optimised=False)
    logits, found = answers.run_onnx(runner, answers.tensor(pixels))
    proven = Image.open(bundle / entry["map"])
    assert proven.mode == "I;16"
    assert np.abs(np.asarray(proven) / 65535 - found).max() < 1e-5
    assert np.allclose(logits, entry["logits"])


def test_same_inputs_give_the_same_bytes(bundle: Path, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    export.export(checkpoint, tmp_path / "again", data, OPTIONS)
    assert hashes(tmp_path / "again") == hashes(bundle)


def test_float_bundle_has_the_same_layout(checkpoint: Path, data: Path, tmp_path: Path, no_fcam: None) -> None:
    out = tmp_path / "float"
    export.export(
        checkpoint, out, data, Options(name="float", precision="f32", golden=2, samples=2, accept_unproven=True)
    )
    assert not [n for n in onnx.load(out / "model.onnx").graph.node if "Linear" in n.op_type]
    report = verify.verify(out, checkpoint=checkpoint)
    assert report.ok, report.problems
    assert {row.backend for row in report.rows} == {"onnxruntime", "onnxruntime optimised", "pytorch"}


# Refusals.


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_interrupted_export_leaves_nothing(
    failure: type[BaseException], checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(export, "write_samples", fail)
    with pytest.raises(failure):
        export.export(checkpoint, tmp_path / "tiny", data, OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_to_overwrite(bundle: Path, checkpoint: Path, data: Path) -> None:
    with pytest.raises(ToolError, match="--replace"):
        export.export(checkpoint, bundle, data, OPTIONS)


def test_replacing_puts_the_old_bundle_back_when_it_fails(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    with pytest.raises(FileNotFoundError):
        publish.exchange(tmp_path / "absent", out, tmp_path / "replaced")
    assert out.is_dir()


def test_export_refuses_when_no_picture_proves_the_model(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    saved["thresholds"]["score"] = 2 / 3  # a random net gives every class a third
    torch.save(saved, tmp_path / "unsure.pt")
    with pytest.raises(ToolError, match="threshold"):
        export.export(tmp_path / "unsure.pt", tmp_path / "tiny", data, OPTIONS)


# What held-out pictures show (test_judgement.py has the rules).


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good and six defective pictures to be judged on."""
    root, rng = tmp_path_factory.mktemp("held_out"), np.random.default_rng(5)
    for split, each in (("train", 2), ("val", 2), ("test", 3)):
        for name, count in (("good", 2 * each), ("dent", each), ("scratch", each)):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def answering(monkeypatch: pytest.MonkeyPatch, score: Callable[[Path], float]) -> None:
    """The network for the camera has these scores, whatever it computes."""
    for module in (figures, thresholds):
        monkeypatch.setattr(module, "onnx_answers", lambda *_: lambda path: (score(path), np.full((SIZE, SIZE), 0.5)))


def by_class(good: float, bad: float) -> Callable[[Path], float]:
    return lambda path: good if path.parent.name == "good" else bad


JUDGED = Options(name="tiny", precision="f32", golden=4, samples=4)  # in float: no scales to find


def test_bundle_says_what_it_did_to_held_out_pictures(
    held_out: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_fcam: None
) -> None:
    answering(monkeypatch, by_class(0.1, 0.9))
    written = export.export(checkpoint, tmp_path / "tiny", held_out, JUDGED)
    assert export.summary(written).startswith("of 6 defective parts 6 are rejected, of 6 good ones 0 (test split")
    told = tomllib.loads((tmp_path / "tiny" / "manifest.toml").read_text())
    counts = {
        "held_out_good": 6,
        "held_out_defective": 6,
        "held_out_good_rejected": 0,
        "held_out_defective_rejected": 6,
    }
    rates = {"shipped_escape_rate": 0.0, "shipped_false_reject_rate": 0.0}
    assert told["metrics"] == {
        **counts, **rates, "image_auroc": 1.0, "image_auroc_low": pytest.approx(0.69, abs=0.01), "image_auroc_high": 1.0
    }  # fmt: skip
    assert all(isinstance(value, float) for value in told["metrics"].values())
    assert told["provenance"]["held_out_split"] == "test" and "unproven" not in told["provenance"]
    assert verify.verify(tmp_path / "tiny").ok


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (by_class(0.9, 0.1), "learnt nothing; this says nothing about your parts"),
        (by_class(0.1, 0.4), "everything passes: none of 6 defective parts is rejected at the threshold 0.5"),
        (by_class(0.6, 0.9), "everything is rejected: all of 6 good parts are"),
    ],
)
def test_export_refuses_what_learnt_nothing(
    scores: Callable[[Path], float], words: str, held_out: Path, checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, no_fcam: None, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    answering(monkeypatch, scores)
    with pytest.raises(ToolError, match="do not publish this bundle") as refused:
        export.export(checkpoint, tmp_path / "tiny", held_out, JUDGED)
    assert words in str(refused.value) and f"fcam-tools inspect {held_out}" in str(refused.value)
    assert "--accept-unproven" in str(refused.value) and not list(tmp_path.iterdir())
    export.export(checkpoint, tmp_path / "tiny", held_out, replace(JUDGED, accept_unproven=True))
    assert words in caplog.text
    manifest = tmp_path / "tiny" / "manifest.toml"
    assert words in tomllib.loads(manifest.read_text())["provenance"]["unproven"]
    report = verify.verify(tmp_path / "tiny")
    assert report.ok and words in report.warnings[0]
    manifest.write_text(manifest.read_text().replace("unproven =", "something ="))
    assert words in verify.verify(tmp_path / "tiny").problems[0]


def test_what_training_accepted_is_not_asked_again(
    held_out: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    saved["provenance"]["unproven"] = "learnt nothing on val"
    torch.save(saved, tmp_path / "net.pt")
    for name, scores, kept in (("bad", by_class(0.9, 0.1), True), ("good", by_class(0.1, 0.9), False)):
        answering(monkeypatch, scores)
        export.export(tmp_path / "net.pt", tmp_path / name, held_out, JUDGED)
        told = tomllib.loads((tmp_path / name / "manifest.toml").read_text())["provenance"]
        assert ("unproven" in told) == kept


def test_prices_that_accept_everything_are_refused(
    held_out: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, by_class(0.5, 0.5))
    prices = export.operating.Prices(1, 50, 0.01)
    with pytest.raises(ToolError, match="the cheapest is to accept everything: the camera would accept each part"):
        export.export(checkpoint, tmp_path / "tiny", held_out, replace(JUDGED, prices=prices))
    assert not list(tmp_path.iterdir())
    export.export(checkpoint, tmp_path / "tiny", held_out, replace(JUDGED, prices=prices, accept_unproven=True))
    told = tomllib.loads((tmp_path / "tiny" / "manifest.toml").read_text())["provenance"]
    assert "THE CHEAPEST IS TO ACCEPT EVERYTHING" in told["operating_point"] and "unproven" in told
    dear = replace(JUDGED, prices=export.operating.Prices(50, 1, 0.5))
    with pytest.raises(ToolError, match="the cheapest is to reject everything"):
        export.export(checkpoint, tmp_path / "other", held_out, dear)


def test_export_refuses_what_verify_would(
    held_out: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, by_class(0.1, 0.9))
    monkeypatch.setattr(proof.Prover, "nearness", lambda *_: -0.5)
    with pytest.raises(
        ToolError, match=r"answers 4 of 4 golden pictures otherwise .* do not publish this bundle: export"
    ):
        export.export(checkpoint, tmp_path / "tiny", held_out, JUDGED)


def test_export_onto_a_full_disk_says_where(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    temporary = Path(tempfile.gettempdir())
    for where, name, place in ((export, "write_samples", tmp_path / "tiny"), (network_file, "write_float", temporary)):
        with monkeypatch.context() as broken:
            broken.setattr(where, name, full)
            with pytest.raises(ToolError, match=f"cannot write {place}: No space left on device; make room"):
                export.export(checkpoint, tmp_path / "tiny", data, OPTIONS)
        assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Namespace(free=5_000_000))
    with disk.scratch("fcam-test-", 4_000_000) as folder:
        pass
    assert not folder.exists()
    wanted = r"has less than the 6 MB that are needed for a while: make room there, or set TMPDIR"
    with pytest.raises(ToolError, match=wanted), disk.scratch("fcam-test-", 6_000_000):
        pass


def test_export_refuses_a_network_that_breaks_a_rule(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    model.opset_import[0].version = 19
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(ToolError, match="opset 19"):
        network_file.refuse_violations(tmp_path / "new.onnx", load_checkpoint(checkpoint), "int8")


def test_checkpoint_without_its_keys_is_refused(tmp_path: Path) -> None:
    torch.save({"settings": {}}, tmp_path / "bare.pt")
    with pytest.raises(ToolError, match="lacks state_dict"):
        load_checkpoint(tmp_path / "bare.pt")


def test_unknown_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="minmax"):
        quantize.quantize(tmp_path / "none.onnx", [], tmp_path / "out.onnx", method="magic")


# Quantisation.


@pytest.mark.parametrize("method", ranges.METHODS)
def test_clips_lie_inside_the_range_and_keep_most_values(method: str) -> None:
    values = np.append(np.random.default_rng(0).normal(size=100_000), 40).astype(np.float32)
    histogram = ranges.Histogram()
    histogram.widen(values[None, None])
    histogram.count(values)
    clip = ranges.METHODS[method](histogram)
    assert 2 < clip <= histogram.top
    assert (clip == histogram.top) == (method == "minmax")


def test_automatic_method_is_the_closest_on_held_out_pictures(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    network_file.write_float(loaded, tmp_path / "float.onnx")
    pictures = [answers.tensor(read_picture(p, loaded.size)) for p in sorted(data.rglob("*.png"))[:6]]
    result = quantize.quantize(tmp_path / "float.onnx", pictures, tmp_path / "int8.onnx")
    assert set(result.agreements) == set(ranges.METHODS)
    assert result.agreement.loss == min(found.loss for found in result.agreements.values())


def test_bias_correction_takes_out_the_shift_of_rounded_weights(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    wiring = onnx_graph.Wiring(model)
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    quantise = wiring.producer[wiring.producer[conv.input[1]].input[0]]
    weights, scales = wiring.constant(quantise.input[0]), wiring.constant(quantise.input[1])
    before = wiring.constant(conv.input[2])
    histogram = ranges.Histogram(sums=np.full(3, 0.5), seen=1)
    quantize.correct_biases(model, dict.fromkeys(wiring.readers, histogram) | per_channel_ones(model))
    after = onnx_graph.Wiring(model).constant(f"{conv.name}_bias")
    error = (quantize.rounded(weights, scales) - weights).sum(axis=(1, 2, 3))
    assert np.allclose(before - after, error * 0.5, atol=1e-6)


def per_channel_ones(model: ModelProto) -> dict[str, ranges.Histogram]:
    """Unit means for the inputs of all Convs but the first, as many as each has channels."""
    wiring = onnx_graph.Wiring(model)
    found = {}
    for conv in [n for n in model.graph.node if n.op_type == "Conv"][1:]:
        weights = wiring.constant(wiring.producer[wiring.producer[conv.input[1]].input[0]].input[0])
        channels = weights.shape[1] * onnx_graph.attribute(conv, "group", 1)
        source = wiring.producer[wiring.producer[conv.input[0]].input[0]].input[0]
        found[source] = ranges.Histogram(sums=np.ones(channels), seen=1)
    return found


class Comparing(torch.nn.Module):
    """Features beside their distance from a constant map; the map's own scale is not that of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.register_buffer("usual", 0.6 * torch.rand(1, 8, SIZE // 2, SIZE // 2))
        self.mix = torch.nn.Conv2d(16, 8, 3, padding=1)
        self.heat = torch.nn.Conv2d(8, 1, 1)
        self.scores = torch.nn.Linear(8, len(CLASSES))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.stem(x))
        far = torch.relu(features - self.usual) + torch.relu(self.usual - features)
        mixed = torch.relu(self.mix(torch.cat([features, far], 1)))
        logits = self.scores(mixed.mean((2, 3)))
        heat = torch.nn.functional.interpolate(self.heat(mixed), scale_factor=2, mode="bilinear")
        return logits, torch.sigmoid(heat)


def test_distance_from_a_constant_map_is_int8(checkpoint: Path, data: Path, tmp_path: Path, fcam: Path) -> None:
    """From PyTorch to the camera, whose answers are those of ONNX Runtime."""
    torch.manual_seed(2)
    loaded = load_checkpoint(checkpoint)
    net = Comparing().eval()
    loaded = replace(loaded, net=net, thresholds=loaded.thresholds | {"score": 0.1})
    export.write_bundle(loaded, made_up.load(str(data)), tmp_path / "net", OPTIONS)
    model = onnx.load(tmp_path / "net/model.onnx")
    assert lint(model) == []
    wiring = onnx_graph.Wiring(model)

    def quantiser(name: str) -> NodeProto:
        dequantise = wiring.producer[name]
        assert dequantise.op_type == "DequantizeLinear"
        return wiring.producer[dequantise.input[0]]

    differences = [node for node in model.graph.node if node.op_type == "Sub"]
    operands = [[quantiser(name) for name in node.input] for node in differences]
    assert operands[0] == operands[1][::-1]
    (stored,) = {q.input[0] for q in operands[0] if wiring.constant(q.input[0]) is not None}
    scale = next(wiring.constant(q.input[1]) for q in operands[0] if q.input[0] == stored)
    assert scale == pytest.approx(float(net.usual.max()) / ranges.LEVELS)
    assert [n.op_type for node in differences for n in wiring.followers(node)] == ["Relu", "Relu"]
    (total,) = (node for node in model.graph.node if node.op_type == "Add")
    assert {wiring.producer[quantiser(name).input[0]].op_type for name in total.input} == {"Relu"}

    runner = answers.session(tmp_path / "net/model.onnx", optimised=False)
    for path in sorted(data.rglob("*.png"))[:6]:
        picture = answers.tensor(read_picture(path, loaded.size))
        (logits, found), (wanted, expected) = answers.run_onnx(runner, picture), answers.run_net(loaded.net, picture)
        assert np.abs(logits - wanted).max() < 0.02 and np.abs(found - expected).max() < 0.02
    report = verify.verify(tmp_path / "net", fcam)
    assert report.ok and "fcam" in {row.backend for row in report.rows}, report.problems


def test_zero_pad_is_folded_into_its_conv(tmp_path: Path) -> None:
    float32 = onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Pad", ["input", "amounts"], ["padded"], "pad"),
        helper.make_node("Conv", ["padded", "weights"], ["output"], "conv", pads=[1, 0, 0, 1], strides=[2, 2]),
    ]
    amounts = np.array([0, 0, 0, 1, 0, 0, 1, 1])
    constants = [numpy_helper.from_array(amounts, "amounts"), numpy_helper.from_array(weights, "weights")]
    ports = [[helper.make_tensor_value_info(n, float32, [1, c, None, None])] for n, c in (("input", 3), ("output", 2))]
    graph = helper.make_graph(nodes, "padded", *ports, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    picture = np.random.default_rng(1).normal(size=(1, 3, 9, 11)).astype(np.float32)
    before = answers.session(model.SerializeToString()).run(None, {"input": picture})[0]
    tidy.fold_pads(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    after = answers.session(model.SerializeToString()).run(None, {"input": picture})[0]
    assert np.allclose(before, after, atol=1e-6)


# Verification.


def test_both_onnxruntime_modes_agree_with_the_proof(bundle: Path, no_fcam: None) -> None:
    report = verify.verify(bundle)
    assert report.ok, report.problems
    assert len(report.rows) == 6
    assert set(report.skipped) == {"pytorch", "fcam"}


def test_altered_network_is_noticed(copied: Path, no_fcam: None) -> None:
    path = copied / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    report = verify.verify(copied)
    assert not report.ok
    assert report.problems[0].startswith("model.onnx has SHA-256")


def test_extra_and_missing_files_are_noticed(copied: Path, no_fcam: None) -> None:
    (copied / "golden" / "000.map.png").rename(copied / "golden" / "stray.png")
    problems = verify.verify(copied).problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "golden/000.map.png is missing",
        "golden/stray.png is not in the manifest's list of files",
    ]


def test_disagreement_is_reported_with_exit_code_2(
    copied: Path, no_fcam: None, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = copied / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('verdict = "reject"', 'verdict = "pass"', 1))
    parser = ArgumentParser()
    verify.add_arguments(parser)
    assert verify.run(parser.parse_args([str(copied), "--json"])) == 2
    printed = json.loads(capsys.readouterr().out)
    assert not printed["ok"]
    assert "disagrees with the proof" in printed["problems"][0]


FCAM_ANSWERS = [
    ('{"golden": []}', 0, "did not judge"),
    ("not json", 0, "printed no golden rows"),
    ('{"golden": []}', 1, "exited with 1"),
]


@pytest.mark.parametrize(("printed", "code", "problem"), FCAM_ANSWERS)
def test_answers_of_fcam_that_prove_nothing_are_problems(
    printed: str, code: int, problem: str, bundle: Path, tmp_path: Path
) -> None:
    fake = tmp_path / "fcam"
    fake.write_text(f"#!/bin/sh\necho '{printed}'\nexit {code}\n")
    fake.chmod(0o755)
    assert any(problem in found for found in verify.verify(bundle, fcam=fake).problems)


def test_fcam_agrees_with_the_proof(bundle: Path, fcam: Path) -> None:
    report = verify.verify(bundle, fcam=fcam)
    assert report.ok, report.problems


# One broken file a rule.

Break = Callable[[ModelProto], object]


def first(model: ModelProto, op_type: str) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def constant(model: ModelProto, value: np.ndarray, name: str = "broken") -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def zero_scale(model: ModelProto) -> None:
    node = [n for n in model.graph.node if n.op_type == "DequantizeLinear"][-1]
    node.input[1] = constant(model, np.zeros((), np.float32))


def uint8_zero_point(model: ModelProto) -> None:
    first(model, "DequantizeLinear").input[2] = constant(model, np.zeros((), np.uint8))


def no_zero_point(model: ModelProto) -> None:
    del first(model, "DequantizeLinear").input[2]


def per_channel_activation(model: ModelProto) -> None:
    node = next(n for n in onnx_graph.Wiring(model).followers(first(model, "Clip")) if n.op_type == "QuantizeLinear")
    node.input[1] = constant(model, np.full(32, 0.1, np.float32))
    node.input[2] = constant(model, np.zeros(32, np.int8), "zeros")


def weights_along_their_inputs(model: ModelProto) -> None:
    wiring = onnx_graph.Wiring(model)
    weights = wiring.producer[[n for n in model.graph.node if n.op_type == "Conv"][1].input[1]]
    node = wiring.producer[weights.input[0]]
    next(a for a in node.attribute if a.name == "axis").i = 1


def integer_weights(model: ModelProto) -> None:
    weights = onnx_graph.Wiring(model).producer[first(model, "Conv").input[1]]
    weights.input[0] = constant(model, np.zeros((32, 3, 3, 3), np.int8))


def computed_weights(model: ModelProto) -> None:
    wiring = onnx_graph.Wiring(model)
    node = wiring.producer[wiring.producer[first(model, "Conv").input[1]].input[0]]
    model.graph.node.insert(0, helper.make_node("Identity", [node.input[0]], ["computed"], "identity"))
    node.input[0] = "computed"


def integer_bias(model: ModelProto) -> None:
    bias = constant(model, np.zeros(32, np.int32))
    scale, zero = constant(model, np.ones((), np.float32), "one"), constant(model, np.zeros((), np.int8), "zero")
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", [bias, scale, zero], ["bias"], "bias"))
    first(model, "Conv").input[2] = "bias"


def float_data(model: ModelProto) -> None:
    node = [n for n in model.graph.node if n.op_type == "Conv"][1]
    wiring = onnx_graph.Wiring(model)
    node.input[0] = wiring.producer[wiring.producer[node.input[0]].input[0]].input[0]


def integer_conv(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("ConvInteger", ["a", "b"], ["c"], "integer"))


def unfolded_norm(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("BatchNormalization", list("abcde"), ["f"], "norm"))


def quantised_before_clip(model: ModelProto) -> None:
    clip = first(model, "Clip")
    scale, zero = constant(model, np.ones((), np.float32), "one"), constant(model, np.zeros((), np.int8), "zero")
    index = list(model.graph.node).index(clip)
    pair = [
        helper.make_node("QuantizeLinear", [clip.input[0], scale, zero], ["q"], "early"),
        helper.make_node("DequantizeLinear", ["q", scale, zero], ["dq"], "late"),
    ]
    for offset, node in enumerate(pair):
        model.graph.node.insert(index + offset, node)
    clip.input[0] = "dq"


def other_input(model: ModelProto) -> None:
    model.graph.input[0].name = "picture"


def other_shape(model: ModelProto) -> None:
    model.graph.output[1].type.tensor_type.shape.dim[3].dim_value = SIZE // 2


def third_output(model: ModelProto) -> None:
    model.graph.output.append(onnx.ValueInfoProto(name="features"))


def newer_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 18


def foreign_domain(model: ModelProto) -> None:
    first(model, "Clip").domain = "com.microsoft"


def external_values(model: ModelProto) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def control_flow(model: ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    node = helper.make_node("If", ["c"], ["d"], "if", then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def coarser_input(model: ModelProto) -> None:
    onnx_graph.Wiring(model).readers["input"][0].input[1] = constant(model, np.full((), 1 / 127, np.float32))


def float_reader_of_input(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["input"], ["unused"], "relu"))


def second_output_of_the_same_name(model: ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def output_without_a_maker(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if "map" in n.output)
    node.output[list(node.output).index("map")] = "elsewhere"


def no_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def sparse_values(model: ModelProto) -> None:
    model.graph.sparse_initializer.add()


def loop_without_a_body(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["c"], ["d"], "loop"))


def axis_beyond_the_weights(model: ModelProto) -> None:
    wiring = onnx_graph.Wiring(model)
    node = wiring.producer[wiring.producer[first(model, "Conv").input[1]].input[0]]
    next(a for a in node.attribute if a.name == "axis").i = 4  # as many as the weights have


BROKEN: list[tuple[int, Break]] = [
    (0, other_input),
    (0, other_shape),
    (0, third_output),
    (0, newer_opset),
    (0, foreign_domain),
    (0, external_values),
    (0, control_flow),
    (0, coarser_input),
    (0, float_reader_of_input),
    (0, second_output_of_the_same_name),
    (0, output_without_a_maker),
    (0, no_opset),
    (0, sparse_values),
    (0, loop_without_a_body),
    (1, zero_scale),
    (1, uint8_zero_point),
    (1, no_zero_point),
    (2, per_channel_activation),
    (2, weights_along_their_inputs),
    (2, axis_beyond_the_weights),
    (3, integer_weights),
    (3, computed_weights),
    (4, integer_bias),
    (5, float_data),
    (6, integer_conv),
    (7, unfolded_norm),
    (8, quantised_before_clip),
]


@pytest.mark.parametrize(("rule", "damage"), BROKEN, ids=lambda value: getattr(value, "__name__", str(value)))
def test_linter_names_the_broken_rule(rule: int, damage: Break, model: ModelProto) -> None:
    damage(model)
    assert rule in {violation.rule for violation in lint(model)}


def stored(model: ModelProto, role: str) -> onnx.TensorProto:
    """The first Conv's weights, their scales, or its bias."""
    wiring, conv = onnx_graph.Wiring(model), first(model, "Conv")
    quantise = wiring.producer[wiring.producer[conv.input[1]].input[0]]
    return wiring.initializers[{"weights": quantise.input[0], "scales": quantise.input[1], "bias": conv.input[2]}[role]]


def put(tensor: onnx.TensorProto, number: float) -> None:
    """Replaces the last value."""
    values = numpy_helper.to_array(tensor).copy()
    values.flat[-1] = number
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def cut(tensor: onnx.TensorProto, by: int) -> None:
    tensor.raw_data = numpy_helper.to_array(tensor).tobytes()[:-by]


def claim(tensor: onnx.TensorProto, side: int) -> None:
    tensor.dims[0] = side


def retype(tensor: onnx.TensorProto, data_type: int) -> None:
    tensor.data_type = data_type


DAMAGES: list[tuple[Callable[[onnx.TensorProto, float], None], float, str]] = [
    (put, float("nan"), "not finite"),
    (put, float("-inf"), "not finite"),
    (cut, 4, r"holds \d+ values and claims \d+"),
    (cut, 3, "no whole number of values"),
    (claim, 33, r"holds \d+ values and claims \d+"),
    (claim, -1, "impossible size"),
    (claim, 1 << 40, "impossible size"),
    (retype, onnx.TensorProto.STRING, "which no network here needs"),
]


@pytest.mark.parametrize("role", ["weights", "scales", "bias"])
@pytest.mark.parametrize(("damage", "number", "message"), DAMAGES)
def test_linter_names_the_tensor_that_is_not_what_it_claims(
    damage: Callable[[onnx.TensorProto, float], None], number: float, message: str, role: str, model: ModelProto
) -> None:
    tensor = stored(model, role)
    damage(tensor, number)
    found = [violation for violation in lint(model) if violation.node == tensor.name]
    assert [violation.rule for violation in found] == [qdq.FILE_RULE]
    assert re.search(message, found[0].message)


def test_linter_looks_into_constant_nodes(model: ModelProto) -> None:
    value = numpy_helper.from_array(np.array([1, np.inf], np.float32))
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], "constant", value=value))
    assert [str(violation) for violation in lint(model)] == ["file: constant: holds values that are not finite numbers"]
