"""Attention as ONNX Runtime fuses it: with the projections or behind them, with masks, and with a past.

Forms that write into a cache of a fixed length from call to call are not written: they are no image model's.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.expansions.expand import Composite, Writer, expansion
from onnxsal.graph.types import dims, same_dim

MASKED = -10000.0
"""What ONNX Runtime adds to scores that a mask hides, unless the node says otherwise."""


@expansion("Attention")
def attention(w: Writer, node: Composite) -> Any:
    """Query, key and value come out of one product."""
    if node[6] is not None or _shares_its_cache(node):
        return None
    packed = w.MatMul(node[0], node[1])
    packed = packed if node[2] is None else w.Add(packed, node[2])
    sizes = node.attribute("qkv_hidden_sizes")
    parts = w.Split(packed, list(sizes) if sizes else None, outputs=3, axis=-1, num_outputs=None if sizes else 3)
    return _self_attention(w, node, parts, node[0], mask=node[3], past=node[4], bias=node[5])


@expansion("QAttention")
def quantised_attention(w: Writer, node: Composite) -> Any:
    """Input and weight are integers, whatever comes out of their product is not."""
    if _shares_its_cache(node):
        return None
    x = w.DequantizeLinear(node[0], node[3], node[6])
    packed = w.Add(w.MatMul(x, w.DequantizeLinear(node[1], node[4], node[7], axis=1)), node[2])
    parts = w.Split(packed, outputs=3, axis=-1, num_outputs=3)
    return _self_attention(w, node, parts, node[2], mask=node[5], past=node[8], bias=None)


def _shares_its_cache(node: Composite) -> bool:
    return bool(node.attribute("past_present_share_buffer", 0) or node.attribute("do_rotary", 0))


def _self_attention(w: Writer, node: Composite, parts: Any, like: Any, *, mask: Any, past: Any, bias: Any) -> Any:
    if not _is_written(mask):
        return None
    query, key, value = (_heads(w, node, part) for part in parts)
    halves = [None, None] if past is None else w.Split(past, outputs=2, axis=0, num_outputs=2)
    before = [None if half is None else w.Squeeze(half, [0]) for half in halves]
    key, value = _behind(w, before[0], key), _behind(w, before[1], value)
    y = _attend(w, node, [query, key, value], like, mask=mask, bias=bias, past=before[0])
    return [y, w.Concat(w.Unsqueeze(key, [0]), w.Unsqueeze(value, [0]), axis=0) if node.wants(1) else None]


@expansion("MultiHeadAttention")
def multi_head_attention(w: Writer, node: Composite) -> Any:
    """Query, key and value come as they are, packed in one, or key and value as heads already."""
    if node[8] is not None or node[9] is not None or node.wants(3) or not _is_written(node[4]):
        return None
    heads = _query_key_value(w, node)
    if heads is None:
        return None
    key, value = (_behind(w, node[6 + i], heads[1 + i]) for i in (0, 1))
    y = _attend(w, node, [heads[0], key, value], node[0], mask=node[4], bias=node[5], past=node[6])
    return [y, key, value]


def _query_key_value(w: Writer, node: Composite) -> list[Any] | None:
    """Return query, key and value as heads, with their biases; None where they come in a form that is not written."""
    ranks = [None if v is None or v.shape is None else len(v.shape) for v in (node[0], node[1], node[2])]
    if node[1] is None:
        parts = [w.Squeeze(p, [3]) for p in w.Split(node[0], outputs=3, axis=3, num_outputs=3)]
        return [w.Transpose(p, perm=[0, 2, 1, 3]) for p in parts] if node[3] is None else None
    if node[2] is None or ranks[0] not in (None, 3) or ranks[1] != ranks[2] or ranks[1] not in (None, 3, 4):
        return None
    if ranks[1] == 4:
        return [_heads(w, node, node[0]), node[1], node[2]] if node[3] is None else None
    return [_heads(w, node, part) for part in _with_biases(w, node)]


def _with_biases(w: Writer, node: Composite) -> list[Any]:
    """Return query, key and value, each with its part of the bias, which is as long as the part has channels."""
    parts = [node[0], node[1], node[2]]
    if node[3] is None:
        return parts
    known = [None if v is None or v.shape is None else v.shape[2] for v in parts]
    sizes = [size for size in known if isinstance(size, int)]
    told = sizes if len(sizes) == 3 else w.Concat(*(w.Shape(part, start=2, end=3) for part in parts), axis=0)
    return [w.Add(p, b) for p, b in zip(parts, w.Split(node[3], told, outputs=3, axis=0), strict=True)]


def _heads(w: Writer, node: Composite, x: Any) -> Any:
    """Return (N, heads, tokens, channels) of (N, tokens, heads * channels)."""
    return w.Transpose(w.Reshape(x, [0, 0, node.attribute("num_heads"), -1]), perm=[0, 2, 1, 3])


def _behind(w: Writer, past: Any, heads: Any) -> Any:
    """Return keys or values behind those of the past."""
    return heads if past is None else w.Concat(past, heads, axis=2)


def _attend(w: Writer, node: Composite, heads: list[Any], like: Any, *, mask: Any, bias: Any, past: Any) -> Any:
    """Return softmax(query keyᵀ scale + bias + mask) value, (N, tokens, channels); its constants are as `like`."""
    query, key, value = heads
    scores = w.MatMul(_scaled(w, query, node.attribute("scale", 0.0)), w.Transpose(key, perm=[0, 1, 3, 2]))
    scores = scores if bias is None else w.Add(scores, bias)
    if mask is not None:
        hidden = w.number(node.attribute("mask_filter_value", MASKED), like)
        scores = w.Add(scores, w.Where(_kept(w, mask, node[0], query, key), w.number(0, like), hidden))
    if node.attribute("unidirectional", 0):
        lowest = w.number(float(np.finfo(np.float16 if _is_half(like) else np.float32).min), like)
        scores = w.Where(_is_not_ahead(w, query, key, past), scores, lowest)
    mixed = w.Transpose(w.MatMul(w.Softmax(scores, axis=-1), value), perm=[0, 2, 1, 3])
    return w.Reshape(mixed, [0, 0, -1])


def _is_half(like: Any) -> bool:
    return bool(like.dtype == ir.DataType.FLOAT16)


def _scaled(w: Writer, query: Any, scale: float) -> Any:
    """Return query * scale; by default over the root of a head's size."""
    if scale:
        return w.Mul(query, w.number(scale, query))
    size = w.Cast(w.Shape(query, start=3, end=4), to=ir.DataType.FLOAT)
    return w.Div(query, w.CastLike(w.Sqrt(size), query))


