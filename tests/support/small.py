"""A small classifier with hostile labels, and photos of noise."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

# Labels as a stranger could write them.
HOSTILE = ("../../escaped", "[red]red[/red] :boom:", "\x1b[31mansi\x1b[0m\nsecond line", "cat")


CARD = {
    "task": "classification",
    "layout": "NCHW",
    "resize": "stretch",
    "interpolation": "bilinear",
    "pad_value": 0,
    "scale": 1 / 255,
    "mean": [0.5],
    "std": [0.25],
    "channels": "RGB",
}


def classifier(
    labels: Sequence[str] = HOSTILE,
    before_pool: Sequence[onnx.NodeProto] = (),
    image_shape: Sequence[int | str] = ("N", 3, 32, 32),
    opsets: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    """Return a convolution, a rectifier, global average pooling and a linear layer.

    Args:
        labels: One per class, in its metadata.
        before_pool: Nodes from `relu` to `seen`.
        image_shape: Of its input.
        opsets: Beside ai.onnx 17.
    """
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((8, 3, 3, 3)),
        "matrix": rng.standard_normal((8, len(labels))) * 4,
        "bias": np.arange(len(labels)) * 0.1,
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], "conv_node", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], "relu_node"),
        *(before_pool or [helper.make_node("Identity", ["relu"], ["seen"], "same")]),
        helper.make_node("GlobalAveragePool", ["seen"], ["pooled"], "gap"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"], "fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image_shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(labels)])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *opsets], ir_version=8)
    card = CARD | {"labels": list(labels)}
    helper.set_model_props(model, {f"onnxsal.{field}": json.dumps(value) for field, value in card.items()})
    return model


def without_gap() -> onnx.ModelProto:
    """Return the classifier with a global maximum in place of the average, on which CAM does not work."""
    model = classifier()
    pool = next(node for node in model.graph.node if node.name == "gap")
    pool.op_type = "GlobalMaxPool"
    return model


def save_photo(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
