"""What has a gradient: the rule book as a list, by operator and opset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from onnxsal.autodiff.registry import STANDARD, ZERO, RuleBook, Undefined
from onnxsal.graph.canonical import EARLIEST_OPSET, LATEST_OPSET, OPSET
from onnxsal.graph.expansions import expandable

# What the conversion to canonical form writes in the place of operators that ONNX gave up.
REWRITTEN = {"Scatter": "ScatterElements", "Upsample": "Resize"}
BODIES = "what its bodies read"
FLOATS = frozenset({"tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)"})


@dataclass(frozen=True, order=True)
class Support:
    """What the gradient engine knows of one operator.

    Attributes:
        domain: Its domain; `ai.onnx` is ONNX's own.
        operator: Its name.
        opsets: The first and last opset of models in which gradients pass it; None where ONNX has no schema of it.
        since: The opsets of these at which the operator changed.
        rules: Formal names of the inputs with a rule.
        zero: Those declared to have a derivative of zero wherever there is one.
        undefined: Those that can be float and have neither, or are declared to have no gradient: one that has
            to pass them is an error.
        through: What it is differentiated as, where that is something else: an operator, or its expansion.
    """

    domain: str
    operator: str
    opsets: tuple[int, int] | None
    since: tuple[int, ...]
    rules: tuple[str, ...]
    zero: tuple[str, ...]
    undefined: tuple[str, ...]
    through: str = ""


def supported(rules: RuleBook = STANDARD) -> list[Support]:
    """Return one row per operator that has a rule, or is declared to have none, by domain and name.

    Operators that are not in the list have no gradient: one that has to pass them is a `MissingRule`.
    """
    rows = [_of_rules(rules, domain, op_type) for domain, op_type in sorted(rules.operators())]
    rows += [_rewritten(rules, old, new) for old, new in REWRITTEN.items()]
    listed = {(row.domain, row.operator) for row in rows}
    rows += [row for row in _expanded() if (row.domain, row.operator) not in listed]
    return sorted(rows)


def _of_rules(rules: RuleBook, domain: str, op_type: str) -> Support:
    # Quantised values are integers, and have gradients too.
    formals = list(dict.fromkeys([*_float_formals(domain, op_type), *rules.formals(domain, op_type)]))
    found = {formal: rules.lookup(domain, op_type, formal) for formal in formals}
    undefined = [f for f, rule in found.items() if rule is None or isinstance(rule, Undefined)]
    if rules.whole(domain, op_type) is not None:
        return _row(domain, op_type, rules=[*formals, BODIES])
    return _row(
        domain,
        op_type,
        rules=[f for f, rule in found.items() if f not in undefined and rule is not ZERO],
        zero=[f for f, rule in found.items() if rule is ZERO],
        undefined=undefined,
    )


def _rewritten(rules: RuleBook, old: str, new: str) -> Support:
    there = _of_rules(rules, "", new)
    return _row("", old, rules=there.rules, zero=there.zero, undefined=there.undefined, through=new)


def _expanded() -> Iterator[Support]:
    for domain, op_type in expandable():
        yield _row(domain, op_type, through="its expansion")


def _row(
    domain: str,
    op_type: str,
    *,
    rules: Sequence[str] = (),
    zero: Sequence[str] = (),
    undefined: Sequence[str] = (),
    through: str = "",
) -> Support:
    since, last = _versions(op_type) if not domain else ((), 0)
    opsets = (since[0], last) if since else None
    inputs = tuple(rules), tuple(zero), tuple(undefined)
    return Support(domain or "ai.onnx", op_type, opsets, since, *inputs, through=through)


def _versions(op_type: str) -> tuple[tuple[int, ...], int]:
    """Return the opsets at which an operator of ai.onnx is new or changed, and the last that has it."""
    schemas = {v: s for v in range(EARLIEST_OPSET, LATEST_OPSET + 1) if (s := _schema("", op_type, v)) is not None}
    # ONNX Runtime has operators in ONNX's name that ONNX does not have.
    last = max((v for v, schema in schemas.items() if not schema.deprecated), default=0)
    return tuple(sorted({max(s.since_version, EARLIEST_OPSET) for v, s in schemas.items() if v <= last})), last


def _float_formals(domain: str, op_type: str) -> Iterator[str]:
    """Yield the inputs that can be float; none where the operator has no schema."""
    versions = (OPSET, LATEST_OPSET) if not domain else (1,)  # that of canonical form, or a later one if it is new
    schema = next((s for v in versions if (s := _schema(domain, op_type, v)) is not None), None)
    if schema is None:
        return
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    for formal in schema.inputs:
        if FLOATS & set(allowed.get(formal.type_str, [formal.type_str])):
            yield formal.name


def _schema(domain: str, op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
