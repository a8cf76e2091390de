"""The coverage command: what it counts, and that a wrong rule does not pass."""

import pytest
from autodiff.coverage import FAILED, FLAT, PASSED, judge, report
from support.node_cases import collect

from onnxsal.autodiff import STANDARD

CASES = {case.name: case for case in collect()}


@pytest.mark.parametrize("name", ["test_relu", "test_relu_expanded_ver18", "test_einsum_inner_prod"])
def test_what_has_a_right_gradient_passes(name):
    assert judge(CASES[name]).kind == PASSED


def test_a_wrong_rule_fails(monkeypatch):
    monkeypatch.setitem(STANDARD._rules, ("", "Tanh", "input"), lambda op, node, g: op.Mul(g, 1.01))
    verdict = judge(CASES["test_tanh"])
    assert verdict.kind == FAILED
    assert "the gradient says" in verdict.reason


def test_an_absent_rule_fails_by_name(monkeypatch):
    monkeypatch.delitem(STANDARD._rules, ("", "Tanh", "input"))
    assert judge(CASES["test_tanh"]).reason == "no rule for Tanh's input"


def test_what_is_declared_zero_is_held_to_it(monkeypatch):
    assert judge(CASES["test_floor"]).kind == FLAT
    monkeypatch.setitem(STANDARD._rules, ("", "Tanh", "input"), STANDARD.lookup("", "Floor", "X"))
    assert judge(CASES["test_tanh"]).kind == FAILED


def test_an_opset_keeps_what_means_the_same_there():
    assert judge(CASES["test_relu"], opset=11).kind == PASSED
    # The axes of ReduceSum were an attribute up to opset 12.
    assert judge(CASES["test_reduce_sum_keepdims_random"], opset=11).kind == "not run"
    # Softmax flattened all axes behind its own up to opset 12, which shows where there are any.
    assert judge(CASES["test_softmax_axis_0"], opset=11).kind == "not run"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_nearly_all_cases_pass(part):
    verdicts = [judge(case) for case in collect()[part::4]]
    counted = [v for v in verdicts if v.kind in (PASSED, FAILED)]
    assert len(counted) > 100
    assert sum(v.kind == PASSED for v in counted) >= 0.97 * len(counted), report(verdicts)


def test_the_report_names_what_remains(monkeypatch):
    monkeypatch.delitem(STANDARD._rules, ("", "Tanh", "input"))
    said = report([judge(CASES[n]) for n in ("test_tanh", "test_relu", "test_floor")])
    assert said.startswith("1 of 2 cases (50.0%); 1 of 2 operators whole")
    assert said.endswith("test_tanh (Tanh): no rule for Tanh's input")
