"""Makes what the tests use: the bundle `tiny/`, and networks that a bundle must not have in `bad/`.

    python tests/common/make_tiny.py

The network is made by hand and not trained. It looks at brightness alone: a picture darker than middle gray on average
is a reject ("dark"), and the map is foreground where the picture is nearly black. It is as small as a network can be
that still has what a real one has: strided and padded int8 convolutions, per-channel weights, a Resize, two outputs.
The proof is that of ONNX Runtime with graph optimisation off. Two runs write the same bytes.
"""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageFilter

HERE = Path(__file__).resolve().parent
SIZE = 64
OPSET = 13


class Net:
    """Collects nodes and initialisers; each method appends a few and returns the name of what they compute."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, output=None, **attributes):
        self.count += 1
        output = output or f"v{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}_{self.count}", **attributes))
        return output

    def quantised(self, x, scale, name, axis=None):
        """QuantizeLinear and DequantizeLinear."""
        scale = np.asarray(scale, np.float32)
        scale_name = self.constant(f"{name}.scale", scale)
        zero = self.constant(f"{name}.zero", np.zeros(scale.shape, np.int8))
        extra = {} if axis is None else {"axis": axis}
        q = self.node("QuantizeLinear", [x, scale_name, zero], f"{name}.q", **extra)
        return self.node("DequantizeLinear", [q, scale_name, zero], f"{name}.dq", **extra)

    def weight(self, name, value):
        value = np.asarray(value, np.float32)
        scale = np.maximum(np.abs(value).reshape(value.shape[0], -1).max(axis=1), 1e-6) / 127
        return self.quantised(self.constant(name, value), scale, name, axis=0)

    def conv(self, x, name, weight, bias, output=None, **attributes):
        bias = self.constant(f"{name}.bias", np.asarray(bias, np.float32))
        size = np.asarray(weight).shape[2:]
        return self.node(
            "Conv", [x, self.weight(f"{name}.weight", weight), bias], output, kernel_shape=size, **attributes
        )

    def model(self, size=SIZE, classes=2):
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes]),
                helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, size, size]),
            ],
            self.constants,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="make_tiny")


def tiny():
    net = Net()
    x = net.quantised("input", 1 / 128, "input")

    # Four channels of brightness at half the size: above middle gray, below it, and each again by the middle pixel.
    mean = np.full((3, 3, 3), 1 / 27)
    middle = np.zeros((3, 3, 3))
    middle[:, 1, 1] = 1 / 3
    x = net.conv(x, "stem", [mean, -mean, middle, -middle], [0] * 4, strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.quantised(net.node("Relu", [x]), 1 / 127, "stem.out")

    # Bright and dark, each from both of its channels.
    mix = np.zeros((4, 4, 3, 3))
    for out, sources in enumerate([(0, 2), (1, 3), (0, 0), (1, 1)]):
        for source in sources:
            mix[out, source, 1, 1] += 0.5
    x = net.conv(x, "mix", mix, [0] * 4, pads=[1, 1, 1, 1])
    x = net.quantised(net.node("Relu", [x]), 1 / 127, "mix.out")

    pooled = net.node("Flatten", [net.node("GlobalAveragePool", [x])], axis=1)
    pooled = net.quantised(pooled, 1 / 127, "pool.out")
    head = net.weight("head.weight", [[8, -8, 0, 0], [-8, 8, 0, 0]])
    net.node("Gemm", [pooled, head, net.constant("head.bias", np.zeros(2, np.float32))], "logits", transB=1)

    scales = net.constant("up.scales", np.asarray([1, 1, 2, 2], np.float32))
    up = net.node(
        "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    up = net.quantised(up, 1 / 127, "up.out")
    x = net.conv(up, "map", np.reshape([-10, 10, -10, 10], (1, 4, 1, 1)), [-14])
    net.node("Sigmoid", [x], "map")
    return net.model()


def picture(mode, width, height, background, blob, seed):
    """A noisy plane with a soft round blob, the same for a seed on any machine."""
    y, x = np.mgrid[0:height, 0:width]
    inside = np.hypot(x - width * 0.6, y - height * 0.4) < min(width, height) / 5
    # A small generator of our own: NumPy promises no same stream from version to version.
    noise = ((x * 7919 + y * 104729 + seed * 1299709) * 2654435761 % 2**32 >> 24) % 17 - 8
    gray = np.where(inside, blob, background) + noise
    image = Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8), "L").filter(ImageFilter.BoxBlur(1))
    return image.convert(mode)


PICTURES = [
    ("golden/000.png", "pass", picture("RGB", 96, 80, 190, 230, 1)),
    ("golden/001.png", "reject", picture("L", 128, 96, 95, 20, 2)),
    ("samples/bright.jpg", None, picture("RGB", 160, 120, 185, 235, 3)),
    ("samples/dark.jpg", None, picture("RGB", 160, 120, 90, 15, 4)),
]


def encoded(image, name):
    out = io.BytesIO()
    image.save(out, "PNG" if name.endswith("png") else "JPEG")
    return out.getvalue()


def run(onnx_bytes, resized):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    pixels = np.asarray(resized, np.float32).transpose(2, 0, 1)[None]
    logits, probability = session.run(["logits", "map"], {"input": (pixels - 128) / 128})
    return logits[0], probability[0, 0]


def bundle(onnx_bytes):
    """All files of the bundle, by name."""
    files, golden = {"model.onnx": onnx_bytes}, []
    for name, verdict, image in PICTURES:
        files[name] = encoded(image, name)
        if verdict is None:
            continue
        stem = name.removesuffix(".png")
        resized = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        logits, probability = run(onnx_bytes, resized)
        score = 1 - np.exp(logits[0]) / np.exp(logits).sum()
        assert ("reject" if score >= 0.5 else "pass") == verdict, (name, logits)
        print(name, verdict, logits, f"score {score:.3f}", f"foreground {(probability >= 0.5).mean():.3f}")
        files[f"{stem}.input.png"] = encoded(resized, ".png")
        files[f"{stem}.map.png"] = encoded(Image.fromarray(np.rint(probability * 65535).astype(np.uint16)), ".png")
        golden.append((stem, [float(x) for x in logits], verdict))
    files["manifest.toml"] = manifest(files, golden).encode()
    return files


def manifest(files, golden):
    text = f"""format = 1
