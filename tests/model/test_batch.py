"""A model that was exported for one sample takes several, or none is made."""

import numpy as np
import onnx_ir as ir
import pytest
from numpy.testing import assert_array_equal
from support.follow import canonical, run

from onnxsal.model.batch import make_batch_dynamic, rows_agree

ROWS = 3


def agree(text: str, rng: np.random.Generator, **settings) -> bool:
    """Make the model of `text` dynamic and compare it with itself, sample by sample."""
    model = canonical(text, **settings)
    batched = make_batch_dynamic(model)
    assert batched is not None, "the samples could not be followed"
    inputs = [v for v in model.graph.inputs if v.const_value is None]
    shape = [d if isinstance(d, int) else 8 for d in inputs[0].shape]
    x = rng.standard_normal([ROWS, *shape[1:]]).astype(np.float32)
    name = inputs[0].name
    return rows_agree(lambda rows: run(batched, {name: rows}), lambda row: run(model, {name: row}), x, rtol=1e-5)


def network(nodes: str, output: str = "1,5", constants: str = "") -> str:
    """Return a model of patches c (1, 4, 2, 2) of an image, and the nodes behind."""
    return f"""(float[1,3,8,8] x) => (float[{output}] y)
    <float[4,3,4,4] w, float[16,5] head, float[4,5] small, float[4,4] p, float[1,1,4] cls, int64[1] one = {{1}},
     int64[2] hw = {{2,3}}, int64 first = {{0}}, int64[1] front = {{0}} {constants}> {{
       c = Conv<strides=[4,4]>(x, w) {nodes} }}"""


TOKENS = "a = Reshape(c, flat) t = Transpose<perm=[0,2,1]>(a)"
FLAT = ", int64[3] flat = {1,4,4}"


FITTING = {
    "Reshape": ("f = Reshape(c, s) y = MatMul(f, head)", ", int64[2] s = {1,16}"),
    "Reshape with -1": ("f = Reshape(c, s) y = MatMul(f, head)", ", int64[2] s = {1,-1}"),
    "Reshape of dynamo": ("f = Reshape<allowzero=1>(c, s) y = MatMul(f, head)", ", int64[2] s = {1,16}"),
    "Reshape of dynamo with -1": ("f = Reshape<allowzero=1>(c, s) y = MatMul(f, head)", ", int64[2] s = {1,-1}"),
    "Reshape that is right": ("f = Reshape(c, s) y = MatMul(f, head)", ", int64[2] s = {-1,16}"),
    "Reshape that copies": ("f = Reshape(c, s) y = MatMul(f, head)", ", int64[2] s = {0,-1}"),
    "Flatten": ("f = Flatten(c) y = MatMul(f, head)", ""),
    "rows of tokens": (
        f"""{TOKENS} r = Reshape(t, rows) d = MatMul(r, small) e = Reshape(d, back)
        y = ReduceMean<keepdims=0>(e, one)""",
        FLAT + ", int64[2] rows = {4,4}, int64[3] back = {1,4,5}",
    ),
    "a shape that is computed": (
        """q = Shape(x) n = Gather<axis=0>(q, first) n1 = Unsqueeze(n, front) s = Concat<axis=0>(n1, rest)
        f = Reshape(c, s) y = MatMul(f, head)""",
        ", int64[1] rest = {-1}",
    ),
    "class token": (
        f"{TOKENS} k = Concat<axis=1>(cls, t) m = ReduceMean<keepdims=0>(k, one) y = MatMul(m, small)",
        FLAT,
    ),
    "tokens first, seen as rows": (
        f"""{TOKENS} u = Transpose<perm=[1,0,2]>(t) r = Reshape(u, rows) d = MatMul(r, p) e = Reshape(d, back)
        m = ReduceMean<keepdims=0>(e, front) y = MatMul(m, small)""",
        FLAT + ", int64[2] rows = {4,4}, int64[3] back = {4,1,4}",
    ),
    "tokens first, heads beside samples": (
        f"""{TOKENS} u = Transpose<perm=[1,0,2]>(t) r = Reshape(u, heads) d = Transpose<perm=[1,0,2]>(r)
        e = Reshape(d, back) g = Transpose<perm=[0,2,1,3]>(e) h = Reshape(g, whole)
        m = ReduceMean<keepdims=0>(h, one) y = MatMul(m, small)""",
        FLAT + ", int64[3] heads = {4,2,2}, int64[4] back = {1,2,4,2}, int64[3] whole = {1,4,4}",
    ),
    "Resize to a size": (
        'b = Resize<mode="linear">(c, , , sizes) g = GlobalAveragePool(b) f = Flatten(g) y = MatMul(f, small)',
        ", int64[4] sizes = {1,4,6,6}",
    ),
    "Resize by a scale": (
        'b = Resize<mode="linear">(c, , scales) g = GlobalAveragePool(b) f = Flatten(g) y = MatMul(f, small)',
        ", float[4] scales = {1.0,1.0,3.0,3.0}",
    ),
    "windows within the samples, expanded": (
        """a = Reshape(c, cut) b = Transpose<perm=[0,2,1]>(a) u = Reshape(b, windows) n = ReduceL2<keepdims=1>(u, two)
        e = Expand(n, wide) d = Div(u, e) f = Reshape(d, row) y = MatMul(f, head)""",
        """, int64[3] cut = {1,4,4}, int64[3] windows = {2,2,4}, int64[3] wide = {2,2,4}, int64[2] row = {1,16},
        int64[1] two = {2}""",
    ),
    "Slice of one sample": (
        "s = Slice(c, front, end, front) f = Flatten(s) y = MatMul(f, head)",
        ", int64[1] end = {1}",
    ),
    "Slice of all samples": (
        "s = Slice(c, front, end, front) f = Flatten(s) y = MatMul(f, head)",
        ", int64[1] end = {9}",
    ),
    "a bias of one sample": ("d = Add(c, bias) f = Flatten(d) y = MatMul(f, head)", ", float[1,4,2,2] bias"),
}


