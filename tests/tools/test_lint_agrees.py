"""The host tool's linter (fcam_tools.export.qdq) and the camera's (`fcam check`) say the same of the same files: those
of tests/common/bad, and the tiny network mutated in the ways that TensorRT would not take."""

import hashlib
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fcam_tools.export import qdq
from onnx import ModelProto, TensorProto, helper, numpy_helper

COMMON = Path(__file__).parents[1] / "common"
SIDE, CLASSES, MUTANTS = 64, 2, 120
TYPES = (np.int8, np.uint8, np.int32, np.float32)
LAYERS = ("Conv", "Gemm", "ConvTranspose", "Relu", "Clip", "BatchNormalization")
OPERATORS = (*LAYERS, "QuantizeLinear", "DequantizeLinear", "ConvInteger", "If")


def tiny() -> ModelProto:
    return onnx.load(COMMON / "tiny/model.onnx")


def mutate(model: ModelProto, draw: random.Random) -> None:
    """One change of the structure; the file stays a readable one."""
    graph = model.graph
    node, tensor = draw.choice(graph.node), draw.choice(graph.initializer)
    value = numpy_helper.to_array(tensor)

    def put(new: np.ndarray) -> None:
        tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))

    match draw.randrange(12):
        case 0:
            node.op_type = draw.choice(OPERATORS)
        case 1:
            del node.input[-1]
        case 2:
            node.input[draw.randrange(len(node.input))] = draw.choice(draw.choice(graph.node).output)
        case 3:
            node.input[draw.randrange(len(node.input))] = ""
        case 4:
            put(value.astype(draw.choice(TYPES)))
        case 5:
            put(np.full_like(value, draw.choice([0, 1, -1])))
        case 6:
            put(np.repeat(value.reshape(-1)[:1], draw.choice([1, 2, 4])))
        case 7:
            put(value.reshape((1, *value.shape)))
        case 8:
            node.attribute.extend([helper.make_attribute("axis", draw.choice([-4, -1, 0, 1, 3]))])
        case 9:
            node.name = ""
        case 10:
            graph.initializer.remove(tensor)
            held = helper.make_node("Constant", [], [tensor.name], f"{tensor.name}.node", value=tensor)
            graph.node.insert(0, held)
        case 11:
            model.opset_import[0].version = draw.choice([12, 13, 17, 18])


def mutants() -> dict[str, ModelProto]:
    found = {}
    for seed in range(MUTANTS):
        numbers, model = random.Random(seed), tiny()
        for _ in range(numbers.choice([1, 1, 2, 3])):
            mutate(model, numbers)
        found[f"mutant{seed:03}"] = model
    return found


def bundle(folder: Path, model: bytes) -> Path:
    """The tiny bundle with another network, its hash in the manifest."""
    shutil.copytree(COMMON / "tiny", folder)
    old = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "model.onnx").write_bytes(model)
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(old, hashlib.sha256(model).hexdigest()))
    return folder


def of_the_camera(problems: list[str]) -> set[tuple[int, str]]:
    """Rule and node of each problem of the network; of the file itself, only that there is one."""
    found = set()
    for problem in problems:
        rule = re.match(r"model\.onnx: rule (\d): (.*?): ", problem)
        if rule:
            found.add((int(rule[1]), rule[2]))
        elif problem.startswith("model.onnx: "):
            found.add((qdq.FILE_RULE, ""))
    return found


def of_the_tool(model: ModelProto) -> set[tuple[int, str]]:
    found = qdq.lint(model, width=SIDE, height=SIDE, classes=CLASSES)
    return {(violation.rule, violation.node if violation.rule else "") for violation in found}


def compare(fcam: Path, folder: Path, models: dict[str, bytes]) -> dict[str, set[tuple[int, str]]]:
    """What both say of each network; fails where they differ."""
    paths = [bundle(folder / name, model) for name, model in models.items()]
    done = subprocess.run([fcam, "check", "--json", *paths], capture_output=True, text=True, check=False, timeout=600)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(models), done.stderr
    found = {}
    for path, report in zip(paths, told, strict=True):
        here = of_the_camera(report["problems"])
        assert here == of_the_tool(qdq.load(path / "model.onnx")), (path.name, report["problems"])
        found[path.name] = here
    return found


