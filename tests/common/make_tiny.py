"""Makes the bundles that the tests use: `tiny/` (a good one).

    python tests/common/make_tiny.py

The network is made by hand and not trained. It looks at brightness alone: a picture darker than middle gray on average is a
reject ("dark"), and the map is foreground where the picture is nearly black. It is as small as a network can be that still
has what a real one has: strided and padded int8 convolutions, per-channel weights, a Resize, and both outputs.
The proof is that of ONNX Runtime with graph optimisation off. Two runs write the same bytes.
"""

import hashlib
import io
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
        return self.node("Conv", [x, self.weight(f"{name}.weight", weight), bias], output, kernel_shape=size, **attributes)

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

    # Four channels of brightness at half the size: above middle gray, below it, and each again by the middle pixel alone.
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
    return text + """
[provenance]
tool = "tests/common/make_tiny.py"

[metrics]
pictures = 2.0
"""


def main():
    model = tiny()
    onnx.checker.check_model(model, full_check=True)
    for name, content in bundle(model.SerializeToString(deterministic=True)).items():
        path = HERE / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
