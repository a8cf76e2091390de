"""Rules for arithmetic, one element at a time."""

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.autodiff.rules.quantise import in_steps

# ----- Two operands -----


@vjp("Add", wrt="A")
@vjp("Add", wrt="B")
@vjp("Sub", wrt="A")
@vjp("Mod", wrt="A")
@vjp("Identity", wrt="input")
def passed_on(op, node, g):
    return g


@vjp("Sub", wrt="B")
@vjp("Neg", wrt="X")
def negated(op, node, g):
    return op.Neg(g)


@vjp("Mul", wrt="A")
def mul_a(op, node, g):
    return op.Mul(g, node.B)


@vjp("Mul", wrt="B")
def mul_b(op, node, g):
    return op.Mul(g, node.A)


@vjp("Div", wrt="A")
def div_a(op, node, g):
    return op.Div(g, node.B)


@vjp("Div", wrt="B")
def div_b(op, node, g):
    return op.Neg(op.Div(op.Mul(g, node.C), node.B))


@vjp("Mod", wrt="B")
def mod_b(op, node, g):
    # C = A - n * B, with the quotient n truncated or, from opset 28 on and without fmod, rounded down.
    quotient = op.Round(op.Div(op.Sub(node.A, node.C), node.B))
    return op.Neg(op.Mul(g, quotient))


@vjp("Pow", wrt="X")
def pow_base(op, node, g):
    X, exponent = node.X, node.const("Y")
    if exponent is not None and exponent.size == 1:
        return _pow_constant(op, node, g, float(exponent.item()))
    Y = op.cast(node.Y, X.dtype)
    slope = op.Mul(Y, op.Pow(X, op.Sub(Y, 1.0)))
    # x^0 is 1 everywhere, also at 0, where the formula says 0 * inf.
    return op.Mul(g, op.Where(op.Equal(Y, 0.0), 0.0, slope))


def _pow_constant(op, node, g, p):
    X = node.X
    if p == 0:
        return op.Mul(g, 0.0)
    if p == 1:
        return g
    if p == 0.5:
        return op.Div(op.Mul(g, 0.5), node.Z)
    if p == -1:
        return op.Neg(op.Mul(g, op.Mul(node.Z, node.Z)))
    lowered = {2.0: X, 3.0: op.Mul(X, X)}.get(p) or op.Pow(X, op.scalar(p - 1, like=X))
    return op.Mul(g, op.Mul(lowered, p))


@vjp("Pow", wrt="Y")
def pow_exponent(op, node, g):
    X, Y = node.X, node.Y
    # 0^y is 0 for every y > 0, where the formula says 0 * log(0); at y = 0 as PyTorch has it.
    flat = op.And(op.Equal(X, 0.0), op.Not(op.Less(Y, 0.0)))
    slope = op.Where(flat, 0.0, op.Mul(node.Z, op.Log(X)))
    return op.cast(op.Mul(g, slope), Y.dtype)


# ----- Many operands -----


@vjp("Sum", wrt="data_0")
def sum_(op, node, g):
    return [g for _ in node.inputs]


@vjp("Mean", wrt="data_0")
def mean(op, node, g):
    share = op.Div(g, float(len(node.inputs)))
    return [share for _ in node.inputs]


@vjp("Max", wrt="data_0")
def max_(op, node, g):
    return _extremum(op, node, g, node.max)


@vjp("Min", wrt="data_0")
def min_(op, node, g):
    return _extremum(op, node, g, node.min)


def _extremum(op, node, g, Y):
    """Give g to the operand that won; operands that tie share it evenly, as torch.maximum has it."""
    if len(node.inputs) == 1:
        return [g]
    masks = [op.cast(op.Equal(x, Y), g.dtype) for x in node.inputs]
    share = op.Div(g, op.Sum(*masks))
    return [op.Mul(share, mask) for mask in masks]


@vjp("Where", wrt="X")
def where_x(op, node, g):
    return op.Where(node.condition, g, 0.0)


@vjp("Where", wrt="Y")
def where_y(op, node, g):
    return op.Where(node.condition, 0.0, g)


# ----- Types and regularisation -----


@vjp("Cast", wrt="input")
@vjp("CastLike", wrt="input")
def cast(op, node, g):
    """Pass g on; where integers that stand for real numbers are read as what they are, in steps of these."""
    g = op.cast(g, node.gradient_type("input"))
    return g if node.quantisation("output") else in_steps(op, node, g, "input")


declare_zero("CastLike", "target_type")


@vjp("Dropout", wrt="data")
def dropout(op, node, g):
    """Pass g on; where the model asks for training mode, what survived, scaled up as in the forward pass."""
    training = node.const("training_mode")
    if not node.has("training_mode") or (training is not None and not training.item()):
        return g
    ratio = 0.5 if node.ratio is None else op.cast(node.ratio, g.dtype)
    kept = node.mask if node.has("mask") else op.Not(op.Equal(node.output, 0.0))
    trained = op.Where(kept, op.Div(g, op.Sub(op.scalar(1, like=g), ratio)), 0.0)
    return op.Where(node.training_mode, trained, g)


declare_zero("Dropout", "ratio")
