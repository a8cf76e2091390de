"""Embeddings as ONNX Runtime fuses them."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.expansions.expand import Composite, Writer, expansion


@expansion("EmbedLayerNormalization")
def embed_layer_normalization(w: Writer, node: Composite) -> Any:
    """Words, their places and perhaps their segments, summed and normalised; and how many words a mask leaves."""
    total = w.Add(w.Gather(node[2], node[0]), w.Gather(node[3], _places(w, node)))
    if node[1] is not None and node[4] is not None:
        total = w.Add(total, w.Gather(node[4], node[1]))
    y = w.LayerNormalization(total, node[5], node[6], axis=-1, epsilon=node.attribute("epsilon", 1e-12))
    return [y, _lengths(w, node) if node.wants(1) else None, total if node.wants(2) else None]


def _places(w: Writer, node: Composite) -> Any:
    """Return the number of each word within its sample, in the words' own shape, whose names inference keeps so."""
    if node[8] is not None:
        return node[8]
    numbers = w.Cast(node[0], to=ir.DataType.INT64)
    one, axis = (w.constant(np.array(1, np.int64), ir.DataType.INT64) for _ in range(2))
    return w.CumSum(w.Add(w.Sub(numbers, numbers), one), axis, exclusive=1)


def _lengths(w: Writer, node: Composite) -> Any:
    """Return how many words of each sample count, int32; none do without a mask."""
    if node[7] is None:
        zero = w.constant(np.array(0, np.int32), ir.DataType.INT32)
        return w.Expand(zero, w.Shape(node[0], start=0, end=1))
    return w.ReduceSum(w.Cast(node[7], to=ir.DataType.INT32), [1], keepdims=0)