name = "tiny"
version = "1.0.0"
precision = "int8"

[[classes]]
name = "good"
ok = true
[[classes]]
name = "dark"

[input]
width = {SIZE}
height = {SIZE}
resize = "bilinear"

[thresholds]
score = 0.5
map = 0.5
map_low = 0.3
min_area_px = 6

[tolerance]
score = 0.05
iou = 0.95

[files]
"""
    for name in sorted(files):
        text += f'"{name}" = "{hashlib.sha256(files[name]).hexdigest()}"\n'
    for stem, logits, verdict in golden:
        text += f"""
[[golden]]
picture = "{stem}.png"
input = "{stem}.input.png"
map = "{stem}.map.png"
logits = [{", ".join(f"{x:.6f}" for x in logits)}]
verdict = "{verdict}"
"""
    return (
        text
        + """
[provenance]
tool = "tests/common/make_tiny.py"

[metrics]
pictures = 2.0
"""
    )


# Networks that break the contract, each in one way. Functions take a copy of the good network and spoil it.


def find(items, name):
    return next(item for item in items if item.name == name)


def reader(model, name):
    """The node that reads a tensor, and the position of the tensor among its inputs."""
    return next((n, i) for n in model.graph.node for i, x in enumerate(n.input) if x == name)


def replace(model, name, value):
    find(model.graph.initializer, name).CopyFrom(numpy_helper.from_array(value, name))


def between(model, name, make):
    """Puts nodes between a tensor and its readers: `make(name)` gives the nodes, the last one's output is read."""
    node, index = reader(model, name)
    added = make(name)
    node.input[index] = added[-1].output[0]
    at = list(model.graph.node).index(node)
    nodes = list(model.graph.node)
    nodes[at:at] = added
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def rule1_two_inputs(model):
    del find_op(model, "DequantizeLinear", 2).input[2]


