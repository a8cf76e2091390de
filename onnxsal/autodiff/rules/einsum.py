"""The rule for Einsum: an einsum again, with the equation permuted.

Of operands a, b and output y the cotangent of a is einsum(y, b -> a). Three things do not fit that: a
label of a that neither y nor b has (a was summed along it: repeat); a label twice in a (a diagonal was
read: put zeros beside it); and the ellipsis, which becomes ordinary labels first.
"""

from dataclasses import dataclass
from string import ascii_letters

from onnxsal.autodiff.broadcast import unbroadcast
from onnxsal.autodiff.registry import vjp
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims


@vjp("Einsum", wrt="Inputs")
def einsum(op, node, g):
    terms = parse(node.attrs["equation"], [rank(x) for x in node.inputs])
    return [_operand(op, node, g, terms, i) for i in range(len(node.inputs))]


@dataclass(frozen=True)
class Terms:
    """An equation as labels: one string per operand, and that of the output."""

    inputs: list[str]
    output: str

    def unused(self) -> list[str]:
        """Return letters that the equation does not use."""
        return [letter for letter in ascii_letters if letter not in "".join([*self.inputs, self.output])]


def parse(equation, ranks):
    """Read an equation into `Terms` without ellipses, for operands of these ranks."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = Terms(left.split(","), output)
    if not arrow:
        # Without an arrow: the ellipsis, then what occurs once, in alphabetical order.
        letters = left.replace(".", "").replace(",", "")
        output = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    # ONNX wants all ellipses of an equation to stand for as many axes.
    extent = max(
        (n - len(t.replace("...", "")) for t, n in zip(terms.inputs, ranks, strict=True) if "..." in t), default=0
    )
    shared = "".join(terms.unused()[:extent])
    inputs = [term.replace("...", shared) for term in terms.inputs]
    return Terms(inputs, output.replace("...", shared))


def _operand(op, node, g, terms, index):
    """Return the cotangent of operand `index`."""
    x, term = node.inputs[index], terms.inputs[index]
    others = [(t, v) for i, (t, v) in enumerate(zip(terms.inputs, node.inputs, strict=True)) if i != index]
    sources = [(terms.output, g), *others]
    once = "".join(dict.fromkeys(term))
    known = "".join(label for label in once if any(label in t for t, _ in sources))
    value = _contract(op, sources, known)
    absent = [axis for axis, label in enumerate(once) if label not in known]
    if absent:
        value = op.Unsqueeze(value, absent)
    value, labels, spelled = _on_diagonals(op, x, value, term, terms.unused())
    if labels != spelled:
        value = op.Transpose(value, perm=[labels.index(label) for label in spelled])
    if dims(value) != dims(x):
        # Along labels that only this operand has, and where another one was repeated to fit it.
        value = unbroadcast(op, op.Expand(value, op.shape(x)), x, "Expand")
    return value


def _contract(op, sources, result):
    """Multiply the sources and sum to the labels `result`."""
    scalars = [value for term, value in sources if not term]
    sources = [(term, value) for term, value in sources if term]
    if not sources:
        product = scalars.pop()
    elif [result] == [term for term, _ in sources]:
        product = sources[0][1]
    else:
        equation = ",".join(term for term, _ in sources) + "->" + result
        product = op.Einsum(*(value for _, value in sources), equation=equation)
    for value in scalars:
        product = op.Mul(product, value)
    return product


def _on_diagonals(op, x, value, term, spare):
    """Put a value, one axis per distinct label of `term`, on the diagonal where labels are repeated.

    Returns:
        The value, with one axis per letter of `term`; a letter per axis; `term` in these letters.
    """
    labels, spelled = "".join(dict.fromkeys(term)), list(term)
    for axis, label in enumerate(term):
        if label in term[:axis]:
            n, at = len(labels), labels.index(label)
            eye = op.Unsqueeze(_eye(op, x, axis), [a for a in range(n) if a != at])
            value = op.Mul(op.Unsqueeze(value, [n]), eye)
            spelled[axis] = spare[axis]
            labels += spare[axis]
    return value, labels, "".join(spelled)


def _eye(op, x, axis):
    """Return the identity matrix over an axis of x."""
    index = op.Range(0, op.Squeeze(op.dim(x, axis), [0]), 1)
    return op.cast(op.Equal(op.Unsqueeze(index, [0]), op.Unsqueeze(index, [1])), x.dtype)
