"""Which layers are offered, and which is taken unless told otherwise."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.testing import assert_array_equal
from support.follow import follow, run

from onnxsal.autodiff import vjp
from onnxsal.model.grid import Layer
from onnxsal.model.layers import candidate_layers, last_spatial


def found_in(text: str, logits: str | None = "y", layout: str = "NCHW") -> tuple[list[Layer], Layer | None]:
    grid, model = follow(text, layout)
    layers = candidate_layers(grid, model.graph, "x", logits)
    return layers, last_spatial(grid, model.graph, layers, logits)


CONVOLUTIONS = """(float[N,3,16,16] x) => (float[N,5] y)
<float[4,3,3,3] w, float[4,4,3,3] v, float[4,5] head, float[256,5] wide, int64[2] hw = {2,3}> {
  c1 = Conv<pads=[1,1,1,1]>(x, w)
  r1 = Relu(c1)
  p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
  c2 = Conv<pads=[1,1,1,1]>(p1, v)
  r2 = Relu(c2)
"""


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("g = GlobalAveragePool(r2) f = Flatten(g) y = MatMul(f, head)", "r2"),
        ("g = ReduceMean<keepdims=0>(r2, hw) y = MatMul(g, head)", "r2"),
        ("p2 = MaxPool<kernel_shape=[1,1]>(r2) f = Flatten(p2) y = MatMul(f, wide)", "p2"),
        ("s = Add(r2, p1) g = GlobalAveragePool(s) f = Flatten(g) y = MatMul(f, head)", "s"),
        ("t = Transpose<perm=[0,2,3,1]>(r2) g = ReduceMean<keepdims=0>(t, mid) y = MatMul(g, head)", "r2"),
        ("g = GlobalAveragePool(c2) f = Flatten(g) y = MatMul(f, head)", "c2"),
        (
            """q = GlobalAveragePool(r2) e = Sigmoid(q) m = Mul(e, r2)
            g = GlobalAveragePool(m) f = Flatten(g) y = MatMul(f, head)""",
            "m",
        ),
    ],
    ids=["pooled", "mean", "flattened", "residual", "mean of NHWC", "no activation", "squeeze and excitation"],
)
def test_a_convolutional_network_is_looked_at_where_it_is_pooled(nodes, expected):
    _, default = found_in((CONVOLUTIONS + nodes + "}").replace("hw = {2,3}", "hw = {2,3}, int64[2] mid = {1,2}"))
    assert default.name == expected


def test_columns_that_are_read_one_by_one_count():
    # As in an unrolled recurrence.
    nodes = """m = ReduceMax<keepdims=0>(r2, row) a = Gather<axis=2>(m, first) b = Gather<axis=2>(m, second)
      h = Tanh(a) s = Add(h, b) y = MatMul(s, head) }"""
    text = (CONVOLUTIONS + nodes).replace(
        "int64[2] hw = {2,3}", "int64[1] row = {2}, int64 first = {0}, int64 second = {1}"
    )
    _, default = found_in(text)
    assert (default.name, default.grid) == ("m", (1, 8))


def test_layers_come_in_topological_order_without_what_is_beside_the_way():
    text = CONVOLUTIONS + "g = GlobalAveragePool(p1) f = Flatten(g) y = MatMul(f, head) }"
    layers, default = found_in(text)
    assert [layer.name for layer in layers] == ["c1", "r1", "p1"]  # c2 and r2 are dead ends
    assert default.name == "p1"


def test_without_logits_all_outputs_count():
    text = CONVOLUTIONS.replace("(float[N,5] y)", "(float[N,4,8,8] r2, float[N,4,8,8] y)") + "y = Sigmoid(c2) }"
    layers, default = found_in(text, None)
    assert [layer.name for layer in layers] == ["c1", "r1", "p1", "c2", "r2", "y"]
    assert default.name == "y"


def test_what_a_branch_of_an_if_reads_counts():
    text = (
        CONVOLUTIONS
        + """
      n = Shape<start=0,end=1>(x) one = Shape<start=3>(q) c = Equal(n, one) b = Squeeze(c)
      g = If(b)<then_branch = yes () => (float[M,4,1,1] s) { s = GlobalAveragePool(r2) },
                else_branch = no () => (float[M,4,1,1] t) { t = GlobalMaxPool(r2) }>
      f = Flatten(g) y = MatMul(f, head) }"""
    )
    layers, default = found_in(text.replace("float[4,5] head", "float[4,5] head, float[1,1,1,1] q"))
    assert [layer.name for layer in layers] == ["c1", "r1", "p1", "c2", "r2"]
    assert default.name == "r2"


def test_scores_per_pixel_are_looked_at_before_they_are_enlarged():
    text = CONVOLUTIONS.replace("(float[N,5] y)", "(float[N,4,16,16] y)").replace(
        "int64[2] hw", "float[4] scales = {1,1,2,2}, int64[2] hw"
    )
    layers, default = found_in(text + 'y = Resize<mode="linear">(r2, , scales) }')
    assert [layer.name for layer in layers] == ["c1", "r1", "p1", "c2", "r2"]
    assert default.name == "r2"


def test_a_model_without_cells_has_no_layer():
    text = "(float[N,3,4,4] x) => (float[N,5] y) <float[48,5] w> { f = Flatten(x) y = MatMul(f, w) }"
    assert found_in(text) == ([], None)


# ----- Transformers -----


def block(index: int, before: str, *, decomposed: bool = False) -> str:
    """Return a transformer's block of one head, from the tokens `before` to `b<index>`."""
    i = index
    norm = f"n{i} = LayerNormalization<axis=-1>({before}, scale, bias)"
    if decomposed:
        norm = f"""
        mean{i} = ReduceMean({before}, last) centred{i} = Sub({before}, mean{i}) square{i} = Mul(centred{i}, centred{i})
        var{i} = ReduceMean(square{i}, last) std{i} = Sqrt(var{i}) unit{i} = Div(centred{i}, std{i})
        scaled{i} = Mul(unit{i}, scale) n{i} = Add(scaled{i}, bias)"""
    return f"""
      {norm}
      q{i} = MatMul(n{i}, wq) qb{i} = Add(q{i}, bias)
      k{i} = MatMul(n{i}, wk) kt{i} = Transpose<perm=[0,2,1]>(k{i})
      v{i} = MatMul(n{i}, wv) vb{i} = Add(v{i}, bias)
      s{i} = MatMul(qb{i}, kt{i}) a{i} = Softmax(s{i})
      o{i} = MatMul(a{i}, vb{i}) r{i} = Add(o{i}, {before})
      m{i} = LayerNormalization<axis=-1>(r{i}, scale, bias)
      h{i} = MatMul(m{i}, wq) t{i} = Tanh(h{i}) u{i} = MatMul(t{i}, wk)
      b{i} = Add(u{i}, r{i})
    """


