"""Operators that ONNX Runtime fuses others to, as files that it has optimised hold them; and its versions of ONNX's."""

from typing import Any

import onnx_ir as ir

from onnxsal.graph.expansions.expand import Composite, Writer, expansion
from onnxsal.graph.expansions.quantised import WINDOW

# ----- An activation at the end -----


@expansion("FusedConv")
def fused_conv(w: Writer, node: Composite) -> Any:
    y = w.Conv(node[0], node[1], node[2], **node.attributes(*WINDOW))
    y = y if node[3] is None else w.Add(y, node[3])
    return _activated(w, node, y, node.attribute("activation_params", ()))


@expansion("FusedGemm")
def fused_gemm(w: Writer, node: Composite) -> Any:
    y = w.Gemm(*(node[i] for i in range(3)), **node.attributes("alpha", "beta", "transA", "transB"))
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    return _activated(w, node, y, list(node.attributes(*names).values()))


def _activated(w: Writer, node: Composite, y: Any, parameters: Any) -> Any:
    """Apply the activation that a fused operator ends with; parameters stand in the order of its attributes."""
    kind = node.attribute("activation", "")
    if not kind:
        return y
    if kind == "Clip":
        return w.Clip(y, *(w.number(p, y) for p in parameters))
    names = {
        "LeakyRelu": ("alpha",),
        "HardSigmoid": ("alpha", "beta"),
        "Elu": ("alpha",),
        "ThresholdedRelu": ("alpha",),
    }
    return w.emit(kind, y, **dict(zip(names.get(kind, ()), parameters, strict=False)))


# ----- Products -----


@expansion("FusedMatMul", "TransposeMatMul")
def fused_matmul(w: Writer, node: Composite) -> Any:
    if node.attribute("transBatchA", 0) or node.attribute("transBatchB", 0):
        return None
    sides = [_turned(w, node[i]) if node.attribute(n, 0) else node[i] for i, n in enumerate(("transA", "transB"))]
    y, alpha = w.MatMul(*sides), node.attribute("alpha", 1.0)
    return y if alpha == 1 else w.Mul(y, w.number(alpha, y))


def _turned(w: Writer, x: Any) -> Any:
    """Exchange the last two axes."""
    if x.shape is None:
        return w.Einsum(x, equation="...ij->...ji")
    *batch, row, column = range(len(x.shape))
    return w.Transpose(x, perm=[*batch, column, row])


@expansion("ConvTransposeWithDynamicPads")
def conv_transpose_with_dynamic_pads(w: Writer, node: Composite) -> Any:
    pads = node[2]
    if pads is not None and pads.const_value is None:
        return None
    given = node.attributes(*WINDOW, "output_padding")
    if pads is not None and pads.const_value is not None:
        given["pads"] = [int(p) for p in pads.const_value.numpy()]
    return w.ConvTranspose(node[0], node[1], node[3], **given)


# ----- Activations -----


@expansion("Gelu")
def gelu(w: Writer, node: Composite) -> Any:
    return w.Gelu(node[0])


@expansion("BiasGelu")
def bias_gelu(w: Writer, node: Composite) -> Any:
    return w.Gelu(w.Add(node[0], node[1]))


@expansion("FastGelu")
def fast_gelu(w: Writer, node: Composite) -> Any:
    x = node[0] if node[1] is None else w.Add(node[0], node[1])
    return w.Gelu(x, approximate="tanh")


@expansion("QuickGelu")
def quick_gelu(w: Writer, node: Composite) -> Any:
    x: Any = node[0]
    return w.Mul(x, w.Sigmoid(w.Mul(x, w.number(node.attribute("alpha", 1.702), x))))


@expansion("BiasSoftmax")
def bias_softmax(w: Writer, node: Composite) -> Any:
    return w.Softmax(w.Add(node[0], node[1]), axis=node.attribute("axis", 1))


@expansion("BiasAdd")
def bias_add(w: Writer, node: Composite) -> Any:
    return w.Add(w.Add(node[0], node[1]), node[2])


# ----- Normalisations -----


@expansion("SkipLayerNormalization")
def skip_layer_normalization(w: Writer, node: Composite) -> Any:
    total = _sum(w, node[0], node[1], node[4])
    y = w.LayerNormalization(total, node[2], node[3], axis=-1, epsilon=node.attribute("epsilon", 1e-12))
    return [y, None, None, total]


@expansion("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(w: Writer, node: Composite) -> Any:
    total = _sum(w, node[0], node[1], node[3])
    return [_over_root_mean_square(w, node, total, node[2], -1), None, None, total]


@expansion("SimplifiedLayerNormalization")
@expansion("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(w: Writer, node: Composite) -> Any:
    return _over_root_mean_square(w, node, node[0], node[1], node.attribute("axis", -1))


def _over_root_mean_square(w: Writer, node: Composite, x: Any, scale: Any, axis: int) -> Any:
    square = w.ReduceMean(w.Mul(x, x), [axis])
    root = w.Sqrt(w.Add(square, w.number(node.attribute("epsilon", 1e-5), x)))
    return w.Mul(w.Div(x, root), scale)


def _sum(w: Writer, *parts: Any) -> Any:
    given = [p for p in parts if p is not None]
    total = given[0]
    for part in given[1:]:
        total = w.Add(total, part)
    return total


@expansion("GroupNorm")
def group_norm(w: Writer, node: Composite) -> Any:
    last = bool(node.attribute("channels_last", 1))
    x = w.Transpose(node[0], perm=[0, 3, 1, 2]) if last else node[0]
    settings = {"num_groups": node.attribute("groups"), "epsilon": node.attribute("epsilon", 1e-5)}
    y = w.GroupNormalization(x, node[1], node[2], **settings)
    y = w.Mul(y, w.Sigmoid(y)) if node.attribute("activation", 0) else y
    return w.Transpose(y, perm=[0, 2, 3, 1]) if last else y


# ----- ONNX Runtime's versions of the standard operators -----


@expansion("ExpandDims")
def expand_dims(w: Writer, node: Composite) -> Any:
    axis = node[1]
    return None if axis is None else w.Unsqueeze(node[0], w.Reshape(w.Cast(axis, to=ir.DataType.INT64), [1]))


@expansion("GridSample")
def grid_sample(w: Writer, node: Composite) -> Any:
    modes = {"bilinear": "linear", "bicubic": "cubic"}
    mode = node.attribute("mode", "bilinear")
    return w.GridSample(
        node[0], node[1], mode=modes.get(mode, mode), **node.attributes("padding_mode", "align_corners")
    )


@expansion("Pad", "Trilu", "GatherND")
def namesake(w: Writer, node: Composite) -> Any:
    return w.emit(node.node.op_type, *(node[i] for i in range(len(node))), **node.attributes("mode", "upper"))
