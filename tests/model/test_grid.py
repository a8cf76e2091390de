"""Which values hold a grid of cells, and whether folding puts each cell where it lies on the image."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.follow import follow, layer, pixel_numbers, run_folded

# ----- Maps -----


def test_a_convolution_gives_a_map():
    found = layer("(float[N,3,9,12] x) => (float[N,4,4,5] y) <float[4,3,3,3] w> { y = Conv<strides=[2,2]>(x, w) }")
    assert (found.kind, found.grid, found.channel_axis, found.batch_axis, found.extra) == ("map", (4, 5), 1, 0, 0)
    assert (found.shape, found.op_type, found.order) == (("N", 4, 4, 5), "Conv", range(20))


def test_the_image_itself_is_a_layer():
    found = layer("(float[N,3,9,12] x) => (float[N,3,9,12] y) { y = Relu(x) }", "x")
    assert (found.kind, found.grid, found.node) == ("map", (9, 12), "")


def test_nhwc_is_a_map_whose_channels_come_last():
    text = "(float[N,6,7,3] x) => (float[N,6,7,3] y) { y = Identity(x) }"
    found = layer(text, layout="NHWC")
    assert (found.kind, found.grid, found.channel_axis) == ("map-nhwc", (6, 7), 3)
    x = pixel_numbers(2, 3, 6, 7)
    assert_array_equal(run_folded(text, ["y"], x.transpose(0, 2, 3, 1), "NHWC")[0], x)


def test_one_channel_is_a_channel():
    assert layer("(float[N,1,6,7] x) => (float[N,1,6,7] y) { y = Relu(x) }").kind == "map"
    assert layer("(float[1,1,6,7] x) => (float[1,1,6,7] y) { y = Relu(x) }").channel_axis == 1
    assert layer("(float[N,6,7,1] x) => (float[N,6,7,1] y) { y = Relu(x) }", layout="NHWC").kind == "map-nhwc"


def test_one_row_is_a_grid():
    found = layer("(float[N,3,8,32] x) => (float[N,4,1,8] y) <float[4,3,8,4] w> { y = Conv<strides=[8,4]>(x, w) }")
    assert (found.kind, found.grid) == ("map", (1, 8))


def test_the_size_of_an_open_image_is_what_is_asked_for():
    text = "(float[N,3,H,W] x) => (float[N,4,h,w] y) <float[4,3,2,2] w> { y = Conv<strides=[2,2]>(x, w) }"
    found = layer(text, size=(10, 20))
    assert found.grid == (5, 10)
    assert not any(isinstance(d, int) for d in found.shape[2:])


def test_a_batch_of_one_that_a_resize_fixes_is_followed_alone():
    """Whatever the input says of its batch, as exporters of detectors write it."""
    resize = 'r = Resize<mode="linear">(x, , , sizes)'
    text = "(float[N,3,9,12] x) => (float[1,12] y) <int64[4] sizes={1,3,4,6}, int64[2] s={1,-1}, float[72,12] w>"
    found = layer(f"{text} {{ {resize} f = Reshape(r, s) y = MatMul(f, w) }}", "r")
    assert (found.kind, found.grid) == ("map", (4, 6))


def test_joining_channels_keeps_the_map_and_so_does_a_gate():
    text = """(float[N,3,8,8] x) => (float[N,7,8,8] y) <float[4,3,3,3] w> {
      c = Conv<pads=[1,1,1,1]>(x, w)
      pooled = GlobalAveragePool(c)
      gate = Sigmoid(pooled)
      gated = Mul(gate, c)
      y = Concat<axis=1>(gated, x)
    }"""
    assert layer(text).kind == "map"
    assert layer(text, "gate") is None


@pytest.mark.parametrize(
    "nodes",
    [
        'y = Resize<mode="nearest">(c, , scales)',
        "y = ConvTranspose<strides=[2,2]>(c, k)",
        "y = DepthToSpace<blocksize=2>(c)",
    ],
)
def test_what_enlarges_a_map_gives_a_finer_map(nodes):
    text = f"""(float[N,3,8,8] x) => (float[N,C,16,16] y)
    <float[4] scales = {{1,1,2,2}}, float[4,3,3,3] w, float[4,4,2,2] k> {{ c = Conv<pads=[1,1,1,1]>(x, w) {nodes} }}"""
    found = layer(text)
    assert (found.kind, found.grid) == ("map", (16, 16))


def test_shuffled_channels_are_still_a_map():
    text = """(float[N,4,6,6] x) => (float[N,4,6,6] y) <int64[5] split = {0,2,2,6,6}, int64[4] join = {0,4,6,6}> {
      a = Reshape(x, split) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, join) }"""
    assert layer(text).kind == "map"


def test_rows_and_columns_exchanged_are_put_right():
    text = "(float[N,2,4,6] x) => (float[N,2,6,4] y) { y = Transpose<perm=[0,1,3,2]>(x) }"
    found = layer(text)
    assert (found.kind, found.grid) == ("windows", (4, 6))
    x = pixel_numbers(2, 2, 4, 6)
    assert_array_equal(run_folded(text, ["y"], x)[0], x)


# ----- Tokens -----

PATCHES = """
<float[5,3,4,4] w, float[1,1,5] cls, int64[3] flat = {0,5,-1}, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] five = {5}, int64 first = {0}, float[5,5] p> {
  patches = Conv<strides=[4,4]>(image, w)
  columns = Reshape(patches, flat)
  tokens = Transpose<perm=[0,2,1]>(columns)
  count = Shape<start=0,end=1>(image)
  ones = Shape<start=1,end=3>(cls)
  wanted = Concat<axis=0>(count, ones)
  token = Expand(cls, wanted)
"""


def with_patches(nodes: str, output: str) -> str:
    """Return a model of 2 x 3 patches of 4 x 4 pixels as tokens (N, 6, 5), and what comes behind."""
    return f"(float[N,3,8,12] image) => (float[{output}] y) {PATCHES} {nodes} }}"


@pytest.mark.parametrize(
    ("nodes", "output", "extra", "order"),
    [
        ("y = Identity(tokens)", "N,6,5", 0, range(6)),
        ("y = Concat<axis=1>(token, tokens)", "N,7,5", 1, range(1, 7)),
        ("y = Concat<axis=1>(token, tokens, token)", "N,8,5", 2, range(1, 7)),
        ("y = Concat<axis=1>(tokens, token)", "N,7,5", 1, range(6)),
        ("y = Identity(columns)", "N,5,6", 0, range(6)),
        ("y = Transpose<perm=[1,0,2]>(tokens)", "6,N,5", 0, range(6)),
    ],
    ids=["tokens", "class token", "class and register token", "class token last", "channels first", "samples second"],
)
def test_tokens_are_folded_back_without_those_that_lie_nowhere(nodes, output, extra, order, rng):
    text = with_patches(nodes, output)
    found = layer(text)
    assert (found.kind, found.grid, found.extra, found.order) == ("tokens", (2, 3), extra, order)
    x = rng.standard_normal((3, 3, 8, 12)).astype(np.float32)
    patches, folded = run_folded(text, ["patches", "y"], x)
    assert_array_equal(folded, patches)


def test_patches_cut_by_reshape_are_tokens(rng):
    text = """(float[N,3,8,12] image) => (float[N,6,5] y)
    <int64[6] split = {0,3,2,4,3,4}, int64[3] rows = {0,6,48}, float[48,5] w> {
      cut = Reshape(image, split)
      near = Transpose<perm=[0,2,4,3,5,1]>(cut)
      pixels = Reshape(near, rows)
      y = MatMul(pixels, w)
    }"""
    found = layer(text)
    assert (found.kind, found.grid, found.extra) == ("tokens", (2, 3), 0)
    assert layer(text, "pixels") is None  # its features are pixels, each with a place of its own
    x = rng.standard_normal((2, 3, 8, 12)).astype(np.float32)
    folded = run_folded(text, ["y"], x)[0]
    x[:, :, 4:, 8:] = 0  # the last patch
    changed = np.argwhere(run_folded(text, ["y"], x)[0] != folded)
    assert {(row, column) for _, _, row, column in changed.tolist()} == {(1, 2)}


def test_patch_merging_takes_the_middle_of_four():
    text = """(float[N,8,8,3] image) => (float[N,4,4,6] y)
    <int64[1] zero = {0}, int64[1] one = {1}, int64[1] end = {8}, int64[1] h = {1}, int64[1] w = {2},
     int64[1] two = {2}, float[12] scale, float[12] bias, float[12,6] weight> {
      even = Slice(image, zero, end, h, two)
      odd = Slice(image, one, end, h, two)
      a = Slice(even, zero, end, w, two)
      b = Slice(odd, zero, end, w, two)
      c = Slice(even, one, end, w, two)
      d = Slice(odd, one, end, w, two)
      four = Concat<axis=-1>(a, b, c, d)
      normal = LayerNormalization<axis=-1>(four, scale, bias)
      y = MatMul(normal, weight)
    }"""
    found = layer(text, layout="NHWC")
    assert (found.kind, found.grid) == ("map-nhwc", (4, 4))
    assert layer(text, "four", "NHWC") is None


def test_attention_keeps_the_queries_and_its_map_is_no_layer():
    text = with_patches(
        """
        all = Concat<axis=1>(token, tokens)
        q = MatMul(all, p)
        keys = Transpose<perm=[0,2,1]>(all)
        scores = MatMul(q, keys)
        weights = Softmax(scores)
        y = MatMul(weights, all)
        """,
        "N,7,5",
    )
    found = layer(text)
    assert (found.kind, found.grid, found.extra) == ("tokens", (2, 3), 1)
    assert layer(text, "q").grid == (2, 3)
    heads = with_patches(
        """
        a = Unsqueeze(tokens, one)
        b = Concat<axis=1>(a, a)
        c = Transpose<perm=[0,1,3,2]>(b)
        y = MatMul(b, c)
        """,
        "N,2,6,6",
    )
    assert layer(heads) is None
    assert layer(heads, "b") is None  # heads and features: two axes, and no one channel


def test_what_mixes_all_cells_lies_nowhere_until_it_is_added_back():
    text = with_patches(
        "across = MatMul(columns, mix) back = Transpose<perm=[0,2,1]>(across) y = Add(back, tokens)", "N,6,5"
    ).replace("float[5,5] p", "float[6,6] mix")
    assert layer(text, "across") is None
    assert layer(text).kind == "tokens"


@pytest.mark.parametrize(
    ("nodes", "output"),
    [
        ("y = ReduceMean<keepdims=0>(tokens, one)", "N,5"),
        ("y = GlobalAveragePool(patches)", "N,5,1,1"),
        ("y = Flatten(patches)", "N,30"),
        ("all = Concat<axis=1>(token, tokens) y = Gather<axis=1>(all, first)", "N,5"),
        ("y = Concat<axis=1>(tokens, tokens)", "N,12,5"),
        ("y = Slice(tokens, zero, five, one)", "N,5,5"),
        ("v = Unsqueeze(tokens, one) y = Concat<axis=1>(v, v)", "N,2,6,5"),
    ],
    ids=["mean", "pooled", "flat", "class token", "each cell twice", "not all cells", "two channel axes"],
)
def test_what_has_no_complete_grid_is_no_layer(nodes, output):
    assert layer(with_patches(nodes, output)) is None


def test_a_part_of_the_image_is_no_layer():
    text = """(float[N,3,8,8] x) => (float[N,4,4,8] y) <int64[1] zero = {0}, int64[1] half = {4}, int64[1] h = {2},
    float[4,3,1,1] w> { top = Slice(x, zero, half, h) y = Conv(top, w) }"""
    assert layer(text) is None


def test_a_dropped_border_does_not_matter():
    text = """(float[N,3,9,9] x) => (float[N,4,4,4] y)
    <int64[2] zero = {0,0}, int64[2] end = {8,8}, int64[2] hw = {2,3},
    int64[8] pads = {0,0,1,1,0,0,1,1}, float[4,3,3,3] w> {
      most = Slice(x, zero, end, hw)
      bordered = Pad(most, pads)
      y = Conv<strides=[2,2]>(bordered, w)
    }"""
    assert layer(text).grid == (4, 4)
    assert layer(text, "bordered").extra == 36  # 10 x 10 cells, of which 8 x 8 are of the image


def test_an_unknown_operator_leaves_its_output_nowhere():
    text = "(float[N,3,8,8] x, float[N,4,4,2] at) => (float[N,3,4,4] y) { y = GridSample(x, at) }"
    assert layer(text) is None


# ----- Windows -----

# An image in NHWC is rolled by a quarter, cut into four windows, and these are put into the batch: Swin.
SHIFTED = """(float[N,8,8,2] image) => (float[M,16,2] y)
<int64[1] zero = {0}, int64[1] two = {2}, int64[1] eight = {8}, int64[1] h = {1}, int64[1] w = {2},
 int64[6] split = {-1,2,4,2,4,2}, int64[4] windows = {-1,4,4,2}, int64[3] rows = {-1,16,2}> {
  low = Slice(image, two, eight, h)
  high = Slice(image, zero, two, h)
  down = Concat<axis=1>(low, high)
  right = Slice(down, two, eight, w)
  left = Slice(down, zero, two, w)
  rolled = Concat<axis=2>(right, left)
  cut = Reshape(rolled, split)
  near = Transpose<perm=[0,1,3,2,4,5]>(cut)
  window = Reshape(near, windows)
  y = Reshape(window, rows)
}"""


def test_shifted_windows_within_the_batch_are_put_back():
    found = layer(SHIFTED, layout="NHWC")
    assert (found.kind, found.grid, found.batch_axis, found.channel_axis) == ("windows", (8, 8), None, 2)
    x = pixel_numbers(3, 2, 8, 8)
    nodes = ["rolled", "cut", "near", "window", "y"]
    for name, folded in zip(nodes, run_folded(SHIFTED, nodes, x.transpose(0, 2, 3, 1), "NHWC"), strict=True):
        assert_array_equal(folded, x, err_msg=name)


def test_windows_padded_to_size_leave_the_padding_out():
    text = """(float[N,6,6,2] image) => (float[M,4,4,2] y)
    <int64[8] pads = {0,0,0,0,0,2,2,0}, int64[6] split = {-1,2,4,2,4,2}, int64[4] windows = {-1,4,4,2}> {
      padded = Pad(image, pads)
      cut = Reshape(padded, split)
      near = Transpose<perm=[0,1,3,2,4,5]>(cut)
      y = Reshape(near, windows)
    }"""
    found = layer(text, layout="NHWC")
    assert (found.kind, found.grid, found.extra) == ("windows", (6, 6), 28)
    x = pixel_numbers(2, 2, 6, 6)
    assert_array_equal(run_folded(text, ["y"], x.transpose(0, 2, 3, 1), "NHWC")[0], x)


def test_windows_that_lie_outside_the_samples_are_no_layer():
    text = SHIFTED.replace("perm=[0,1,3,2,4,5]", "perm=[1,3,0,2,4,5]")
    assert layer(text, "cut", "NHWC") is not None
    assert layer(text, "y", "NHWC") is None


# ----- Batches -----


def test_a_batch_of_one_behind_an_open_input_is_seen():
    text = """(float[N,3,8,8] image) => (float[1,4] y) <float[5,3,4,4] w, int64[3] flat = {1,5,4}, int64[1] t = {1},
    float[5,4] head> {
      patches = Conv<strides=[4,4]>(image, w)
      columns = Reshape(patches, flat)
      tokens = Transpose<perm=[0,2,1]>(columns)
      mean = ReduceMean<keepdims=0>(tokens, t)
      y = MatMul(mean, head)
    }"""
    found = layer(text, "tokens")
    assert (found.kind, found.grid) == ("tokens", (2, 2))


def test_a_fixed_batch_of_several_is_followed():
    text = "(float[4,3,6,6] x) => (float[4,5,36] y) <float[5,3,1,1] w, int64[3] flat = {4,5,36}> "
    found = layer(text + "{ c = Conv(x, w) y = Reshape(c, flat) }")
    assert (found.shape, found.grid, found.batch_axis) == ((4, 5, 36), (6, 6), 0)


def test_shapes_that_the_graph_computes_are_followed(rng):
    text = """(float[N,3,8,8] image) => (float[N,T,5] y) <float[5,3,4,4] w, int64 zero = {0}, int64 one = {1},
    int64[1] front = {0}, int64[1] rest = {-1}> {
      patches = Conv<strides=[4,4]>(image, w)
      shape = Shape(patches)
      n = Gather<axis=0>(shape, zero)
      c = Gather<axis=0>(shape, one)
      a = Unsqueeze(n, front)
      b = Unsqueeze(c, front)
      wanted = Concat<axis=0>(a, b, rest)
      columns = Reshape(patches, wanted)
      y = Transpose<perm=[0,2,1]>(columns)
    }"""
    assert layer(text).grid == (2, 2)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    patches, folded = run_folded(text, ["patches", "y"], x)
    assert_allclose(folded, patches)


def test_the_other_inputs_of_a_model_do_not_matter():
    text = """(float[N,3,8,8] image, float[N,Q] question) => (float[N,4,4,4] y) <float[4,3,2,2] w> {
      c = Conv<strides=[2,2]>(image, w) d = Relu(question) y = Relu(c) }"""
    grid, _ = follow(text)
    assert grid.layer("y").kind == "map"
    assert grid.layer("d") is None
    assert grid.layer("nothing of that name") is None
