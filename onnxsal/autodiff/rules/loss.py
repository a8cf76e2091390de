"""Rules for NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

Where m, (N, C, d1...), says with 1 which class a place is of, both are the sum of -m * w * log_prob over the
classes, w being their weights; `mean` divides the sum of that over all places by the sum of their weights.
"""

from onnxsal.autodiff.registry import vjp
from onnxsal.graph.builder import rank


@vjp("NegativeLogLikelihoodLoss", wrt="input")
def log_likelihood(op, node, g):
    return _of_log_prob(op, node, g)


@vjp("NegativeLogLikelihoodLoss", wrt="weight")
def log_likelihood_weight(op, node, g):
    return _of_weight(op, node, g, node.input)


@vjp("SoftmaxCrossEntropyLoss", wrt="scores")
def cross_entropy(op, node, g):
    q = _of_log_prob(op, node, g)
    if node.g("log_prob") is not None:
        q = op.Add(q, node.g("log_prob"))
    probability = op.Exp(_log_prob(op, node))
    return op.Sub(q, op.Mul(probability, op.ReduceSum(q, axes=[1])))


@vjp("SoftmaxCrossEntropyLoss", wrt="weights")
def cross_entropy_weight(op, node, g):
    return _of_weight(op, node, g, _log_prob(op, node))


def _log_prob(op, node):
    return node.log_prob if node.has("log_prob") else op.LogSoftmax(node.scores, axis=1)


def _of_log_prob(op, node, g):
    """Return -m * w * g, over the sum of weights for a mean."""
    weights = _weights(op, node)
    if node.attrs["reduction"] == "mean":
        g = op.Div(g, op.ReduceSum(weights, keepdims=0))
    return op.Neg(op.Mul(weights, _per_place(op, node, g)))


def _of_weight(op, node, g, log_prob):
    """Return m * g * loss summed over all places, of a mean m * g * (loss - mean loss) / sum of weights."""
    classes = _classes(op, node, log_prob)
    loss = op.Neg(op.ReduceSum(op.Mul(classes, log_prob), axes=[1]))
    if node.attrs["reduction"] == "mean":
        loss = op.Sub(loss, node.outputs[0])
        g = op.Div(g, op.ReduceSum(_weights(op, node), keepdims=0))
    places = [axis for axis in range(rank(log_prob)) if axis != 1]
    return op.ReduceSum(op.Mul(classes, op.Mul(loss, _per_place(op, node, g))), axes=places, keepdims=0)


def _per_place(op, node, g):
    return op.Unsqueeze(g, [1]) if node.attrs["reduction"] == "none" else g


def _weights(op, node):
    """Return m * w."""
    scores, _, *weight = node.inputs
    classes = _classes(op, node, scores)
    if not weight or weight[0] is None:
        return classes
    return op.Mul(classes, op.Reshape(weight[0], [-1] + [1] * (rank(scores) - 2)))


def _classes(op, node, scores):
    """Return m, in the type of the scores: 1 at the class of each place, nowhere if it is `ignore_index`."""
    _, target, *_ = node.inputs
    ignored = node.attrs.get("ignore_index")
    if ignored is not None:
        target = op.Where(op.Equal(target, ignored), -1, target)
    numbers = op.Range(0, op.Squeeze(op.dim(scores, 1), [0]), 1)
    numbers = op.Reshape(op.cast(numbers, target.dtype), [-1] + [1] * (rank(scores) - 2))
    return op.cast(op.Equal(op.Unsqueeze(target, [1]), numbers), scores.dtype)
