"""Rules for Attention.

With S = scale · Q Kᵀ, softcap and bias on it, and the weights P = softmax(S), Y = P V. Only P is computed
again; then dV = Pᵀ g, and dS = P ∘ (g Vᵀ - rowsum(g ∘ Y)) goes to Q, K and the mask. Where several heads of Q
share one of K, their rows lie one below the other and are multiplied, and summed over, in one product.
`softmax_precision` is a matter of the forward pass: weights are computed in the type of Q here.
"""

import math

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.broadcast import unbroadcast
from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.windows import concat
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims, same_dim

# What `qk_matmul_output_mode` hands out: S as it comes, behind the softcap, behind the bias, or P.
RAW, CAPPED, BIASED, WEIGHTS = range(4)
END = np.iinfo(np.int64).max


@vjp("Attention", wrt="Q")
def attention_query(op, node, g):
    scores = _grouped(op, node, node.once(_raw_scores_cotangent))
    return _like_input(op, node, _ungrouped(op, node, _scaled(op, node, op.MatMul(scores, _keys(op, node)))))


@vjp("Attention", wrt="K")
def attention_key(op, node, g):
    return _like_input(op, node, _new(op, node.past_key, node.once(_keys_cotangent)))


@vjp("Attention", wrt="past_key")
def attention_past_key(op, node, g):
    return _past(op, node.past_key, node.once(_keys_cotangent))


@vjp("Attention", wrt="V")
def attention_value(op, node, g):
    return _like_input(op, node, _new(op, node.past_value, node.once(_values_cotangent)))


@vjp("Attention", wrt="past_value")
def attention_past_value(op, node, g):
    return _past(op, node.past_value, node.once(_values_cotangent))


@vjp("Attention", wrt="attn_mask")
def attention_mask(op, node, g):
    found = node.once(_biased_scores_cotangent)
    if not _covers_all_keys(op, node):
        found = op.Slice(found, [0], op.dim(node.attn_mask, -1), [-1])
    return unbroadcast(op, found, node.attn_mask, "Add")


# ----- Cotangents, from the output back to the inputs -----


def _values_cotangent(op, node):
    """Return Pᵀ g, (N, heads, keys, size)."""
    weights = _grouped(op, node, node.once(_weights))
    return _plus(op, op.MatMul(_transposed(op, weights), _output_cotangent(op, node)), node.g("present_value"))


def _keys_cotangent(op, node):
    """Return (dS)ᵀ scale Q, (N, heads, keys, size)."""
    scores = _grouped(op, node, node.once(_raw_scores_cotangent))
    return _plus(op, op.MatMul(_transposed(op, scores), node.once(_scaled_queries)), node.g("present_key"))


def _raw_scores_cotangent(op, node):
    """Return what arrives at scale · Q Kᵀ, (N, heads, queries, keys)."""
    found = _plus(op, node.once(_biased_scores_cotangent), _scores_output(node, CAPPED))
    if node.attrs["softcap"]:
        # d(c tanh(s / c)) = 1 - tanh²
        tanh = _saturation(op, node)
        found = op.Mul(found, op.Sub(op.scalar(1, like=found), op.Mul(tanh, tanh)))
    return _plus(op, found, _scores_output(node, RAW))


def _biased_scores_cotangent(op, node):
    """Return what arrives at the scores with the bias on them: the vjp of Softmax."""
    weights, extra = node.once(_weights), _scores_output(node, WEIGHTS)
    found = op.MatMul(_output_cotangent(op, node), _transposed(op, _values(op, node)))
    found = _plus(op, _ungrouped(op, node, found), extra)
    if extra is None and node.Y.producer().op_type == node.op_type:
        total = op.ReduceSum(op.Mul(_output_cotangent(op, node), _output(op, node)), [-1], keepdims=1)
        total = _ungrouped(op, node, total)
    else:  # as Y in half precision lacks the digits that make this the mean of what it is taken from
        total = op.ReduceSum(op.Mul(found, weights), [-1], keepdims=1)
    return _plus(op, op.Mul(weights, op.Sub(found, total)), _biased_output(op, node))


