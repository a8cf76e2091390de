"""Count how many of onnx's backend node tests have a gradient, and a right one.

    python tests/autodiff/coverage.py                     # every case, at the opset onnx wrote it at
    python tests/autodiff/coverage.py --opset 17          # those that mean the same at opset 17
    python tests/autodiff/coverage.py --operator Resize   # of one operator, each case with its verdict

M counts the cases that ONNX Runtime's CPU provider runs and in which a float output depends on a float
input through operators that are not all declared to have a zero derivative; functions expanded into
their nodes (`..._expanded`) count like the operators they define. A case passes if `vjp` differentiates
it, with respect to all such inputs at once, ONNX Runtime runs the gradient, and for each input the
gradient along a random direction is what finite differences say it is.

Where the case's own inputs lie on a kink, or differences do not settle for another reason, the inputs
are moved a little, at random but the same in each run; at last equal entries are moved alike. What is
declared zero is not counted, but held to its word: differences have to be zero as well. Inputs declared to
have no gradient, such as Resize's scales, are left where they are.
"""

import argparse
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.differences import Difference, Evaluator, directional, evaluators
from support.node_cases import (
    FloatPath,
    NodeCase,
    collect,
    float_path,
    is_float_array,
    runnable,
    session,
)

from onnxsal.autodiff import vjp
from onnxsal.errors import MissingRule

ATTEMPTS = 7
HUGE = 1e30
PASSED, FAILED, FLAT, NO_PATH, NOT_RUN = "passed", "failed", "declared zero", "no float path", "not run"


@dataclass(frozen=True)
class Verdict:
    """What became of a case: `kind` is one of the constants above, `reason` says more."""

    case: NodeCase
    kind: str
    reason: str = ""


def judge_all(opset: int | None = None, operator: str | None = None) -> Iterator[Verdict]:
    """Yield a verdict on each backend node test, of one operator if one is named."""
    for case in collect():
        if operator is None or case.uses(operator):
            yield judge(case, opset)


def judge(case: NodeCase, opset: int | None = None) -> Verdict:
    """Return the verdict on one case."""
    path = float_path(case)
    if not path.wrt and not path.flat:
        return Verdict(case, NO_PATH)
    found = runnable(case, opset)
    if isinstance(found, str):
        return Verdict(case, NOT_RUN, found)
    case, path = found, float_path(found)
    if not path.wrt:
        return _judge_flat(case, path)
    try:
        _compare(case, path)
    except Exception as error:  # whatever goes wrong is a verdict on this case, not on the others
        return Verdict(case, FAILED, _said(error))
    return Verdict(case, PASSED)


def _said(error: Exception) -> str:
    if isinstance(error, MissingRule):
        wanted = dict.fromkeys(re.findall(r"::(\w+), input '([^']+)'", str(error)))
        return "no rule for " + ", ".join(f"{op_type}'s {formal}" for op_type, formal in wanted)
    line = next(iter(str(error).strip().splitlines()), "")
    return line if isinstance(error, Mismatch) else f"{type(error).__name__}: {line}"


class Mismatch(Exception):
    """The gradient and the differences disagree, or there is nothing to compare with."""


# ----- The gradient against differences -----


def _compare(case: NodeCase, path: FloatPath) -> None:
    """Raise if the gradient cannot be had, or is not what differences say."""
    graph = ir.to_proto(vjp(case.model, of=path.of, wrt=path.wrt))
    onnx.checker.check_model(graph)
    gradient = session(graph)
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    if _is_random(case, path):
        return _compare_in_one_run(case, path, gradient, rng)
    for evaluator in evaluators(case.model, path.of, case.feeds):
        for feeds in _points(case, path, rng):
            if _agree(case, path, gradient, evaluator, feeds, rng):
                return None
        if _agree(case, path, gradient, evaluator, case.feeds, rng, tied=True):
            return None
    raise Mismatch("finite differences do not settle")