# ----- Masks -----


def _is_written(mask: Any) -> bool:
    return mask is None or (mask.shape is not None and len(mask.shape) <= 3)


def _kept(w: Writer, mask: Any, x: Any, query: Any, key: Any) -> Any:
    """Return which keys a mask leaves to which queries, to be broadcast to (N, heads, queries, keys).

    It has a number for each key, or for each pair of query and key; or says how many keys there are, and
    perhaps behind that where they start, for each sample.
    """
    if len(mask.shape) > 1:
        zero = w.constant(np.array(0, np.int32), ir.DataType.INT32)
        return w.Unsqueeze(w.Greater(mask, w.cast_like(zero, mask)), [1, 2] if len(mask.shape) == 2 else [1])
    starts, ends = _spans(w, w.Cast(mask, to=ir.DataType.INT64), mask, x, query)
    places = _places(w, key)
    kept = w.Less(places, w.Unsqueeze(ends, [1]))
    kept = kept if starts is None else w.And(kept, w.GreaterOrEqual(places, w.Unsqueeze(starts, [1])))
    return w.Unsqueeze(kept, [1, 2])


def _spans(w: Writer, numbers: Any, mask: Any, x: Any, query: Any) -> tuple[Any, Any]:
    """Return where the keys of each sample start and end; None for the starts if there are none."""
    if x.shape is not None and same_dim((dims(mask) or ())[0], (dims(x) or ())[0]):
        return None, numbers
    batch = w.Shape(query, start=0, end=1)
    double = w.Mul(batch, [2])
    behind = w.Slice(w.Concat(numbers, w.Expand([0], batch), axis=0), batch, double, [0])
    has_starts = w.Cast(w.Equal(w.Shape(numbers), double), to=ir.DataType.INT64)
    return w.Mul(behind, has_starts), w.Slice(numbers, [0], batch, [0])


def _is_not_ahead(w: Writer, query: Any, key: Any, past: Any) -> Any:
    """Return (queries, keys): whether a key stands no later than a query, whose numbers go on where the past ends.

    The last query sees all keys, as in ONNX Runtime, which shows where there are more of them than queries.
    """
    before = w.constant(np.array(0, np.int64), ir.DataType.INT64) if past is None else _count(w, past)
    last = w.Sub(w.Add(before, _count(w, query)), w.constant(np.array(1, np.int64), ir.DataType.INT64))
    at = w.Concat(_range(w, before, last), w.Shape(key, start=2, end=3), axis=0)
    return w.LessOrEqual(_places(w, key), w.Unsqueeze(at, [1]))


def _count(w: Writer, heads: Any) -> Any:
    """Return the number of tokens."""
    return w.Squeeze(w.Shape(heads, start=2, end=3), [0])


def _places(w: Writer, heads: Any) -> Any:
    """Return the numbers of the tokens."""
    return _range(w, w.constant(np.array(0, np.int64), ir.DataType.INT64), _count(w, heads))


def _range(w: Writer, start: Any, end: Any) -> Any:
    return w.Range(start, end, w.constant(np.array(1, np.int64), ir.DataType.INT64))