def _biased_output(op, node):
    """Return the cotangent of the biased scores that are handed out: none where the bias hides them."""
    found, bias = _scores_output(node, BIASED), node.once(_bias)
    if found is None or bias is None:
        return found
    return op.Where(op.Equal(bias, op.scalar(-math.inf, like=bias)), op.scalar(0, like=found), found)


def _scores_output(node, mode):
    """Return the cotangent of the scores that are handed out, if it is at `mode` that they are."""
    return node.g("qk_matmul_output") if node.attrs["qk_matmul_output_mode"] == mode else None


def _plus(op, a, b):
    return a if b is None else op.Add(a, b)


# ----- The weights again -----


def _weights(op, node):
    """Return P, (N, heads, queries, keys); zeros for a query that may look at nothing."""
    scores, bias = node.once(_raw_scores), node.once(_bias)
    if node.attrs["softcap"]:
        scores = op.Mul(_saturation(op, node), op.scalar(node.attrs["softcap"], like=scores))
    if bias is None:
        return op.Softmax(scores, axis=-1)
    weights = op.Softmax(op.Add(scores, bias), axis=-1)
    if node.attn_mask is None and _key_count(node) is None and _window(node) is None:
        return weights  # a causal mask leaves everyone the first key
    return op.Where(_blind(op, bias), op.scalar(0, like=weights), weights)


def _blind(op, bias):
    """Tell which queries may look at nothing; by counting, as not every provider's maximum of infinities is one."""
    hidden = op.cast(op.IsInf(bias, detect_positive=0), bias.dtype)
    return op.Equal(op.ReduceMin(hidden, [-1], keepdims=1), op.scalar(1, like=bias))


def _raw_scores(op, node):
    return _ungrouped(op, node, op.MatMul(node.once(_scaled_queries), _transposed(op, _keys(op, node))))


def _saturation(op, node):
    scores = node.once(_raw_scores)
    return op.Tanh(op.Mul(scores, op.scalar(1 / node.attrs["softcap"], like=scores)))


# ----- Who may look where -----


def _bias(op, node):
    """Return what is added to the scores, broadcasting against (N, heads, queries, keys); None if nothing is."""
    mask, allowed = node.attn_mask, _allowed(op, node)
    if mask is not None and not _covers_all_keys(op, node):
        missing = op.Sub(op.dim(_keys(op, node), 2), op.dim(mask, -1))
        hidden = op.const(False) if mask.dtype == ir.DataType.BOOL else op.scalar(-math.inf, like=mask)
        mask = op.Pad(mask, op.Concat([0], missing, axis=0), hidden, [-1])
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        mask, allowed = None, mask if allowed is None else op.And(allowed, mask)
    if allowed is None:
        return mask
    zero, hidden = (op.scalar(v, like=node.Q) for v in (0, -math.inf))
    return op.Where(allowed, zero if mask is None else mask, hidden)


def _covers_all_keys(op, node):
    """Tell whether the mask surely has an entry per key: a shorter one hides the keys behind it."""
    keys, mask = dims(_keys(op, node)), dims(node.attn_mask)
    return keys is not None and mask is not None and same_dim(keys[2], mask[-1])


def _allowed(op, node):
    """Return who may look where by position, (queries, keys) or (N, 1, queries, keys); None for everywhere."""
    rules = []
    count = _key_count(node)
    keys = op.Range(0, _size(op, _keys(op, node)), 1)
    if count is not None:
        count = op.Unsqueeze(count, [1, 2, 3])
        rules.append(op.Less(keys, count))
    position = op.Unsqueeze(op.Range(0, _size(op, _queries(op, node)), 1), [1])
    if node.past_key is not None:
        position = op.Add(position, op.dim(node.past_key, 2))
    elif count is not None:
        position = op.Add(position, op.Sub(count, _size(op, _queries(op, node))))
    left, right = _window(node) or (-1, -1)
    if node.attrs["is_causal"]:
        right = 0
    if right >= 0:
        rules.append(op.LessOrEqual(keys, op.Add(position, op.const(right)) if right else position))
    if left >= 0:
        rules.append(op.GreaterOrEqual(keys, op.Sub(position, op.const(left))))
    allowed = None
    for rule in rules:
        allowed = rule if allowed is None else op.And(allowed, rule)
    return allowed


