"""What has a rule and what has not: as lists, as an error, and how an operator from outside gets one."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxsal.autodiff import STANDARD, Unsupported, supported, unsupported, vjp
from onnxsal.errors import MissingRule
from onnxsal.graph.canonical import canonicalise

ROWS = {(row.domain, row.operator): row for row in supported()}
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def parsed(text: str, typed: Sequence[str] = ()) -> onnx.ModelProto:
    """Parse a model with operators of a domain `custom`, some of whose values are said to be float vectors."""
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "custom" : 1, "local" : 1, "com.acme" : 1]> {text}'
    )
    model.graph.value_info.extend(onnx.helper.make_tensor_value_info(name, 1, ["n"]) for name in typed)
    return model


# ----- The list of rules -----


def test_every_rule_is_listed_once_under_its_operator():
    listed = [
        ("" if row.domain == "ai.onnx" else row.domain, row.operator, formal)
        for row in supported()
        if not row.through
        for formal in (*row.rules, *row.zero, *row.undefined)
    ]
    assert len(listed) == len(set(listed))
    assert set(STANDARD) <= set(listed)


@pytest.mark.parametrize(
    ("operator", "opsets", "since", "through"),
    [
        ("Conv", (7, 28), (7, 11, 22), ""),
        ("GroupNormalization", (18, 28), (18, 21), ""),
        ("Upsample", (7, 9), (7, 9), "Resize"),
        ("Scatter", (9, 10), (9,), "ScatterElements"),
    ],
)
def test_opsets_are_those_that_have_the_operator(operator, opsets, since, through):
    row = ROWS["ai.onnx", operator]
    assert (row.opsets, row.since, row.through) == (opsets, since, through)


def test_inputs_are_parted_by_what_is_known_of_them():
    assert ROWS["ai.onnx", "Where"].rules == ("X", "Y")
    assert ROWS["ai.onnx", "Floor"].zero == ("X",)
    resize = ROWS["ai.onnx", "Resize"]
    assert (resize.rules, resize.undefined) == (("X",), ("roi", "scales"))
    assert "what its bodies read" in ROWS["ai.onnx", "Loop"].rules
    assert ROWS["com.microsoft", "QLinearAdd"].through == "its expansion"


def test_book_laid_over_another_lists_what_it_adds():
    book = STANDARD.overlay("guided")
    vjp("Twice", wrt="0", domain="custom", rules=book)(lambda op, node, g: op.Add(g, g))
    rows = {(row.domain, row.operator): row for row in supported(book)}
    assert rows["custom", "Twice"].rules == ("0",)
    assert rows["custom", "Twice"].opsets is None
    assert rows.keys() - ROWS.keys() == {("custom", "Twice")}


# ----- What a model has without a rule -----

MIXED = """
    agraph (float[n] x, float[n] z, bool c) => (float[n] y, float[n] aside) {
      a = custom.First(x)
      k = If (c) <then_branch = yes () => (float[n] p) { p = custom.Second(a) },
                  else_branch = no () => (float[n] q) { q = Neg(a) }>
      h = local.composed(k)
      y = custom.First(h)
      o = custom.Off(z)
      aside = custom.First(o)
    }
    <domain: "local", opset_import: ["" : 21, "custom" : 1]>
    composed (u) => (w) { v = Mul(u, u)  w = custom.Within(v) }