def transformer(tail: str, *, decomposed: bool = False) -> str:
    """Return two blocks over a class token and 3 x 3 patches."""
    return f"""(float[N,3,12,12] x) => (float[N,5] y)
    <float[6,3,4,4] w, float[1,1,6] cls, float[6] scale, float[6] bias, float[6,6] wq, float[6,6] wk, float[6,6] wv,
     float[6,5] head, int64[3] flat = {{0,6,9}}, int64[1] last = {{-1}}, int64[1] one = {{1}}, int64[1] end = {{99}},
     int64 first = {{0}}> {{
      patches = Conv<strides=[4,4]>(x, w)
      columns = Reshape(patches, flat)
      tokens = Transpose<perm=[0,2,1]>(columns)
      count = Shape<start=0,end=1>(x)
      ones = Shape<start=1,end=3>(cls)
      wanted = Concat<axis=0>(count, ones)
      token = Expand(cls, wanted)
      b0 = Concat<axis=1>(token, tokens)
      {block(1, "b0", decomposed=decomposed)}
      {block(2, "b1", decomposed=decomposed)}
      {tail}
    }}"""


NORM = "norm = LayerNormalization<axis=-1>(b2, scale, bias)"
BY_CLASS_TOKEN = f"{NORM} c = Gather<axis=1>(norm, first) y = MatMul(c, head)"
BY_SLICE = f"{NORM} z = Sub(last, last) s = Slice(norm, z, one, one) c = Squeeze(s, one) y = MatMul(c, head)"
BY_MEAN = f"{NORM} p = Slice(norm, one, end, one) c = ReduceMean<keepdims=0>(p, one) y = MatMul(c, head)"


@pytest.mark.parametrize("decomposed", [False, True], ids=["LayerNormalization", "decomposed"])
@pytest.mark.parametrize("tail", [BY_CLASS_TOKEN, BY_SLICE], ids=["Gather", "Slice"])
def test_a_class_token_is_looked_at_where_the_last_attention_reads(tail, decomposed):
    layers, default = found_in(transformer(tail, decomposed=decomposed))
    assert (default.name, default.grid, default.extra) == ("n2", (3, 3), 1)
    # What comes behind the last attention's values is not offered: there the class token alone counts.
    assert {layer.name for layer in layers[layers.index(default) + 1 :]} == {"k2", "kt2", "v2", "vb2"}


def test_what_guards_a_masked_softmax_reads_no_cell():
    # As newer exporters write attention with a mask: rows without any key are 0, not NaN.
    guard = "e2 = Softmax(s2) nan = IsNaN(e2) a2 = Where(nan, none, e2)"
    text = transformer(BY_CLASS_TOKEN).replace("a2 = Softmax(s2)", guard)
    text = text.replace("int64[1] one", "float none = {0}, int64[1] one")
    assert guard in text
    _, default = found_in(text)
    assert default.name == "n2"


def test_keys_that_are_normalised_by_batch_are_passed_over():
    # As in LeViT: a BatchNormalization follows each product, over samples and cells in one axis.
    keys = "k2 = MatMul(n2, wk) kr2 = Reshape(k2, rows) kb2 = BatchNormalization(kr2, scale, bias, bias, scale) "
    keys += "ks2 = Reshape(kb2, cells) kt2 = Transpose<perm=[0,2,1]>(ks2)"
    text = transformer(BY_CLASS_TOKEN).replace("k2 = MatMul(n2, wk) kt2 = Transpose<perm=[0,2,1]>(k2)", keys)
    text = text.replace("int64[1] one", "int64[2] rows = {-1,6}, int64[3] cells = {-1,10,6}, int64[1] one")
    assert keys in text
    _, default = found_in(text)
    assert default.name == "n2"