def _key_count(node):
    """Return `nonpad_kv_seqlen`, which is there from opset 24 on."""
    return node.inputs[6] if len(node.inputs) > 6 else None


def _window(node):
    """Return how many keys to the left and right of its own place a query sees, -1 for all; None if there is no window.

    Opset 25 has them, from onnx 1.23 on.
    """
    window = tuple(node.attrs.get(f"{side}_window_size", -1) for side in ("left", "right"))
    return None if window == (-1, -1) else window


def _size(op, value):
    """Return how many queries or keys there are, rank 0."""
    return op.Squeeze(op.dim(value, 2), [0])


# ----- Heads -----


def _queries(op, node):
    return _heads(op, node, node.Q, "q_num_heads")


def _keys(op, node):
    return _with_past(op, node.past_key, _heads(op, node, node.K, "kv_num_heads"))


def _values(op, node):
    return _with_past(op, node.past_value, _heads(op, node, node.V, "kv_num_heads"))


def _scaled_queries(op, node):
    return _grouped(op, node, _scaled(op, node, _queries(op, node)))


def _scaled(op, node, value):
    """Multiply by `scale`, whose default is one over the root of the heads' size."""
    scale, size = node.attrs.get("scale"), dims(_queries(op, node))[3]
    if scale is None and not isinstance(size, int):
        return op.Div(value, op.Sqrt(op.cast(op.Squeeze(op.dim(_queries(op, node), 3), [0]), value.dtype)))
    return op.Mul(value, op.scalar(1 / math.sqrt(size) if scale is None else scale, like=value))


def _output_cotangent(op, node):
    """Return g as (N, heads of K, rows, size)."""
    g = node.g("Y")
    g = op.zeros_like(node.Y) if g is None else g
    return _grouped(op, node, _heads(op, node, g, "q_num_heads"))


def _output(op, node):
    """Return Y as (N, heads of K, rows, size)."""
    return _grouped(op, node, _heads(op, node, node.Y, "q_num_heads"))


def _heads(op, node, value, count):
    """Return (N, heads, places, size), also of (N, places, heads · size)."""
    if rank(node.Q) == 4:
        return value
    return op.Transpose(op.Reshape(value, [0, 0, node.attrs[count], -1]), perm=[0, 2, 1, 3])


def _like_input(op, node, value):
    """Undo `_heads`."""
    return value if rank(node.Q) == 4 else op.Reshape(op.Transpose(value, perm=[0, 2, 1, 3]), [0, 0, -1])


def _grouped(op, node, value):
    """Put the rows of the heads that share a head of K below one another: (N, heads of K, rows, size)."""
    heads = _counts(op, node)
    return value if heads is None else op.Reshape(value, concat(op, op.const([0]), heads[1], op.const([-1, 0])))


def _ungrouped(op, node, value):
    """Undo `_grouped`: (N, heads of Q, queries, size)."""
    heads = _counts(op, node)
    return value if heads is None else op.Reshape(value, concat(op, op.const([0]), heads[0], op.const([-1, 0])))


def _counts(op, node):
    """Return how many heads Q and K have, int64 (1,) each; None where each has surely its own."""
    Q, K = _queries(op, node), _heads(op, node, node.K, "kv_num_heads")
    return None if same_dim(dims(Q)[1], dims(K)[1]) else (op.dim(Q, 1), op.dim(K, 1))


def _with_past(op, past, new):
    return new if past is None else op.Concat(past, new, axis=2)


def _past(op, past, value):
    return op.Slice(value, [0], op.dim(past, 2), [2])


def _new(op, past, value):
    return value if past is None else op.Slice(value, op.dim(past, 2), [END], [2])


def _transposed(op, value):
    return op.Transpose(value, perm=[0, 1, 3, 2])
