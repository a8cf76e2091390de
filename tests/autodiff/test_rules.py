"""Every rule meets finite differences, on the cases of every family in `cases/`."""

from importlib import import_module
from pathlib import Path

import pytest
from support.derivatives import Case, directional_derivatives, exercised_rules

from onnxsal.autodiff import STANDARD
from onnxsal.autodiff.registry import Undefined

FAMILIES = sorted(p.stem for p in (Path(__file__).parent / "cases").glob("*.py"))
CASES: list[Case] = [case for family in FAMILIES for case in import_module(f"autodiff.cases.{family}").CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vjp_agrees_with_finite_differences(case, rng):
    for runtime, (analytic, numeric) in directional_derivatives(case, rng).items():
        tolerance = case.rtol or (1e-6 if runtime == "reference" else 1e-4)
        assert analytic == pytest.approx(numeric, rel=tolerance, abs=tolerance / 100), runtime


def test_every_rule_has_a_case():
    exercised = set().union(*(exercised_rules(case) for case in CASES))
    ruled = {key for key in STANDARD if not isinstance(STANDARD.lookup(*key), Undefined)}
    assert sorted(ruled - exercised) == []


def test_every_case_exercises_a_rule_of_its_operator():
    idle = [str(case) for case in CASES if case.op_type not in {op for _, op, _ in exercised_rules(case)}]
    assert idle == []
