"""Models that output what they are told, in the names and shapes of a detector family's heads."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Outputs = Mapping[str, NDArray[np.generic]]


def head(
    outputs: Outputs,
    size: tuple[int, int] = (64, 64),
    *,
    metadata: Mapping[str, str] | None = None,
    inputs: Outputs | None = None,
    constant: Outputs | None = None,
    through: Mapping[str, str] | None = None,
    suppressed: bool = False,
) -> onnx.ModelProto:
    """Return a model whose outputs are the given arrays, whatever the photo shows.

    They are computed from the image (plus zero times its mean), as a head's are.

    Args:
        outputs: Array by name.
        size: Height and width of the image.
        metadata: `metadata_props`.
        inputs: Inputs beside the image, by name; their arrays only say type and shape.
        constant: Columns that are joined to an output and do not depend on the image, by its name.
        through: Operator by output that the array passes last: `Sigmoid` takes the given array as its result.
        suppressed: Whether a NonMaxSuppression is among what they are computed from.
    """
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])
    others = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in (inputs or {}).items()
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none" if suppressed else "nothing"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero")]
    if suppressed:
        nodes += _suppression(weights)
    infos = []
    for name, array in outputs.items():
        infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
        nodes += _output(name, array, weights, (constant or {}).get(name), (through or {}).get(name))
    graph = helper.make_graph(nodes, "head", [image, *others], infos, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return model


def _suppression(weights: list[TensorProto]) -> list[onnx.NodeProto]:
    """Return what makes `nothing` of `none`, by way of the indices of the one box that is left."""
    weights += [
        numpy_helper.from_array(np.array([[[0, 0, 1, 1]]], np.float32), "some_box"),
        numpy_helper.from_array(np.array([1, 1, 1]), "one"),
        numpy_helper.from_array(np.array([1]), "most"),
    ]
    return [
        helper.make_node("Reshape", ["none", "one"], ["some_score"]),
        helper.make_node("NonMaxSuppression", ["some_box", "some_score", "most"], ["left"]),
        helper.make_node("Cast", ["left"], ["indices"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["indices"], ["nothing"], keepdims=0),
    ]


def _output(
    name: str,
    array: NDArray[np.generic],
    weights: list[TensorProto],
    constant: NDArray[np.generic] | None,
    through: str | None,
) -> list[onnx.NodeProto]:
    live = array if constant is None else array[..., : array.shape[-1] - constant.shape[-1]]
    if through == "Sigmoid":
        live = np.log(live / (1 - live))
    weights.append(numpy_helper.from_array(np.asarray(live, np.float32), f"{name}_given"))
    steps = [helper.make_node("Add", [f"{name}_given", "nothing"], [f"{name}_live"])]
    last = f"{name}_live"
    if through is not None:
        steps.append(helper.make_node(through, [last], [f"{name}_passed"]))
        last = f"{name}_passed"
    if constant is not None:
        weights.append(numpy_helper.from_array(constant, f"{name}_constant"))
        steps.append(helper.make_node("Concat", [last, f"{name}_constant"], [f"{name}_joined"], axis=-1))
        last = f"{name}_joined"
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return [*steps, helper.make_node("Cast", [last], [name], to=kind)]
