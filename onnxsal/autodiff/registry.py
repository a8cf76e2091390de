"""Rule books: which rule emits the cotangent of which operator input.

An entry is in one of four states: a rule; declared zero; declared undefined; absent. The last two are
errors when a gradient has to pass, so silence never means zero.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    from onnxsal.autodiff.bodies import Whole
    from onnxsal.autodiff.node import NodeView
    from onnxsal.graph.builder import Op

Key = tuple[str, str, str]  # domain, operator, formal input
Cotangents = ir.Value | None | Sequence[ir.Value | None]
Rule = Callable[["Op", "NodeView", ir.Value], Cotangents]


def _zero(op: "Op", node: "NodeView", g: ir.Value) -> None:
    """Return no cotangent: the derivative is zero wherever it exists."""


ZERO: Rule = _zero


@dataclass(frozen=True)
class Undefined:
    """What stands in place of a rule where there is no gradient to give.

    Attributes:
        why: Said in the error, if a gradient has to pass.
    """

    why: str

    def __call__(self, op: "Op", node: "NodeView", g: ir.Value) -> None:
        """Fail: the walk looks first, and raises."""
        raise AssertionError(self.why)


class RuleBook:
    """A table `(domain, operator, formal input) → rule`, perhaps laid over another one.

    A rule is a function `(op, node, g)` that emits the cotangent of one input, given the cotangent `g`
    of the operator's output. For a variadic input it returns one cotangent per value; for an operator
    with a variadic output, `g` is a tuple with None where no cotangent arrives. Rules do not think of
    broadcasting, accumulation or pruning: the walk does.

    Attributes:
        name: What the gradients are called: `grad` under the standard book.
    """

    def __init__(self, name: str, under: "RuleBook | None" = None) -> None:
        """Start an empty book; what it does not have is looked up in `under`."""
        self.name = name
        self._under = under
        self._rules: dict[Key, Rule] = {}
        self._wholes: dict[tuple[str, str], Whole] = {}

    def overlay(self, name: str) -> "RuleBook":
        """Return an empty book laid over this one."""
        return RuleBook(name, under=self)

    def onto(self, ground: "RuleBook", old: "RuleBook") -> "RuleBook":
        """Return this book with `ground` in the place of `old`, which may lie under it."""
        if self is old:
            return ground
        if self._under is None:
            return self
        book = RuleBook(self.name, under=self._under.onto(ground, old))
        book._rules = self._rules
        return book

    def rule(self, op_type: str, *, wrt: str, domain: str = "") -> Callable[[Rule], Rule]:
        """Register the decorated function for one input of an operator.

        Raises:
            ValueError: The operator has no input of that name, or there is a rule already.
        """
        _check_formal(op_type, wrt, domain)

        def register(function: Rule) -> Rule:
            key = (domain, op_type, wrt)
            if key in self._rules:
                raise ValueError(f"the rule book {self.name!r} has a rule for input {wrt!r} of {op_type} already")
            self._rules[key] = function
            return function

        return register

    def zero(self, op_type: str, *wrt: str, domain: str = "") -> None:
        """Declare that an operator's inputs (all of them, unless named) get a zero cotangent."""
        for formal in wrt or [p.name for p in onnx.defs.get_schema(op_type, domain).inputs]:
            self.rule(op_type, wrt=formal, domain=domain)(ZERO)

    def undefined(self, op_type: str, *wrt: str, why: str, domain: str = "") -> None:
        """Declare that some of an operator's inputs have no gradient, which is not to say a zero one."""
        for formal in wrt:
            self.rule(op_type, wrt=formal, domain=domain)(Undefined(why))

    def lookup(self, domain: str, op_type: str, formal: str) -> Rule | None:
        """Return the rule for an operator's input, `ZERO`, an `Undefined`, or None where nothing is known."""
        domain = "" if domain == "ai.onnx" else domain
        rule = self._rules.get((domain, op_type, formal))
        if rule is None and self._under is not None:
            return self._under.lookup(domain, op_type, formal)
        return rule

    def declare_whole(self, op_type: str, whole: "Whole", *, domain: str = "") -> None:
        """Register one rule for all inputs of an operator that holds graphs, and for what these read around them."""
        self._wholes[domain, op_type] = whole

    def whole(self, domain: str, op_type: str) -> "Whole | None":
        """Return the rule for all inputs of an operator at once, or None where each input has its own."""
        domain = "" if domain == "ai.onnx" else domain
        whole = self._wholes.get((domain, op_type))
        if whole is None and self._under is not None:
            return self._under.whole(domain, op_type)
        return whole

    def operators(self) -> set[tuple[str, str]]:
        """Return the operators `(domain, op_type)` that this book or one under it says something of."""
        under = set() if self._under is None else self._under.operators()
        return self.overrides() | self.wholes() | under

    def formals(self, domain: str, op_type: str) -> list[str]:
        """Return the inputs of an operator that this book or one under it says something of."""
        own = [wrt for d, o, wrt in self._rules if (d, o) == (domain, op_type)]
        under = [] if self._under is None else self._under.formals(domain, op_type)
        return list(dict.fromkeys([*own, *under]))

    def wholes(self) -> set[tuple[str, str]]:
        """Return the operators `(domain, op_type)` whose inputs this book itself has one rule for."""
        return set(self._wholes)

    def overrides(self) -> set[tuple[str, str]]:
        """Return the operators `(domain, op_type)` that this book itself has rules for."""
        return {(domain, op_type) for domain, op_type, _ in self._rules}

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys of this book, without those of the one under it."""
        return iter(self._rules)


STANDARD = RuleBook("grad")
"""The true derivative."""

SCATTER_FREE = STANDARD.overlay("grad")
"""The true derivative in operators that browsers have; other rules scatter, and `graph/web.py` spells that out."""

vjp = STANDARD.rule
declare_zero = STANDARD.zero
declare_undefined = STANDARD.undefined


def _check_formal(op_type: str, wrt: str, domain: str) -> None:
    try:
        inputs = [p.name for p in onnx.defs.get_schema(op_type, domain).inputs]
    except onnx.defs.SchemaError:
        if domain:  # a custom operator has no schema; its inputs are what its rule calls them
            return
        raise ValueError(f"ai.onnx has no operator {op_type!r}") from None
    if wrt not in inputs:
        raise ValueError(f"{op_type} has no input {wrt!r}; its inputs are {inputs}")