def _agree(case: NodeCase, path: FloatPath, gradient, evaluator: Evaluator, feeds, rng, *, tied=False) -> bool:
    """Tell whether gradient and differences agree at a point; False if there are no differences. Else raise.

    With `tied` equal entries move alike: what Unique returns has a derivative along such directions only.
    """
    outputs = session(case.model).run(path.of, case.feeds)
    cotangents = {n: _finite_normal(a, rng) for n, a in zip(path.of, outputs, strict=True)}
    grads = gradient.run([f"grad_{n}" for n in path.wrt], feeds | _seeds(gradient, cotangents))
    for name, g in zip(path.wrt, grads, strict=True):
        if g.shape != feeds[name].shape:
            raise Mismatch(f"grad_{name} has shape {g.shape}, {name} has {feeds[name].shape}")
        along = _finite_normal(feeds[name], rng)
        if not all(np.all(_finite(a)) for a in outputs):  # what makes an output no number may have no gradient
            along = np.where(_finite(g), along, 0)
        if tied:
            _, first, same = np.unique(feeds[name], return_index=True, return_inverse=True)
            along = along.ravel()[first][same].reshape(along.shape)
        numeric = directional(evaluator, feeds, {name: along}, cotangents)
        if numeric is None:
            return False
        _check(name, float(np.sum(np.where(along == 0, 0, g.astype(np.float64) * along))), numeric)
    return True


def _check(name: str, analytic: float, numeric: Difference) -> None:
    if not abs(analytic - numeric.value) <= numeric.error + 1e-6:
        raise Mismatch(f"with respect to {name} the gradient says {analytic:.6g}, differences {numeric.value:.6g}")


