"""Numbers of axes that operators say of their inputs, where nothing else says them.

ONNX infers shapes forwards only: behind a Reshape to sizes that the run knows, it has nothing to go by, though
the weights of a convolution behind that tell how many axes there are.
"""

from collections.abc import Callable

import onnx_ir as ir

from onnxsal.graph.types import dims


def learn_ranks(model: ir.Model) -> bool:
    """Give first inputs, where their number of axes is not known, that which their operator asks for; tell if any."""
    learned = False
    for node in reversed(model.graph):
        value = node.inputs[0] if node.inputs else None
        if value is None or value.shape is not None or node.op_type not in _ASKED or not _is_tensor(value):
            continue
        n = _ASKED[node.op_type](node) if node.domain in ("", "ai.onnx", "com.microsoft") else None
        if n is not None:
            named = value.is_graph_input()
            value.shape = ir.Shape([f"{value.name}_dim_{i}" if named else None for i in range(n)])
            learned = True
    return learned


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _of_input(index: int) -> Callable[[ir.Node], int | None]:
    """Return what counts the axes of another input, which has as many."""

    def count(node: ir.Node) -> int | None:
        value = node.inputs[index] if index < len(node.inputs) else None
        shape = None if value is None else dims(value)
        return None if shape is None else len(shape)

    return count


def _of_output(node: ir.Node) -> int | None:
    shape = dims(node.outputs[0])
    return None if shape is None else len(shape)


def _of_attribute(name: str, more: int) -> Callable[[ir.Node], int | None]:
    """Return what counts the entries of an attribute, which has one for each axis but `more`."""

    def count(node: ir.Node) -> int | None:
        entries = node.attributes.get_ints(name)
        return None if entries is None else len(entries) + more

    return count


def _always(n: int) -> Callable[[ir.Node], int | None]:
    return lambda node: n


_KEEPING = frozenset(
    {"BatchNormalization", "InstanceNormalization", "LRN", "Dropout", "Identity", "Cast", "Pad", "Resize", "PRelu"}
    | {"Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish", "Softmax", "Erf"}
    | {"QuantizeLinear", "DequantizeLinear", "GlobalAveragePool", "GlobalMaxPool"}
)
"""Operators whose output has as many axes as their first input."""

_ASKED: dict[str, Callable[[ir.Node], int | None]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv", "FusedConv", "ConvInteger", "GridSample"), _of_input(1)),
    **dict.fromkeys(_KEEPING, _of_output),
    "QLinearConv": _of_input(3),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _of_attribute("kernel_shape", 2)),
    "Transpose": _of_attribute("perm", 0),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "RoiAlign", "MaxRoiPool"), _always(4)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _always(3)),
    "Gemm": _always(2),
}
