"""The rule for Det: the derivative by an entry is its cofactor, in singular matrices too."""

from onnxsal.autodiff.registry import vjp


@vjp("Det", wrt="X")
def det(op, node, g):
    """Take each cofactor as the determinant that is left when its row is replaced by that of the identity.

    There is no kernel that inverts a matrix, and a singular one, whose cofactors are finite, has no inverse.
    """
    X = node.X
    size = op.dim(X, -1)
    entries = op.Range(0, op.Squeeze(size, [0]), 1)
    one = op.cast(op.Equal(op.Unsqueeze(entries, [1]), entries), X.dtype)  # the identity
    row, column = op.Unsqueeze(one, [1, 3]), op.Unsqueeze(one, [0, 2])  # of the entry; then come those of the matrix
    kept = op.Sub(op.scalar(1, like=X), row)
    replaced = op.Add(op.Mul(op.Unsqueeze(X, [-4, -3]), kept), op.Mul(row, column))
    return op.Mul(op.Unsqueeze(g, [-2, -1]), op.Det(replaced))
