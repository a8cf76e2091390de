"""Products with weights of few bits, which share a scale block by block."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.expansions.expand import Composite, Writer, expansion
from onnxsal.graph.types import FLOATS, constant


@expansion("MatMulNBits")
def matmul_n_bits(w: Writer, node: Composite) -> Any:
    """Y = A Bᵀ + bias; a row of B is cut into blocks, each with a scale, and perhaps a zero point, of its own."""
    packed = constant(node[1])
    if packed is None or packed.size == 0 or node[4] is not None or node.attribute("weight_prepacked", 0):
        return None
    x: Any = node[0]
    k, block, bits = node.attribute("K"), node.attribute("block_size"), node.attribute("bits", 4)
    n, blocks = packed.shape[0], -(-k // block)
    zero_points = _zero_points(w, node, (n, blocks), bits)
    if zero_points is None:
        return None
    scales = w.Cast(w.Reshape(node[2], [n, blocks]), to=ir.DataType.FLOAT)
    steps = w.DequantizeLinear(_weight(w, packed, (n, blocks * block), bits), scales, axis=1, block_size=block)
    centred = w.Sub(w.Reshape(steps, [n, blocks, block]), w.Unsqueeze(w.Mul(zero_points, scales), [2]))
    rows = w.Slice(w.Reshape(centred, [n, -1]), [0], [k], [1])
    y = w.MatMul(x, w.cast_like(w.Transpose(rows, perm=[1, 0]), x))
    return y if node[5] is None else w.Add(y, node[5])


def _weight(w: Writer, packed: np.ndarray[Any, Any], shape: tuple[int, int], bits: int) -> ir.Value:
    """Return the rows as a constant: ONNX packs 4 bits as the operator does, so that nothing is copied."""
    if bits == 4:
        return w.hold(ir.PackedTensor(packed.reshape(-1), ir.DataType.UINT4, shape=shape))
    return w.constant(_unpacked(packed, bits).reshape(shape), ir.DataType.UINT8)


def _zero_points(w: Writer, node: Composite, shape: tuple[int, int], bits: int) -> Any:
    """Return the zero points as float32, one for each block; None if they are packed and not constant."""
    given = node[3]
    if given is None:
        return w.constant(np.array(2.0 ** (bits - 1), np.float32), ir.DataType.FLOAT)
    if given.dtype in FLOATS:
        return w.Cast(w.Reshape(given, list(shape)), to=ir.DataType.FLOAT)
    packed = constant(given)
    if packed is None:
        return None
    rows = _unpacked(packed.reshape(shape[0], -1), bits)[:, : shape[1]]
    return w.constant(rows.astype(np.float32), ir.DataType.FLOAT)


def _unpacked(packed: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Return the numbers that bytes hold along the last axis, the lowest bits first."""
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)
