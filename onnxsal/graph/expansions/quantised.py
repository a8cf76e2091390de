"""Operators on quantised numbers, as float operators between DequantizeLinear and QuantizeLinear."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.expansions.expand import Composite, Writer, expansion

WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _dequantised(w: Writer, node: Composite, index: int, axis: int = 1) -> Any:
    """Return the real numbers of the input at `index`, whose scale and zero point follow it."""
    return w.DequantizeLinear(node[index], node[index + 1], node[index + 2], axis=axis)


def _first(w: Writer, x: Any, channels_last: bool, rank: int) -> Any:
    """Return a value with its channels moved to axis 1."""
    return w.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)]) if channels_last else x


def _last(w: Writer, x: Any, channels_last: bool, rank: int) -> Any:
    """Return a value with its channels moved to the last axis."""
    return w.Transpose(x, perm=[0, *range(2, rank), 1]) if channels_last else x


# ----- Convolutions and products -----


@expansion("QLinearConv", domain="")
@expansion("QLinearConv")
def qlinear_conv(w: Writer, node: Composite) -> Any:
    """The bias is of steps x_scale * w_scale; nothing depends on it but the output."""
    last = bool(node.attribute("channels_last", 0))
    rank = _window_rank(node, 3)
    x = _first(w, _dequantised(w, node, 0), last, rank)
    kernel = _dequantised(w, node, 3, axis=0)
    y = w.Conv(x, kernel, _bias(w, node[8], node[1], node[4]), **node.attributes(*WINDOW))
    return w.QuantizeLinear(_last(w, y, last, rank), node[6], node[7])


def _bias(w: Writer, bias: ir.Value | None, *scales: ir.Value | None) -> Any:
    return None if bias is None else w.Mul(w.Cast(bias, to=ir.DataType.FLOAT), w.Mul(*scales))


def _window_rank(node: Composite, kernel: int) -> int:
    shape = node.attribute("kernel_shape")
    weight = node[kernel] if kernel >= 0 else None
    if shape is None and weight is not None and weight.shape is not None:
        return len(weight.shape)
    return 2 + len(shape or (0, 0))


@expansion("QLinearMatMul", domain="")
@expansion("QLinearMatMul")
def qlinear_matmul(w: Writer, node: Composite) -> Any:
    left = _dequantised(w, node, 0, axis=-2)
    return w.QuantizeLinear(w.MatMul(left, _dequantised(w, node, 3, axis=-1)), node[6], node[7])


@expansion("QGemm")
def qgemm(w: Writer, node: Composite) -> Any:
    """C is of steps a_scale * b_scale, alpha apart, which multiplies the product alone."""
    alpha = node.attribute("alpha", 1.0)
    right = _dequantised(w, node, 3, axis=0 if node.attribute("transB", 0) else 1)
    bias = _bias(w, node[6], node[1], node[4])
    y = w.Gemm(_dequantised(w, node, 0), right, bias, alpha=alpha, beta=alpha, **node.attributes("transA", "transB"))
    return y if node[7] is None else w.QuantizeLinear(y, node[7], node[8])


# ----- Element by element -----


@expansion("QLinearAdd", "QLinearMul")
def qlinear_binary(w: Writer, node: Composite) -> Any:
    operator = node.node.op_type.removeprefix("QLinear")
    y = w.emit(operator, _dequantised(w, node, 0), _dequantised(w, node, 3))
    return w.QuantizeLinear(y, node[6], node[7])


@expansion("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_unary(w: Writer, node: Composite) -> Any:
    operator = node.node.op_type.removeprefix("QLinear")
    y = w.emit(operator, _dequantised(w, node, 0), **node.attributes("alpha"))
    return w.QuantizeLinear(y, node[3], node[4])


@expansion("QLinearSoftmax")
def qlinear_softmax(w: Writer, node: Composite) -> Any:
    """Up to opset 12 the axes from `axis` on are one."""
    axis, x = node.attribute("axis", -1), _dequantised(w, node, 0)
    if node.attribute("opset", 13) >= 13:
        return w.QuantizeLinear(w.Softmax(x, axis=axis), node[3], node[4])
    y = w.Reshape(w.Softmax(w.Flatten(x, axis=axis), axis=-1), w.Shape(x))
    return w.QuantizeLinear(y, node[3], node[4])


@expansion("QLinearWhere")
def qlinear_where(w: Writer, node: Composite) -> Any:
    y = w.Where(node[0], _dequantised(w, node, 1), _dequantised(w, node, 4))
    return w.QuantizeLinear(y, node[7], node[8])


@expansion("QLinearConcat")
def qlinear_concat(w: Writer, node: Composite) -> Any:
    parts = [_dequantised(w, node, i) for i in range(2, len(node), 3)]
    return w.QuantizeLinear(w.Concat(*parts, **node.attributes("axis")), node[0], node[1])


# ----- Averages -----


@expansion("QLinearAveragePool")
def qlinear_average_pool(w: Writer, node: Composite) -> Any:
    last = bool(node.attribute("channels_last", 0))
    rank = _window_rank(node, -1)
    x = _first(w, _dequantised(w, node, 0), last, rank)
    y = w.AveragePool(x, **node.attributes(*WINDOW[:1], *WINDOW[3:], "ceil_mode", "count_include_pad"))
    return w.QuantizeLinear(_last(w, y, last, rank), node[3], node[4])


@expansion("QLinearGlobalAveragePool")
def qlinear_global_average_pool(w: Writer, node: Composite) -> Any:
    x = node[0]
    rank = len(x.shape) if x is not None and x.shape is not None else 4
    last = bool(node.attribute("channels_last", 0))
    y = w.GlobalAveragePool(_first(w, _dequantised(w, node, 0), last, rank))
    return w.QuantizeLinear(_last(w, y, last, rank), node[3], node[4])


@expansion("NhwcMaxPool")
def nhwc_max_pool(w: Writer, node: Composite) -> Any:
    rank = _window_rank(node, -1)
    y = w.MaxPool(_first(w, node[0], True, rank), **node.attributes(*WINDOW[:2], *WINDOW[3:], "ceil_mode"))
    return _last(w, y, True, rank)


# ----- Quantised at run time -----


def _steps(w: Writer, x: Any, zero_point: Any, axis: int = 1) -> Any:
    """Return x - zero_point as float32."""
    one = w.constant(np.array(1, np.float32), ir.DataType.FLOAT)
    if zero_point is not None and zero_point.shape is not None and any(d != 1 for d in zero_point.shape):
        one = w.Expand(one, w.Shape(zero_point))
    return w.DequantizeLinear(x, one, zero_point, axis=axis)


@expansion("ConvInteger", domain="")
def conv_integer(w: Writer, node: Composite) -> Any:
    y = w.Conv(_steps(w, node[0], node[2]), _steps(w, node[1], node[3], axis=0), **node.attributes(*WINDOW))
    return w.Cast(y, to=ir.DataType.INT32)


@expansion("MatMulInteger", domain="")
@expansion("MatMulInteger16")
def matmul_integer(w: Writer, node: Composite) -> Any:
    y = w.MatMul(_steps(w, node[0], node[2], axis=-2), _steps(w, node[1], node[3], axis=-1))
    return w.Cast(y, to=ir.DataType.INT32)


@expansion("MatMulIntegerToFloat")
def matmul_integer_to_float(w: Writer, node: Composite) -> Any:
    left = w.DequantizeLinear(node[0], node[2], node[4], axis=-2)
    y = w.MatMul(left, w.DequantizeLinear(node[1], node[3], node[5], axis=-1))
    return y if node[6] is None else w.Add(y, node[6])


@expansion("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(w: Writer, node: Composite) -> Any:
    """A is quantised to its own range, which clips nothing."""
    y = w.MatMul(node[0], w.DequantizeLinear(node[1], node[2], node[3], axis=-1))
    return y if node[4] is None else w.Add(y, node[4])


_RECURRENT = ("activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "input_forget")


@expansion("DynamicQuantizeLSTM")
def dynamic_quantize_lstm(w: Writer, node: Composite) -> Any:
    """Inputs and states are quantised to their own ranges, which clip nothing; weights lie the other way round."""
    weights = [_recurrent_weight(w, *(node[i] for i in at)) for at in ((1, 8, 9), (2, 10, 11))]
    return w.LSTM(node[0], *weights, *(node[i] for i in range(3, 8)), outputs=3, **node.attributes(*_RECURRENT))


def _recurrent_weight(w: Writer, weight: Any, scale: Any, zero_point: Any) -> Any:
    """Return (directions, 4 * hidden, inputs) of (directions, inputs, 4 * hidden); scales are per direction, or row."""
    rows = len(scale.shape or ()) > 1
    numbers = w.Cast(weight, to=ir.DataType.FLOAT)
    if zero_point is not None:
        numbers = w.Sub(numbers, _beside_rows(w, w.Cast(zero_point, to=ir.DataType.FLOAT), rows))
    return w.Transpose(w.Mul(numbers, _beside_rows(w, scale, rows)), perm=[0, 2, 1])


def _beside_rows(w: Writer, parameter: Any, rows: bool) -> Any:
    return w.Unsqueeze(parameter, [1]) if rows else w.Reshape(parameter, [-1, 1, 1])


# ----- ONNX Runtime's own versions of the standard operators -----


@expansion("QuantizeLinear", "DequantizeLinear")
def quantize(w: Writer, node: Composite) -> Any:
    return w.emit(node.node.op_type, node[0], node[1], node[2], **node.attributes("axis", "block_size"))