def test_a_mean_of_tokens_is_looked_at_where_it_is_taken():
    _, default = found_in(transformer(BY_MEAN))
    assert (default.name, default.extra) == ("norm", 1)


def test_class_attention_is_looked_at_where_it_reads_the_patches():
    # As in CaiT: the class token alone is the query.
    tail = """
      joined = Concat<axis=1>(token, tokens)
      normal = LayerNormalization<axis=-1>(joined, scale, bias)
      query = Slice(normal, zero, one, one) wide = MatMul(query, wq)
      keys = MatMul(normal, wk) turned = Transpose<perm=[0,2,1]>(keys)
      scores = MatMul(wide, turned) weights = Softmax(scores)
      values = MatMul(normal, wv) mixed = MatMul(weights, values)
      c = Squeeze(mixed, one) y = MatMul(c, head)
    """
    text = transformer(tail).replace("int64[1] one", "int64[1] zero = {0}, int64[1] one")
    _, default = found_in(text)
    assert default.name == "normal"


@pytest.mark.parametrize("tail", [BY_CLASS_TOKEN, BY_MEAN], ids=["class token", "mean"])
def test_the_gradient_tells_the_same_which_cells_count(tail, rng):
    text = transformer(tail)
    names = {layer.name for layer in found_in(text)[0]}
    grid, model = follow(text)
    layers = [grid.layer(v.name) for node in model.graph for v in node.outputs if grid.layer(v.name)]
    assert {layer.name for layer in layers if np.any(patch_gradient(text, layer, rng))} == names


def patch_gradient(text: str, layer: Layer, rng: np.random.Generator) -> np.ndarray:
    """Return the gradient of the logits at the cells of a layer."""
    _, model = follow(text)
    gradient = run(
        vjp(model, of="y", wrt=layer.name),
        {"x": rng.standard_normal((1, 3, 12, 12)).astype(np.float32), "cotangent_y": np.ones((1, 5), np.float32)},
        [f"grad_{layer.name}"],
    )[0]
    rows = np.moveaxis(gradient, layer.channel_axis, -1).reshape(-1, layer.channels)
    return rows[list(layer.order)]


def test_the_map_that_windows_are_put_together_to_is_preferred():
    text = """(float[N,3,8,8] x) => (float[N,5] y)
    <float[4,3,1,1] w, float[4,5] head, int64[6] split = {0,4,2,4,2,4}, int64[4] join = {0,4,16,4},
     int64[6] cut = {0,2,2,4,4,4}, int64[4] whole = {0,4,8,8}, float[4,4] v> {
      c = Conv(x, w)
      a = Reshape(c, split) b = Transpose<perm=[0,2,4,3,5,1]>(a) d = Reshape(b, windows)
      e = MatMul(d, v)
      f = Reshape(e, cut) g = Transpose<perm=[0,5,1,3,2,4]>(f) h = Reshape(g, whole)
      p = GlobalAveragePool(h) q = Flatten(p) y = MatMul(q, head)
    }""".replace("int64[4] join = {0,4,16,4}", "int64[4] windows = {0,4,16,4}")
    _, default = found_in(text)
    assert (default.name, default.kind) == ("h", "map")


def test_quantised_stretches_are_passed_through():
    text = """(float[N,3,8,8] x) => (float[N,5] y)
    <float[4,3,3,3] w, float[4,5] head, float scale = {0.1}, uint8 zero = {0}> {
      c = Conv(x, w)
      q = QuantizeLinear(c, scale, zero)
      d = DequantizeLinear(q, scale, zero)
      r = Relu(d)
      p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, head)
    }"""
    layers, default = found_in(text)
    assert [layer.name for layer in layers] == ["c", "d", "r"]  # not q, which has no gradient
    assert default.name == "r"


def test_operators_of_the_runtime_itself_are_followed():
    text = """(float[N,3,8,8] x) => (float[N,4,6,6] y)
    <float[4,3,3,3] w, float scale = {0.1}, uint8 zero = {0}> {
      c = Conv(x, w)
      q = QuantizeLinear(c, scale, zero)
      s = com.microsoft.QLinearAdd(q, scale, zero, q, scale, zero, scale, zero)
      y = DequantizeLinear(s, scale, zero)
    }"""
    grid, model = follow(text, domains=', "com.microsoft" : 1')
    assert grid.layer("y").kind == "map"
    assert [layer.name for layer in candidate_layers(grid, model.graph, "x", None)] == ["c", "y"]


def test_following_a_model_leaves_it_as_it_is():
    grid, model = follow(transformer(BY_MEAN))
    before = ir.to_proto(model)
    candidate_layers(grid, model.graph, "x", "y")
    assert onnx.printer.to_text(ir.to_proto(model)) == onnx.printer.to_text(before)
    assert_array_equal(list(grid.layer("b0").order), range(1, 10))
