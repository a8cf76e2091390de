"""Small networks of every kind that methods have to keep their promises on."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from parity import methods_cases
from PIL import Image

import onnxsal
from onnxsal.methods import methods
from support import papers

DEMO = Path(__file__).parents[2] / "models" / "digits" / "digits.onnx"

# What exporters leave unsaid: kernel sizes, strides, dilations, groups, pads; also of a ConvTranspose.
UNSAID = """
<ir_version: 8, opset_import: ["" : 17]>
unsaid (float[N,3,12,12] image) => (float[N,4] logits)
{
  c1 = Conv(image, w1)
  a1 = Relu(c1)
  c2 = ConvTranspose(a1, w2)
  a2 = Relu(c2)
  c3 = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(a2, w3)
  a3 = Relu(c3)
  pooled = GlobalAveragePool(a3)
  flat = Flatten(pooled)
  logits = Gemm<transB=1>(flat, w4)
}
"""

UNSAID_WEIGHTS = {"w1": (6, 3, 3, 3), "w2": (6, 5, 3, 3), "w3": (6, 5, 3, 3), "w4": (4, 6)}


def fill(text: str, shapes: Mapping[str, Sequence[int]] = papers.WEIGHTS, dtype: type = np.float32) -> onnx.ModelProto:
    """Return the model of an ONNX text, its weights random."""
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for n, shape in shapes.items()}
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w.astype(dtype), n) for n, w in weights.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def replaced(*pairs: tuple[str, str]) -> str:
    """Return the paper rewrites' network with parts of its text replaced."""
    text = papers.TEXT
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def blind() -> onnx.ModelProto:
    """Return a model that multiplies the left half of the image by 0."""
    first = "c1 = Conv<pads=[1,1,1,1]>("
    model = onnx.parser.parse_model(replaced((f"{first}image,", f"seen = Mul(image, half)\n{first}seen,")))
    model.graph.initializer.extend(fill(papers.TEXT).graph.initializer)
    half = np.broadcast_to(np.arange(12) >= 6, (12, 12)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(half, "half"))
    return model


def old() -> onnx.ModelProto:
    """Return a model of opset 7 and IR 3, which lists its weights as inputs."""
    model = fill(replaced(('"" : 17', '"" : 7')))
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def frozen(name: str) -> Callable[[], onnx.ModelProto]:
    """Return what loads a network of the parity tests."""
    return lambda: onnx.load(methods_cases.FOLDER / f"{name}.onnx")


NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    "small": lambda: fill(papers.TEXT),
    "batch of one": lambda: fill(replaced(("float[N,", "float[1,"))),
    "channels last": lambda: fill(
        replaced(
            ("float[N,3,12,12] image", "float[N,12,12,3] image"),
            (
                "c1 = Conv<pads=[1,1,1,1]>(image,",
                "nchw = Transpose<perm=[0,3,1,2]>(image)\nc1 = Conv<pads=[1,1,1,1]>(nchw,",
            ),
        )
    ),
    "bytes": lambda: fill(
        replaced(
            ("float[N,3,12,12] image", "uint8[N,3,12,12] image"),
            ("c1 = Conv<pads=[1,1,1,1]>(image,", "x = Cast<to=1>(image)\nc1 = Conv<pads=[1,1,1,1]>(x,"),
        )
    ),
    "half precision": lambda: fill(replaced(("float[", "float16[")), dtype=np.float16),
    "any size": lambda: fill(replaced(("[N,3,12,12]", "[N,3,H,W]"))),
    "old": old,
    "unsaid": lambda: fill(UNSAID, UNSAID_WEIGHTS),
    "residual": frozen("residual"),
    "vgg": frozen("vgg"),
    "vit": frozen("vit"),
    **({"demo": lambda: onnx.load(DEMO)} if DEMO.exists() else {}),
}

UNFIT = {
    ("cam", "vgg"): "global average pooling",
    ("cam", "vit"): "global average pooling",
    ("guided-backprop", "vit"): "plain gradient under another name",
    ("deconvnet", "vit"): "plain gradient under another name",
    ("guided-grad-cam", "vit"): "plain gradient under another name",
}
"""What the error says, by method and network that do not fit."""

PAIRS = [(method, net) for net in NETS for method in methods(sampled=False) if (method, net) not in UNFIT]


@cache
def proto(net: str) -> onnx.ModelProto:
    """Return the network as it is in its file."""
    return NETS[net]()


@cache
def loaded(net: str) -> onnxsal.Model:
    """Return the network, loaded once."""
    return load(net)


def load(net: str) -> onnxsal.Model:
    """Load the network anew; its inputs are as they are given."""
    layout = "NHWC" if net == "channels last" else "NCHW"
    card = {"scale": 1, "mean": 0, "std": 1, "channels": "RGB", "layout": layout, "resize": "stretch", "size": [12, 12]}
    fixed = [d.dim_value for d in proto(net).graph.input[0].type.tensor_type.shape.dim]
    sizes = fixed[1:3] if layout == "NHWC" else fixed[2:4]
    return onnxsal.load(proto(net), card=card | ({"size": sizes} if all(sizes) else {}))


def random_input(net: str, count: int, seed: int = 0) -> NDArray[np.generic]:
    """Return (count, ...) in the shape and type of the network's image input."""
    value = proto(net).graph.input[0].type.tensor_type
    shape = [count, *(d.dim_value or 12 for d in value.shape.dim[1:])]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.elem_type)
    rng = np.random.default_rng(seed)
    if dtype.kind == "u":
        return rng.integers(0, 256, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def typical_input(name: str, seed: int) -> np.ndarray:
    """Return one sample of a kind the net was made for: a net trained on scenes finds no digit in noise."""
    if name != "demo":
        return random_input(name, 1, seed=seed)
    with Image.open(DEMO.parent / "scenes" / f"scene-{2 * seed}.png") as scene:
        pixels = np.asarray(scene.convert("RGB"), np.float32)
    return ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None]


def run(net: str, x: np.ndarray) -> np.ndarray:
    """Return the first output of the network as it is in its file."""
    session = open_session(proto(net))
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: row[None]})[0] for row in x])


def open_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