def rule1_zero_point(model):
    replace(model, "stem.out.zero", np.asarray(3, np.int8))


def rule1_negative_scale(model):
    replace(model, "mix.out.scale", np.asarray(-1 / 127, np.float32))


def rule2_activation_per_channel(model):
    replace(model, "mix.out.scale", np.full(4, 1 / 127, np.float32))
    replace(model, "mix.out.zero", np.zeros(4, np.int8))


def rule2_weight_axis(model):
    for node in (n for n in model.graph.node if n.input[1:2] == ["mix.weight.scale"]):
        node.attribute[0].i = 1


def rule3_stored_integers(model):
    node = find_op(model, "QuantizeLinear", 3)
    assert node.input[0] == "mix.weight"
    replace(model, "mix.weight", np.ones((4, 4, 3, 3), np.int8))
    output = node.output[0]
    model.graph.node.remove(node)
    reader(model, output)[0].input[0] = "mix.weight"


def rule4_integer_bias(model):
    replace(model, "mix.bias", np.zeros(4, np.int32))
    scale = numpy_helper.from_array(np.asarray(1e-4, np.float32), "bias.scale")
    zero = numpy_helper.from_array(np.asarray(0, np.int32), "bias.zero")
    model.graph.initializer.extend([scale, zero])
    inputs = ["bias.scale", "bias.zero"]
    between(model, "mix.bias", lambda x: [helper.make_node("DequantizeLinear", [x, *inputs], ["b"], name="bias.dq")])


def rule5_float_layer(model):
    find_named(model, "Conv", "mix.weight.dq").input[1] = "mix.weight"
    for name in ("mix.weight.q", "mix.weight.dq"):
        model.graph.node.remove(next(node for node in model.graph.node if node.output[0] == name))


def rule6_dynamic(model):
    outputs = ["dynamic.q", "dynamic.scale", "dynamic.zero"]
    dynamic = helper.make_node("DynamicQuantizeLinear", ["up.out.dq"], outputs, name="dynamic")
    back = helper.make_node("DequantizeLinear", outputs, ["dynamic.dq"], name="dynamic.back")
    between(model, "up.out.dq", lambda _: [dynamic, back])


def rule7_norm(model):
    conv = find_named(model, "Conv", "mix.weight.dq").output[0]
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    names = ["norm.scale", "norm.bias", "norm.mean", "norm.var"]
    model.graph.initializer.extend(
        numpy_helper.from_array(v, n) for v, n in zip([one, zero, zero, one], names, strict=True)
    )
    between(model, conv, lambda x: [helper.make_node("BatchNormalization", [x, *names], ["normed"], name="norm")])


def rule8_cut_relu(model):
    conv = find_named(model, "Conv", "mix.weight.dq").output[0]
    parameters = ["mix.out.scale", "mix.out.zero"]
    q = helper.make_node("QuantizeLinear", [conv, *parameters], ["cut.q"], name="cut.q")
    dq = helper.make_node("DequantizeLinear", ["cut.q", *parameters], ["cut.dq"], name="cut.dq")
    between(model, conv, lambda _: [q, dq])


def input_scale(model):
    replace(model, "input.scale", np.asarray(1 / 127, np.float32))


def input_name(model):
    model.graph.input[0].name = "data"
    reader(model, "input")[0].input[0] = "data"