@pytest.mark.parametrize(("nodes", "constants"), FITTING.values(), ids=FITTING)
def test_each_sample_gets_what_it_gets_alone(nodes, constants, rng):
    assert agree(network(nodes, constants=constants), rng)


@pytest.mark.parametrize(
    "nodes",
    [
        "k = Concat<axis=0>(c, other) n = ReduceMean<keepdims=1>(k, front) f = Flatten(n) y = MatMul(f, head)",
        "n = Gather<axis=0>(c, first) u = Unsqueeze(n, front) f = Flatten(u) y = MatMul(f, head)",
        "n = Squeeze(c, front) u = Unsqueeze(n, front) f = Flatten(u) y = MatMul(f, head)",
        "d = GatherND(c, at) f = Reshape(d, row) y = MatMul(f, head)",
        "n = ReduceMean<keepdims=1>(c, front) f = Flatten(n) y = MatMul(f, head)",
        "f = Flatten(c) z = MatMul(f, head) y = Transpose<perm=[1,0]>(z)",
        "d = com.example.Mystery(c) f = Flatten(d) y = MatMul(f, head)",
    ],
    ids=[
        "joined along the samples",
        "the first sample",
        "no axis of samples",
        "addressed by number",
        "mean of samples",
        "samples last",
        "unknown operator",
    ],
)
def test_nothing_is_made_where_samples_cannot_be_followed(nodes):
    constants = ", float[1,4,2,2] other, int64[1,1] at = {0}, int64[2] row = {1,16}"
    output = "5,1" if "[1,0]" in nodes else "1,5"
    assert make_batch_dynamic(canonical(network(nodes, output, constants), domains=', "com.example" : 1')) is None


def test_inputs_and_outputs_say_that_the_batch_is_open(rng):
    model = canonical(network("f = Flatten(c) y = MatMul(f, head)"))
    batched = make_batch_dynamic(model)
    assert [str(d) for d in batched.graph.inputs[0].shape] == ["batch", "3", "8", "8"]
    assert [str(d) for d in batched.graph.outputs[0].shape] == ["batch", "5"]
    assert [str(d) for d in model.graph.inputs[0].shape] == ["1", "3", "8", "8"]  # the original is left alone
    assert all(v.shape is not None for node in batched.graph for v in node.outputs)
    x = rng.standard_normal((5, 3, 8, 8)).astype(np.float32)
    assert run(batched, {"x": x})[0].shape == (5, 5)