def test_on_mutated_networks(fcam: Path, tmp_path: Path) -> None:
    models = {name: model.SerializeToString() for name, model in mutants().items()}
    found = compare(fcam, tmp_path, models)
    rules = {rule for each in found.values() for rule, _ in each}
    # Rules 4, 6 and 8 need what a small change does not make: tests/common/bad has them.
    assert rules >= {0, 1, 2, 3, 5, 7}, f"the mutants break too few rules: {rules}"
    assert any(not each for each in found.values()), "no mutant is legal"


def test_on_the_bad_networks(fcam: Path, tmp_path: Path) -> None:
    files = {path.stem: path.read_bytes() for path in sorted((COMMON / "bad").glob("*.onnx"))}
    # `other` is no network of this shape, `huge_inside` and `cycle` are found by the loader.
    found = compare(fcam, tmp_path, files)
    for name, each in found.items():
        rule = re.match(r"rule(\d)_", name)
        assert rule is None or int(rule[1]) in {number for number, _ in each}, name


def with_axes(model: ModelProto, change: Callable[[int, int], int]) -> ModelProto:
    """Every axis of the quantisers of weights, changed; given are the axis and the weights' rank."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for axis in (a for a in node.attribute if a.name == "axis" and "Linear" in node.op_type):
            source = node.input[0] if node.op_type == "QuantizeLinear" else made[node.input[0]].input[0]
            axis.i = change(axis.i, ranks[source])
    return model


def test_an_axis_that_counts_from_the_end_is_the_one_it_means(fcam: Path, tmp_path: Path) -> None:
    """To both linters, and to the engines, which compute the proof of the network that counts from the front."""
    plain, negative = tiny(), with_axes(tiny(), lambda axis, rank: axis - rank)
    axes = [a.i for node in negative.graph.node for a in node.attribute if a.name == "axis"]
    assert any(axis < 0 for axis in axes) and negative != plain
    wrong = {f"wrong{shift}": with_axes(tiny(), lambda axis, rank, by=shift: by - rank) for shift in (-1, 1)}
    models = {"plain": plain, "negative": negative, **wrong}
    found = compare(fcam, tmp_path, {name: model.SerializeToString() for name, model in models.items()})
    assert not found["plain"] and not found["negative"]
    assert all({rule for rule, _ in found[name]} == {2} for name in wrong)
    for backend in ("cpu", "tract"):
        command = [fcam, "check", "--backend", backend, tmp_path / "negative"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("data_type", [TensorProto.UINT8, TensorProto.INT32])
def test_zero_points_that_tensorrt_refuses(fcam: Path, tmp_path: Path, data_type: int) -> None:
    model = tiny()
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == "stem.out.zero")
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    zero.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(zero).astype(dtype), zero.name))
    found = compare(fcam, tmp_path, {"zero": model.SerializeToString()})
    assert {rule for rule, _ in found["zero"]} == {1}


def per_channel(model: ModelProto, name: str) -> ModelProto:
    """The stored tensor of this name quantised with a scale for each channel."""
    channels = next(tensor.dims[1] for tensor in model.graph.initializer if tensor.name == name)
    for tensor in (t for t in model.graph.initializer if t.name in (f"{name}.scale", f"{name}.zero")):
        tensor.CopyFrom(numpy_helper.from_array(np.repeat(numpy_helper.to_array(tensor), channels), tensor.name))
    for node in (n for n in model.graph.node if n.name in (f"{name}.q", f"{name}.dq")):
        node.attribute.extend([helper.make_attribute("axis", 1)])
    return model


def test_a_constant_that_is_added_or_subtracted_has_one_scale(fcam: Path, tmp_path: Path) -> None:
    """Sizes are not those of the tiny bundle: that is the file's only other fault."""
    models, names = {}, {}
    for layer in ("compare", "signed"):
        plain, spread = (onnx.load(COMMON / f"layers/{layer}.onnx") for _ in range(2))
        stored = [tensor for tensor in plain.graph.initializer if tensor.name.startswith("map")]
        (name,) = (tensor.name for tensor in stored if len(tensor.dims) == 4)
        models |= {layer: plain, f"{layer}_spread": per_channel(spread, name)}
        names[f"{layer}_spread"] = {(2, f"{name}.q"), (2, f"{name}.dq")}
    found = compare(fcam, tmp_path, {name: model.SerializeToString() for name, model in models.items()})
    for layer, broken in found.items():
        assert broken == {(qdq.FILE_RULE, "")} | names.get(layer, set()), layer