def input_integer(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def output_missing(model):
    del model.graph.output[1]


def output_extra(model):
    model.graph.output.append(helper.make_tensor_value_info("up.out.dq", TensorProto.FLOAT, [1, 4, SIZE, SIZE]))


def output_unmade(model):
    find_named(model, "Gemm", "head.weight.dq").output[0] = "elsewhere"


def output_shape(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3


def input_symbolic(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def opset_old(model):
    model.opset_import[0].version = 12


def opset_new(model):
    model.opset_import[0].version = 18


def domain(model):
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    find_op(model, "Sigmoid", 0).domain = "com.example"


def external(model):
    tensor = find(model.graph.initializer, "mix.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def control_flow(model):
    sigmoid = find_op(model, "Sigmoid", 0)
    branch = helper.make_graph([helper.make_node("Sigmoid", [sigmoid.input[0]], ["inner"])], "branch", [], [])
    branch.output.append(helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 1, SIZE, SIZE]))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    choice = helper.make_node("If", ["yes"], ["map"], name="choice", then_branch=branch, else_branch=branch)
    sigmoid.CopyFrom(choice)


def nan_weights(model):
    weights = numpy_helper.to_array(find(model.graph.initializer, "mix.weight")).copy()
    weights[0, 0, 1, 1] = np.nan
    replace(model, "mix.weight", weights)


def huge_tensor(model):
    del find(model.graph.initializer, "mix.weight").dims[:]
    find(model.graph.initializer, "mix.weight").dims.extend([2**62, 2**62, 3, 3])


def short_tensor(model):
    find(model.graph.initializer, "mix.weight").dims[0] = 1_000_000


def huge_inside(model):
    """A few bytes that ask for a tensor of 4 x 2^34 values."""
    replace(model, "up.scales", np.asarray([1, 1, 4096, 4096], np.float32))
    find_op(model, "Sigmoid", 0).output[0] = "large"
    node = helper.make_node("ReduceMax", ["large"], ["peak"], axes=[2, 3], keepdims=1)
    grow = helper.make_node("Resize", ["peak", "", "grow"], ["map"], mode="nearest")
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 1, SIZE, SIZE], np.float32), "grow"))
    model.graph.node.extend([node, grow])


def huge_pad(model):
    """Constants alone: a loader computes it while it loads."""
    constants = {"pads": np.asarray([0, 1 << 40], np.int64), "one": np.ones(1, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    find_op(model, "Sigmoid", 0).output[0] = "sigmoid"
    pad = helper.make_node("Pad", ["one", "pads"], ["padded"], name="pad")
    peak = helper.make_node("ReduceMax", ["padded"], ["peak"], keepdims=0)
    model.graph.node.extend([pad, peak, helper.make_node("Add", ["sigmoid", "peak"], ["map"])])


def unknown_operator(model):
    find_op(model, "Sigmoid", 0).op_type = "Sigmoidish"


def cycle(model):
    reader(model, "stem.out.dq")[0].input[0] = "mix.out.dq"


def worse(model):
    """Keeps every rule and computes something else: only the proof can tell."""
    replace(model, "map.bias", np.asarray([14], np.float32))
    replace(model, "head.bias", np.asarray([-9, 9], np.float32))


BAD = [
    rule1_two_inputs,
    rule1_zero_point,
    rule1_negative_scale,
    rule2_activation_per_channel,
    rule2_weight_axis,
    rule3_stored_integers,
    rule4_integer_bias,
    rule5_float_layer,
    rule6_dynamic,
    rule7_norm,
    rule8_cut_relu,
    input_scale,
    input_name,
    input_integer,
    input_symbolic,
    output_missing,
    output_extra,
    output_unmade,
    output_shape,
    opset_old,
    opset_new,
    domain,
    external,
    control_flow,
    nan_weights,
    huge_tensor,
    short_tensor,
    huge_inside,
    huge_pad,
    unknown_operator,
    cycle,
    worse,
]


def find_op(model, op_type, index):
    return [node for node in model.graph.node if node.op_type == op_type][index]


def find_named(model, op_type, weights):
    return next(node for node in model.graph.node if node.op_type == op_type and node.input[1] == weights)


def make_bad():
    shutil.rmtree(HERE / "bad", ignore_errors=True)
    (HERE / "bad").mkdir()
    for spoil in BAD:
        model = tiny()
        spoil(model)
        (HERE / "bad" / f"{spoil.__name__}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    # A sound ONNX file that has nothing to do with fcam.
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "other", port[:1], port[1:])
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(other, full_check=True)
    (HERE / "bad" / "other.onnx").write_bytes(other.SerializeToString(deterministic=True))


def main():
    make_bad()
    model = tiny()
    onnx.checker.check_model(model, full_check=True)
    for name, content in bundle(model.SerializeToString(deterministic=True)).items():
        path = HERE / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