def test_weights_are_shared():
    model = canonical(network("f = Flatten(c) y = MatMul(f, head)"))
    batched = make_batch_dynamic(model)
    assert_array_equal(
        batched.graph.initializers["w"].const_value.numpy(), model.graph.initializers["w"].const_value.numpy()
    )


def test_a_model_whose_batch_is_open_or_another_is_left_alone():
    for batch in ("N", "4"):
        text = network("f = Flatten(c) y = MatMul(f, head)").replace("[1,3,8,8]", f"[{batch},3,8,8]")
        assert make_batch_dynamic(canonical(text.replace("float[1,5] y", f"float[{batch},5] y"))) is None


def test_an_open_image_size_stays_open(rng):
    text = network("g = GlobalAveragePool(c) f = Reshape(g, s) y = MatMul(f, small)", constants=", int64[2] s = {1,-1}")
    text = text.replace("[1,3,8,8]", "[1,3,H,W]")
    assert agree(text, rng)
    batched = make_batch_dynamic(canonical(text))
    assert [str(d) for d in batched.graph.inputs[0].shape] == ["batch", "3", "H", "W"]


def test_a_model_of_ir_3_can_be_made_dynamic(rng):
    model = canonical(network("f = Reshape(c, s) y = MatMul(f, head)", constants=", int64[2] s = {1,16}"), ir_version=3)
    for value in model.graph.initializers.values():
        model.graph.inputs.append(value)
    batched = make_batch_dynamic(model)
    assert batched.ir_version >= 4
    x = rng.standard_normal((ROWS, 3, 8, 8)).astype(np.float32)
    assert run(batched, {"x": x})[0].shape == (ROWS, 5)


# ----- The proof -----


def test_rows_that_are_mixed_up_are_seen(rng):
    x = rng.standard_normal((ROWS, 4)).astype(np.float32)
    assert rows_agree(lambda rows: [rows * 2], lambda row: [row * 2], x, rtol=1e-6)
    assert not rows_agree(lambda rows: [rows[::-1] * 2], lambda row: [row * 2], x, rtol=1e-6)
    assert not rows_agree(lambda rows: [rows - rows.mean(0)], lambda row: [row - row.mean(0)], x, rtol=1e-6)


def test_outputs_that_do_not_grow_with_the_batch_are_seen(rng):
    x = rng.standard_normal((ROWS, 4)).astype(np.float32)
    assert not rows_agree(lambda rows: [rows[:1]], lambda row: [row], x, rtol=1e-6)
    assert not rows_agree(lambda rows: [rows], lambda row: [row[:, :2]], x, rtol=1e-6)


def test_a_difference_is_judged_by_the_largest_number(rng):
    x = rng.standard_normal((ROWS, 4)).astype(np.float32)
    noise = np.float32(1e-4) * np.abs(x).max()
    assert rows_agree(lambda rows: [rows + noise * 0.5], lambda row: [row], x, rtol=1e-3)
    assert not rows_agree(lambda rows: [rows + noise * 100], lambda row: [row], x, rtol=1e-3)


def test_quantised_outputs_and_numbers_that_are_none_compare(rng):
    x = rng.integers(0, 200, (ROWS, 4)).astype(np.uint8)
    assert rows_agree(
        lambda rows: [rows, np.full(rows.shape, np.nan)], lambda row: [row, np.full(row.shape, np.nan)], x, rtol=1e-3
    )
    assert not rows_agree(lambda rows: [rows + 1], lambda row: [row], x, rtol=1e-3)


def test_the_made_model_is_in_canonical_form():
    batched = make_batch_dynamic(
        canonical(
            network("f = Flatten(c) y = MatMul(f, head)"),
        )
    )
    assert batched.opset_imports[""] == 21
    assert isinstance(batched, ir.Model)
