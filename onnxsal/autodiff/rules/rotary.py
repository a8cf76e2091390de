"""Rules for RotaryEmbedding, which turns pairs of entries by angles: back it turns them the other way."""

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.tracing import scatter
from onnxsal.autodiff.rules.windows import concat
from onnxsal.graph.builder import rank


@vjp("RotaryEmbedding", wrt="X")
def rotary(op, node, g):
    return op.RotaryEmbedding(g, node.cos_cache, op.Neg(node.sin_cache), node.position_ids, **node.attrs)


@vjp("RotaryEmbedding", wrt="cos_cache")
def rotary_cos(op, node, g):
    (x1, x2), (g1, g2) = _pairs(op, node, node.X), _pairs(op, node, g)
    return _to_cache(op, node, op.Add(op.Mul(g1, x1), op.Mul(g2, x2)))


@vjp("RotaryEmbedding", wrt="sin_cache")
def rotary_sin(op, node, g):
    (x1, x2), (g1, g2) = _pairs(op, node, node.X), _pairs(op, node, g)
    return _to_cache(op, node, op.Sub(op.Mul(g2, x1), op.Mul(g1, x2)))


def _pairs(op, node, value):
    """Return the first and second entries of all pairs, (N, heads, places, pairs) each."""
    if rank(value) == 3:
        heads = op.Reshape(value, [0, 0, node.attrs["num_heads"], -1])
        value = op.Transpose(heads, perm=[0, 2, 1, 3])
    pairs = op.dim(node.cos_cache, -1)
    value = op.Slice(value, [0], op.Mul(pairs, [2]), [3])  # the entries behind are not turned
    if not node.attrs["interleaved"]:
        return op.Split(value, axis=3, num_outputs=2, outputs=2)
    parts = op.Split(op.Reshape(value, [0, 0, 0, -1, 2]), axis=4, num_outputs=2, outputs=2)
    return tuple(op.Squeeze(part, [4]) for part in parts)


def _to_cache(op, node, value):
    """Sum over the heads; each place's sum belongs to the cache's row that it was turned by."""
    value = op.ReduceSum(value, [1], keepdims=0)
    if node.position_ids is None:
        return value
    rows = op.Reshape(value, concat(op, op.const([-1]), op.dim(node.cos_cache, -1)))
    indices = op.Reshape(node.position_ids, [-1, 1])
    return scatter(op, op.ScatterND, op.zeros_like(node.cos_cache), indices, rows, reduction="add")
