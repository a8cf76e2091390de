"""Rules for MatMul and Gemm, products with the other operand transposed, and for Range."""

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.graph.builder import rank


@vjp("MatMul", wrt="A")
def matmul_a(op, node, g):
    A, B = node.A, node.B
    if rank(B) == 1:
        return op.Mul(op.Unsqueeze(g, [-1]), B)
    if rank(A) == 1:
        # (..., K, N) times (..., N, 1); the walk sums over the batch.
        return op.Squeeze(op.MatMul(B, op.Unsqueeze(g, [-1])), [-1])
    return op.MatMul(g, _transposed(op, B))


@vjp("MatMul", wrt="B")
def matmul_b(op, node, g):
    A, B = node.A, node.B
    if rank(A) == 1 and rank(B) == 1:
        return op.Mul(g, A)
    if rank(A) == 1:
        return op.Mul(op.Unsqueeze(A, [-1]), op.Unsqueeze(g, [-2]))
    if rank(B) == 1:
        return op.Squeeze(op.MatMul(_transposed(op, A), op.Unsqueeze(g, [-1])), [-1])
    if rank(B) == 2:
        return op.Gemm(_rows(op, A), _rows(op, g), transA=1)
    return op.MatMul(_transposed(op, A), g)


def _transposed(op, value):
    *batch, row, column = range(rank(value))
    return op.Transpose(value, perm=[*batch, column, row])


def _rows(op, value):
    """Return the last axis against all others, (rows, columns)."""
    return value if rank(value) == 2 else op.Flatten(value, axis=rank(value) - 1)


@vjp("Gemm", wrt="A")
def gemm_a(op, node, g):
    alpha, transB = node.attrs["alpha"], node.attrs["transB"]
    if node.attrs["transA"]:
        return op.Gemm(node.B, g, alpha=alpha, transA=transB, transB=1)
    return op.Gemm(g, node.B, alpha=alpha, transB=1 - transB)


@vjp("Gemm", wrt="B")
def gemm_b(op, node, g):
    alpha, transA = node.attrs["alpha"], node.attrs["transA"]
    if node.attrs["transB"]:
        return op.Gemm(g, node.A, alpha=alpha, transA=1, transB=transA)
    return op.Gemm(node.A, g, alpha=alpha, transA=1 - transA)


@vjp("Gemm", wrt="C")
def gemm_c(op, node, g):
    beta = node.attrs["beta"]
    return g if beta == 1 else op.Mul(g, beta)


@vjp("Range", wrt="start")
def range_start(op, node, g):
    return op.ReduceSum(g, keepdims=0)


@vjp("Range", wrt="delta")
def range_delta(op, node, g):
    steps = op.Range(0, op.Squeeze(op.dim(node.output, 0), [0]), 1)
    return op.ReduceSum(op.Mul(g, op.cast(steps, g.dtype)), keepdims=0)


declare_zero("Range", "limit")