"""


def mixed() -> onnx.ModelProto:
    model = parsed(MIXED, ["a", "h", "o"])
    for node, name in zip(model.graph.node, ("block/first", "choice", "function", "last", "off", "far"), strict=True):
        node.name = name
    return model


def test_operators_without_a_rule_are_told_apart_by_the_path():
    model = canonicalise(ir.from_proto(mixed()))
    found = unsupported(model, of=["y"], wrt=["x"])
    assert [(row.operator, len(row.nodes), row.on_path) for row in found] == [
        ("custom::First", 2, True),
        ("custom::Second", 1, True),
        ("custom::Within", 1, True),
        ("custom::Off", 1, False),
        ("custom::First", 1, False),
    ]
    assert found[0].nodes == ("block/first", "last")
    assert unsupported(model, of=["aside"], wrt=["z"])[0] == Unsupported("custom::Off", ("off",), on_path=True)


def test_model_whose_operators_all_have_rules_has_none_without():
    text = "agraph (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[4] s={1,1,2,2}> { a = Relu(x)  y = Resize(a, , s) }"
    assert unsupported(canonicalise(ir.from_proto(parsed(text))), of=["y"], wrt=["x"]) == []


def test_one_error_lists_every_node_on_the_path_also_those_in_functions_and_branches():
    with pytest.raises(MissingRule) as error:
        vjp(mixed(), of="y", wrt="x")
    message = str(error.value)
    assert message.startswith("no vjp rule for 4 input(s) on the way from 'x' to 'y': custom::First, input '0', node ")
    assert "custom::Second, input '0', node 'p' in the then_branch of If 'choice'" in message
    assert "custom::Within, input '0'" in message
    assert message.count("custom::First") == 2
    assert "custom::Off" not in message
    assert message.endswith("explain a layer after 'y', or see CONTRIBUTING, 'Add a rule'")
    assert "\n" not in message


# ----- A rule from outside -----


class GatedProduct(OpRun):
    """The operator of CONTRIBUTING, for the reference evaluator."""

    op_domain = "com.acme"

    def _run(self, a, b, mask, alpha=None):
        return (np.asarray(a * b * mask * (1.0 if alpha is None else alpha), a.dtype),)


@pytest.fixture
def _contributed(monkeypatch):
    """Do what CONTRIBUTING says about an operator of another domain, and forget it afterwards."""
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.S)
    (block,) = [b for b in blocks if "GatedProduct" in b]
    monkeypatch.setattr(STANDARD, "_rules", dict(STANDARD._rules))
    exec(compile(block, "CONTRIBUTING.md", "exec"), {})


@pytest.mark.usefixtures("_contributed")
@pytest.mark.parametrize(("attributes", "alpha"), [("", 1), ("<alpha=2.5>", 2.5)])
def test_custom_operator_is_differentiated_as_contributing_says(attributes, alpha, rng):
    text = (
        "agraph (float[n] x, float[n] z, float[n] m) => (float[n] y) "
        f"{{ k = Exp(m)  a = com.acme.GatedProduct{attributes}(x, z, k)  y = Mul(a, x) }}"
    )
    names = ["x", "z", "m"]
    graph = ir.to_proto(vjp(parsed(text, ["a"]), of="y", wrt=names))
    x, z, m, v = (rng.standard_normal(4).astype(np.float32) for _ in range(4))
    feeds = {"x": x, "z": z, "m": m, "cotangent_y": v}
    found = ReferenceEvaluator(graph, new_ops=[GatedProduct]).run([f"grad_{name}" for name in names], feeds)
    for array, expected in zip(
        found, (2 * alpha * x * z * np.exp(m) * v, alpha * x * x * np.exp(m) * v, 0 * m), strict=True
    ):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("_contributed")
def test_contributed_operator_is_listed():
    rows = {(row.domain, row.operator): row for row in supported()}
    row = rows["com.acme", "GatedProduct"]
    assert (row.rules, row.zero) == (("0", "1"), ("2",))


def test_second_rule_for_one_input_is_refused():
    with pytest.raises(ValueError, match="has a rule for input 'X' of Relu already"):
        vjp("Relu", wrt="X")(lambda op, node, g: g)


def test_path_in_the_place_of_a_model_is_told_what_it_was_taken_for():
    with pytest.raises(TypeError, match="names an operator, .* to differentiate a model, load it first"):
        vjp("model.onnx", of="y", wrt="x")
