"""Makes tests/common/layers: small QDQ networks, one for each kind of layer, with what ONNX Runtime says of one input.

Run by hand where onnxruntime is installed: `python tests/common/make_layers.py`. The networks have the bundle's
interface: input [1, 3, 24, 20], a float `map` that mixes all channels of the layer under test, float `logits`. A
convolution whose node is called `float...` is not quantised: the tests allow it by that name. Beside
each NAME.onnx lies NAME.bin: the input as int8 NHWC, then ONNX Runtime's logits and map as float32 (graph optimisations
off, so that every Q/DQ pair rounds). tests/common/anybody.onnx has outputs of its own, which lie in anybody.bin as ONNX
has them, in planes.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, CLASSES = 24, 20, 3
OUT = Path(__file__).parent / "layers"
Pads = tuple[int, int, int, int]


class Net:
    """A graph under construction. Names of values are passed around; `name.dq` is the real view of an int8 tensor."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.channels: dict[str, int] = {}
        self.real: set[str] = set()  # results of float convolutions, before a pair
        self.input = self.pair("input", 1 / 128, 3)

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, inputs: Iterable[str], channels: int, **attributes: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        self.channels[name] = channels
        return name

    def pair(self, value: str, scale: float | np.ndarray, channels: int, axis: int = 1) -> str:
        scales = np.asarray(scale, np.float32)
        s = self.constant(f"{value}.scale", scales)
        z = self.constant(f"{value}.zero", np.zeros(scales.shape, np.int8))
        axes = {"axis": axis} if scales.ndim else {}
        self.nodes.append(helper.make_node("QuantizeLinear", [value, s, z], [f"{value}.q"], f"{value}.q", **axes))
        self.nodes.append(
            helper.make_node("DequantizeLinear", [f"{value}.q", s, z], [f"{value}.dq"], f"{value}.dq", **axes)
        )
        self.channels[f"{value}.dq"] = channels
        return f"{value}.dq"

    def weights(self, shape: tuple[int, ...]) -> str:
        name = f"w{len(self.nodes)}"
        fan = int(np.prod(shape[1:]))
        values = self.random.normal(0, fan**-0.5, shape).astype(np.float32)
        self.constant(name, values)
        # Not the largest weight over 127: some weights saturate, and no weight needs to reach 127.
        top = np.abs(values).reshape(shape[0], -1).max(1) * self.random.uniform(0.8, 1.3, shape[0])
        return self.pair(name, (top / 127).astype(np.float32), 0, axis=0)

    def conv(
        self, x: str, out: int, kernel: tuple[int, int] = (1, 1), pads: Pads = (0, 0, 0, 0), stride: int = 1,
        group: int = 1, dilation: int = 1, bias: bool = True, weights: str = "",
    ) -> str:  # fmt: skip
        inputs = [x, weights or self.weights((out, self.channels[x] // group, *kernel))]
        if bias:
            inputs.append(self.constant(f"b{len(self.nodes)}", self.random.normal(0, 0.3, out).astype(np.float32)))
        return self.node(
            "Conv",
            inputs,
            out,
            kernel_shape=kernel,
            pads=pads,
            strides=[stride] * 2,
            group=group,
            dilations=[dilation] * 2,
        )

    def float_conv(self, x: str, out: int, kernel: tuple[int, int] = (1, 1), group: int = 1, **how: object) -> str:
        shape = (out, self.channels[x] // group, *kernel)
        values = self.random.normal(0, int(np.prod(shape[1:])) ** -0.5, shape).astype(np.float32)
        weights = self.constant(f"w{len(self.nodes)}", values)
        name = self.conv(x, out, kernel, group=group, weights=weights, **how)  # type: ignore[arg-type]
        self.nodes[-1].name = f"float_{name}"
        self.real.add(name)
        return name

    def float_layer(self, x: str, out: int, scale: float = 0.02, **how: object) -> str:
        return self.pair(self.float_conv(x, out, **how), scale, out)  # type: ignore[arg-type]

    def relu(self, x: str) -> str:
        name = self.node("Relu", [x], self.channels[x])
        self.real |= {name} if x in self.real else set()
        return name

    def layer(self, x: str, out: int, scale: float = 0.02, **how: object) -> str:
        return self.pair(self.conv(x, out, **how), scale, out)  # type: ignore[arg-type]

    def clip(self, x: str, low: float, high: float) -> str:
        bounds = [self.constant(f"{x}.{n}", np.asarray(v, np.float32)) for n, v in (("low", low), ("high", high))]
        return self.node("Clip", [x, *bounds], self.channels[x])

    def upsample(self, x: str) -> str:
        scales = self.constant(f"{x}.twice", np.asarray([1, 1, 2, 2], np.float32))
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, "", scales], self.channels[x], **attributes)

    def same(self, x: str, scale: float = 0.02) -> str:
        """A pair of the scale that the value had before an operator that keeps it."""
        return self.pair(x, scale, self.channels[x])

    def finish(self, x: str) -> onnx.ModelProto:
        """The float heads: a mix of all channels at full size, and the mean of another."""
        head = self.float_conv(x, 1) if x in self.real else self.conv(x, 1)
        self.nodes[-1].output[0] = "map"
        del head
        x = self.pair(x, 0.02, self.channels[x]) if x in self.real else x
        mean = self.pair(self.node("GlobalAveragePool", [x], self.channels[x]), 0.01, self.channels[x])
        self.conv(mean, CLASSES)
        self.nodes[-1].output[0] = "pooled"
        self.nodes.append(helper.make_node("Flatten", ["pooled"], ["logits"], "flatten"))
        shapes = {"input": [1, 3, HEIGHT, WIDTH], "logits": [1, CLASSES], "map": [1, 1, HEIGHT, WIDTH]}
        facts = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
        graph = helper.make_graph(
            self.nodes, "layer", [facts["input"]], [facts["logits"], facts["map"]], self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def stem(net: Net, channels: int = 24) -> str:
    return net.pair(net.node("Relu", [net.conv(net.input, channels, (3, 3), (1, 1, 1, 1))], channels), 0.02, channels)


def after_stem(body: Callable[[Net, str], str], channels: int = 24) -> Callable[[Net], str]:
    return lambda net: body(net, stem(net, channels))


def residual(net: Net, x: str) -> str:
    other = net.layer(x, 24, 0.013, kernel=(3, 3), pads=(1, 1, 1, 1))
    return net.pair(net.node("Relu", [net.node("Add", [x, other], 24)], 24), 0.031, 24)


def joint(net: Net, x: str, scale: float) -> str:
    small = net.layer(x, 20, 0.02, kernel=(3, 3), pads=(1, 1, 1, 1), stride=2)
    up = net.same(net.upsample(small))
    both = net.node("Concat", [up, x], 44, axis=1)
    return net.layer(net.pair(both, scale, 44), 44, kernel=(3, 3), pads=(1, 1, 1, 1), group=44)


def two_pairs(net: Net, x: str) -> str:
    """What ONNX Runtime's own quantiser writes: a pair between Conv and Clip."""
    return net.pair(net.clip(net.layer(x, 24), 0.0, 1.7), 0.02, 24)


def halved(net: Net, x: str, out: int, **how: object) -> str:
    return net.same(net.upsample(net.layer(x, out, stride=2, **how)))


def float_data(net: Net, x: str) -> str:
    """Weights in int8 under data in float: an int8 convolution that no pair follows, then one that cannot be int8."""
    name = net.conv(net.relu(net.conv(x, 24, (3, 3), (1, 1, 1, 1))), 20)
    net.nodes[-1].name = f"float_{name}"
    return net.pair(net.clip(name, -0.5, 1.5), 0.013, 20)


def constant_map(net: Net, x: str, scale: float) -> str:
    """Scales of round numbers would make ties, and float runtimes round those either way."""
    values = net.random.normal(0.5, 0.6, (1, net.channels[x], HEIGHT, WIDTH)).astype(np.float32)
    return net.pair(net.constant(f"map{len(net.nodes)}", values), scale, net.channels[x])


def compare(net: Net, x: str) -> str:
    """A tensor beside its distance from a constant map, seen over their border."""
    usual, channels = constant_map(net, x, 0.0173205), net.channels[x]
    above, below = (net.same(net.relu(net.node("Sub", pair, channels))) for pair in ([x, usual], [usual, x]))
    distance = net.same(net.node("Add", [above, below], channels))
    both = net.node("Concat", [x, distance], 2 * channels, axis=1)
    return net.layer(net.same(both), 16, kernel=(3, 3), pads=(1, 1, 1, 1))


def signed(net: Net, x: str) -> str:
    """A difference of two tensors, which has both signs, and its sum with a constant map."""
    other = net.layer(x, net.channels[x], 0.013)
    difference = net.pair(net.node("Sub", [other, x], net.channels[x]), 0.027, net.channels[x])
    moved = net.node("Add", [constant_map(net, x, 0.0217321), difference], net.channels[x])
    return net.layer(net.pair(moved, 0.03, net.channels[x]), 20, kernel=(3, 3), pads=(1, 1, 1, 1))


LAYERS: dict[str, Callable[[Net], str]] = {
    "pointwise": after_stem(lambda net, x: net.layer(x, 80)),
    "pointwise_no_bias": after_stem(lambda net, x: net.layer(x, 17, bias=False)),
    "pointwise_deep": after_stem(lambda net, x: net.layer(net.layer(x, 200), 40)),
    "first": lambda net: net.layer(net.input, 32, kernel=(3, 3), pads=(1, 1, 1, 1)),
    "dense3": after_stem(lambda net, x: net.layer(x, 48, kernel=(3, 3), pads=(1, 1, 1, 1))),
    "dense3_stride2": after_stem(lambda net, x: halved(net, x, 64, kernel=(3, 3), pads=(1, 1, 1, 1))),
    "dense5_uneven_pads": after_stem(lambda net, x: net.layer(x, 16, kernel=(5, 5), pads=(1, 0, 3, 4))),
    "dense7": after_stem(lambda net, x: net.layer(x, 8, kernel=(7, 7), pads=(3, 3, 3, 3)), 8),
    "wide_and_tall": after_stem(
        lambda net, x: net.layer(
            net.layer(x, 24, kernel=(1, 7), pads=(0, 3, 0, 3)), 24, kernel=(7, 1), pads=(3, 0, 3, 0)
        )
    ),
    "dilated": after_stem(lambda net, x: net.layer(x, 24, kernel=(3, 3), pads=(2, 2, 2, 2), dilation=2)),
    "grouped": after_stem(lambda net, x: net.layer(x, 64, kernel=(3, 3), pads=(1, 1, 1, 1), group=2), 16),
    "grouped_odd": after_stem(lambda net, x: net.layer(x, 12, kernel=(3, 3), pads=(1, 1, 1, 1), group=3)),
    "depthwise3": after_stem(lambda net, x: net.layer(x, 80, kernel=(3, 3), pads=(1, 1, 1, 1), group=80), 80),
    "depthwise3_stride2": after_stem(lambda net, x: halved(net, x, 48, kernel=(3, 3), pads=(1, 1, 1, 1), group=48), 48),
    "depthwise5": after_stem(lambda net, x: net.layer(x, 120, kernel=(5, 5), pads=(2, 2, 2, 2), group=120), 120),
    "depthwise5_stride2": after_stem(lambda net, x: halved(net, x, 72, kernel=(5, 5), pads=(2, 2, 2, 2), group=72), 72),
    "depthwise7": after_stem(lambda net, x: net.layer(x, 24, kernel=(7, 7), pads=(3, 3, 3, 3), group=24)),
    "depthwise_dilated": after_stem(
        lambda net, x: net.layer(x, 24, kernel=(3, 3), pads=(2, 2, 2, 2), group=24, dilation=2)
    ),
    "depthwise_twice": after_stem(lambda net, x: net.layer(x, 48, kernel=(3, 3), pads=(1, 1, 1, 1), group=24)),
    "relu6": after_stem(lambda net, x: net.pair(net.clip(net.conv(x, 40), 0.0, 6.0), 6 / 127, 40)),
    "two_pairs": after_stem(two_pairs),
    "residual": after_stem(residual),
    "concat_one_scale": after_stem(lambda net, x: joint(net, x, 0.02)),
    "concat_two_scales": after_stem(lambda net, x: joint(net, x, 0.027)),
    "max_pool": after_stem(
        lambda net, x: net.upsample(
            net.same(net.node("MaxPool", [net.layer(x, 24)], 24, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
        )
    ),
    "average_pool": after_stem(
        lambda net, x: net.same(
            net.node("AveragePool", [x], 24, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4), 0.017
        )
    ),
    "average_pool_pads": after_stem(
        lambda net, x: net.same(
            net.node("AveragePool", [x], 24, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, count_include_pad=1),
            0.017,
        )
    ),
    "requantize": after_stem(lambda net, x: net.same(net.same(x, 0.033), 0.011)),
    "float_pointwise": after_stem(
        lambda net, x: net.layer(net.pair(net.relu(net.float_conv(x, 75, bias=False)), 0.02, 75), 40)
    ),
    "float_dense3": after_stem(
        lambda net, x: net.pair(net.clip(net.float_conv(x, 40, (3, 3), pads=(1, 1, 1, 1)), 0.0, 1.7), 0.0134, 40)
    ),
    "float_stride2": after_stem(
        lambda net, x: net.same(net.upsample(net.float_layer(x, 12, kernel=(5, 5), pads=(1, 0, 2, 3), stride=2)))
    ),
    "float_wide": after_stem(lambda net, x: net.float_layer(x, 16, kernel=(3, 5), pads=(2, 4, 2, 4), dilation=2), 16),
    "float_grouped": after_stem(lambda net, x: net.float_layer(x, 36, kernel=(3, 3), pads=(1, 1, 1, 1), group=3)),
    "float_depthwise": after_stem(
        lambda net, x: net.float_layer(x, 40, kernel=(5, 5), pads=(2, 2, 2, 2), group=40), 40
    ),
    "float_depthwise_stride2": after_stem(
        lambda net, x: net.same(
            net.upsample(net.float_layer(x, 24, kernel=(3, 3), pads=(1, 1, 1, 1), group=24, stride=2))
        )
    ),
    "float_depthwise_twice": after_stem(
        lambda net, x: net.float_layer(x, 48, kernel=(3, 3), pads=(2, 2, 2, 2), dilation=2, group=24)
    ),
    "float_chain": after_stem(
        lambda net, x: net.layer(net.float_layer(net.relu(net.float_conv(x, 33)), 20, kernel=(3, 3), pads=(1,) * 4), 16)
    ),
    "float_first": lambda net: net.float_layer(net.input, 24, kernel=(3, 3), pads=(1, 1, 1, 1)),
    "float_data": after_stem(float_data),
    "float_tail": after_stem(lambda net, x: net.relu(net.float_conv(x, 24, kernel=(3, 3), pads=(1, 1, 1, 1)))),
    "compare": after_stem(compare, 5),
    "signed": after_stem(signed, 6),
}


def anybody() -> onnx.ModelProto:
    """A network that is no bundle's: features of half the size, and the scores of five classes."""
    net = Net(99)
    features = net.layer(stem(net), 8, kernel=(3, 3), pads=(1, 1, 1, 1), stride=2)
    mean = net.pair(net.node("GlobalAveragePool", [features], 8), 0.01, 8)
    net.conv(mean, 5)
    net.nodes[-1].output[0] = "pooled"
    net.nodes.append(helper.make_node("Flatten", ["pooled"], ["classes"], "flatten"))
    shapes = {"input": [1, 3, HEIGHT, WIDTH], features: [1, 8, HEIGHT // 2, WIDTH // 2], "classes": [1, 5]}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(net.nodes, "anybody", ports[:1], ports[1:], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write(name: str, model: onnx.ModelProto, seed: int, outputs: list[str]) -> list[np.ndarray]:
    """NAME.onnx and NAME.bin; returns what ONNX Runtime says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnx.save(model, OUT / f"{name}.onnx")
    pixels = np.random.default_rng(1000 + seed).integers(-128, 128, (HEIGHT, WIDTH, 3), np.int8)
    tensor = (pixels.astype(np.float32) / 128).transpose(2, 0, 1)[None]
    session = ort.InferenceSession(model.SerializeToString(), options)
    found: list[np.ndarray] = session.run(outputs, {"input": tensor})
    values = np.concatenate([value.ravel() for value in found]).astype("<f4")
    (OUT / f"{name}.bin").write_bytes(pixels.tobytes() + values.tobytes())
    return found


def main() -> None:
    OUT.mkdir(exist_ok=True)
    model = anybody()
    write("../anybody", model, 99, [output.name for output in model.graph.output])
    for seed, (name, body) in enumerate(LAYERS.items()):
        net = Net(seed)
        model = net.finish(body(net))
        heat = write(name, model, seed, ["logits", "map"])[1]
        print(f"{name}: map {heat.min():.2f} to {heat.max():.2f}")


if __name__ == "__main__":
    main()