def _finite_normal(like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random numbers of a shape, zero where `like` is not finite."""
    return np.where(_finite(like), rng.standard_normal(like.shape), 0.0)


def _seeds(gradient, cotangents: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    types = {v.name: np.float64 if v.type == "tensor(double)" else np.float32 for v in gradient.get_inputs()}
    return {f"cotangent_{n}": v.astype(types[f"cotangent_{n}"]) for n, v in cotangents.items()}


def _points(case: NodeCase, path: FloatPath, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    """Yield the case's inputs, then such as are moved some hundredths off them to where the outputs exist as well."""
    forward = session(case.model)
    outputs = forward.run(path.of, case.feeds)
    yield case.feeds
    for attempt in range(1, ATTEMPTS):
        feeds = _moved(case, path.wrt, rng, attempt)
        try:
            moved = forward.run(path.of, feeds)
        except Exception:  # out of the operator's domain
            continue
        pairs = zip(outputs, moved, strict=True)
        if all(a.shape == b.shape and np.all(_finite(a) <= _finite(b)) for a, b in pairs):
            yield feeds


def _moved(case: NodeCase, names: list[str], rng: np.random.Generator, attempt: int) -> dict[str, np.ndarray]:
    """Return the inputs moved a little: up and down, or, each second time, up only."""
    moved = {}
    for name in names:
        x = case.feeds[name].astype(np.float64)
        size = 0.02 * attempt * (np.abs(x) + 0.1) * rng.uniform(0.3, 1, x.shape)
        sign = rng.choice([-1, 1], x.shape) if attempt % 2 else 1
        moved[name] = np.asarray(x + np.where(np.isfinite(x), sign * size, 0)).astype(case.feeds[name].dtype)
    return case.feeds | moved


def _finite(array: np.ndarray) -> np.ndarray:
    """Tell what is a number; attention writes the lowest of all where it means -inf."""
    with np.errstate(invalid="ignore"):
        return np.abs(array.astype(np.float64)) < HUGE


# ----- What is drawn at random, and what is declared zero -----


def _is_random(case: NodeCase, path: FloatPath) -> bool:
    forward = session(case.model)
    first, *others = (forward.run(path.of, case.feeds) for _ in range(3))  # the second repeats the first
    return not all(np.array_equal(a, b, equal_nan=True) for got in others for a, b in zip(first, got, strict=True))


def _compare_in_one_run(case: NodeCase, path: FloatPath, gradient, rng) -> None:
    """Check ⟨v, y⟩ = ⟨gradient, x⟩, which holds of Dropout: it is linear, given what it drew in this run."""
    outputs = session(case.model).run(path.of, case.feeds)
    cotangents = {n: _finite_normal(a, rng) for n, a in zip(path.of, outputs, strict=True)}
    names = [*path.of, *(f"grad_{n}" for n in path.wrt)]
    got = dict(zip(names, gradient.run(names, case.feeds | _seeds(gradient, cotangents)), strict=True))
    products = [v * got[n] for n, v in cotangents.items()]
    analytic = sum(float(np.sum(got[f"grad_{n}"] * case.feeds[n])) for n in path.wrt)
    value, scale = (float(sum(np.sum(f(p)) for p in products)) for f in (np.asarray, np.abs))
    _check(", ".join(path.wrt), analytic, Difference(value, 1e-4 * scale))


def _judge_flat(case: NodeCase, path: FloatPath) -> Verdict:
    """Hold operators that are declared zero to it: differences have to be zero at some point nearby."""
    outputs = [v.name for v in case.model.graph.output if is_float_array(case.expected[v.name])]
    if _is_random(case, FloatPath(path.flat, outputs, [])):
        return Verdict(case, FLAT, "random")
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    flat = FloatPath(path.flat, outputs, [])
    for evaluator in evaluators(case.model, outputs, case.feeds, flat=True):
        for feeds in _points(case, flat, rng):
            start = session(case.model).run(outputs, feeds)
            cotangents = {n: _finite_normal(a, rng) for n, a in zip(outputs, start, strict=True)}
            numeric = directional(evaluator, feeds, {n: _finite_normal(feeds[n], rng) for n in path.flat}, cotangents)
            if numeric is not None and abs(numeric.value) <= numeric.error:
                return Verdict(case, FLAT)
    return Verdict(case, FAILED, "declared to have a zero derivative, but differences are not zero")


# ----- The report -----


def report(verdicts: list[Verdict]) -> str:
    """Return `N of M`, what was not counted, each operator's count, and each remaining case with its reason."""
    counts = Counter(v.kind for v in verdicts)
    counted = [v for v in verdicts if v.kind in (PASSED, FAILED)]
    by_operator = {v.case.operator: [w for w in counted if w.case.operator == v.case.operator] for v in counted}
    whole = sum(all(v.kind == PASSED for v in some) for some in by_operator.values())
    share = counts[PASSED] / max(len(counted), 1)
    expanded = sum("_expanded" in v.case.name for v in counted)
    summary = (
        f"{counts[PASSED]} of {len(counted)} cases ({share:.1%}); {whole} of {len(by_operator)} operators whole; "
        f"{expanded} of the cases are functions expanded into their nodes\n"
        f"not counted: {counts[NO_PATH]} without a path of floats, {counts[NOT_RUN]} that ONNX Runtime does not run, "
        f"{counts[FLAT]} declared zero (and found so)"
    )
    lines = [
        summary,
        "",
        *(
            f"{name:<28} {sum(v.kind == PASSED for v in some):>4} of {len(some)}"
            for name, some in sorted(by_operator.items())
        ),
    ]
    remaining = [f"{v.case.name} ({v.case.operator}): {v.reason}" for v in counted if v.kind == FAILED]
    return "\n".join([*lines, "", "remaining:" if remaining else "none remains", *remaining])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opset", type=int, help="write this opset on every case; keep those that mean the same there")
    parser.add_argument("--operator", help="only cases about this operator, or with a node of it; print each verdict")
    options = parser.parse_args()
    verdicts = list(judge_all(options.opset, options.operator))
    if options.operator:
        print("\n".join(f"{v.kind:<13} {v.case.name} {v.reason}" for v in verdicts), "\n")
    print(report(verdicts))


if __name__ == "__main__":
    main()
