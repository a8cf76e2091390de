"""Operators without a rule: one error that lists them all, the way to each, and rules laid over the standard ones."""

import onnx
import onnx_ir as ir
import pytest

from onnxsal.autodiff import STANDARD, vjp
from onnxsal.errors import MissingRule, UnsupportedModel


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21, "custom" : 1]> agraph {text}')


def test_missing_rules_are_one_error_that_lists_them_all():
    text = (
        "(float[n,3] x) => (float[n,3] y, float[n,3] aside) "
        "{ a = custom.First(x)  b = Mul(a, x)  y = custom.Second(b)  aside = custom.Third(x) }"
    )
    source = model(text)
    source.graph.node[0].name, source.graph.node[2].name = "block/first", "block/second"
    for node in source.graph.node[::2]:
        source.graph.value_info.append(onnx.helper.make_tensor_value_info(node.output[0], 1, ["n", 3]))
    with pytest.raises(MissingRule) as error:
        vjp(source, of="y", wrt="x")
    assert str(error.value) == (
        "no vjp rule for 2 input(s) on the way from 'x' to 'y': "
        "custom::First, input '0', node 'block/first'; custom::Second, input '0', node 'block/second'; "
        "explain a layer after 'y', or see CONTRIBUTING, 'Add a rule'"
    )


def test_rule_that_is_missing_off_the_path_is_no_error():
    text = "(float[3] x, float[3] z) => (float[3] y) { a = custom.First(z)  y = Mul(x, a) }"
    source = model(text)
    assert [v.name for v in vjp(source, of="y", wrt="x").graph.outputs] == ["y", "grad_x"]


def test_rule_that_needs_to_know_the_number_of_axes_says_so():
    text = "(float[n] x, int64[p] s, int64[m] i) => (float[k] y) { a = Reshape(x, s)  y = Gather<axis=-1>(a, i) }"
    with pytest.raises(UnsupportedModel, match="the number of axes of 'a' is not known before the run"):
        vjp(model(text), of="y", wrt="x")


def test_rule_for_a_custom_operator_can_be_laid_over_the_standard_book():
    book = STANDARD.overlay("grad")

    @book.rule("Twice", wrt="0", domain="custom")
    def twice(op, node, g):
        return op.Add(g, g)

    text = "(float[3] x) => (float[3] y) { y = custom.Twice(x) }"
    proto = ir.to_proto(vjp(model(text), of="y", wrt="x", rules=book))
    assert [n.op_type for n in proto.graph.node] == ["Twice", "Add", "Identity"]


def test_missing_rules_within_bodies_are_listed_with_the_way_to_them():
    text = (
        "(float[2] x, bool c) => (float[2] y) { h = custom.First(x) "
        "z = If (c) <then_branch = yes () => (float[2] a) { a = custom.Second(h) }, "
        "else_branch = no () => (float[2] b) { b = If (c) <"
        "then_branch = maybe () => (float[2] d) { d = custom.Third(x) }, "
        "else_branch = never () => (float[2] e) { e = Neg(h) }> }>  y = Neg(z) }"
    )
    with pytest.raises(MissingRule) as error:
        vjp(model(text), of="y", wrt="x")
    assert str(error.value) == (
        "no vjp rule for 3 input(s) on the way from 'x' to 'y': custom::First, input '0', node 'h'; "
        "custom::Second, input '0', node 'a' in the then_branch of If 'z'; "
        "custom::Third, input '0', node 'd' in the then_branch of If 'b' in the else_branch of If 'z'; "
        "explain a layer after 'z', or see CONTRIBUTING, 'Add a rule'"
    )


def test_custom_operator_whose_graph_reads_an_active_value_is_named():
    text = (
        "(float[2] x, bool c) => (float[2] y) "
        "{ y = custom.Maybe (c) <branch = yes () => (float[2] a) { a = Mul(x, x) }> }"
    )
    source = model(text)
    with pytest.raises(MissingRule, match=r"custom::Maybe, input 'a value its subgraph reads', node 'y'"):
        vjp(source, of="y", wrt="x")
