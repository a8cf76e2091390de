"""Each operator carries places as it carries numbers: the runtime moves the pixels' numbers, and both must agree."""

import numpy as np
import pytest
from support.follow import follow, layer, run

H, W, SAMPLES = 6, 8, 2

# Behind `x` (N, 2, 6, 8), whose pixels hold their own number, the same in both channels; 0 is nowhere.
MOVES = {
    "Identity": "y = Identity(x)",
    "Reshape": "y = Reshape(x, rows)",
    "Reshape that joins samples and rows": "a = Transpose<perm=[0,2,3,1]>(x) y = Reshape(a, joined)",
    "Flatten": "y = Flatten<axis=2>(x)",
    "Unsqueeze and Squeeze": "a = Unsqueeze(x, one) b = Transpose<perm=[4,1,2,0,3]>(a) y = Squeeze(b, one)",
    "Transpose": "y = Transpose<perm=[2,0,3,1]>(x)",
    "Transpose that turns round": "y = Transpose(x)",
    "Slice": "y = Slice(x, one, five, two)",
    "Slice of channels": "y = Slice(x, zero, one, one)",
    "Slice backwards": "y = Slice(x, far, before, last, back)",
    "Slice by twos": "y = Slice(x, one, far, two, two)",
    "Slice of two axes": "y = Slice(x, starts, ends)",
    "Gather": "y = Gather<axis=3>(x, mixed)",
    "Gather of one row": "y = Gather<axis=2>(x, row)",
    "Gather of windows": "y = Gather<axis=2>(x, windows)",
    "Gather of channels": "y = Gather<axis=1>(x, windows_of_channels)",
    "Concat of turned halves": """a = Slice(x, zero, three, last) b = Slice(x, three, far, last)
      y = Concat<axis=3>(b, a)""",
    "Concat with nothing": "y = Concat<axis=2>(x, blank)",
    "Concat of channels": "y = Concat<axis=1>(x, x)",
    "Concat of shifted channels": """a = Slice(x, zero, one, last) b = Slice(x, one, far, last)
      c = Concat<axis=3>(b, a) y = Concat<axis=1>(x, c)""",
    "Split": "a, y, b = Split<axis=3>(x, parts)",
    "Split of channels": "a, y = Split<axis=1, num_outputs=2>(x)",
    "Pad": "y = Pad(x, border)",
    "Pad that cuts": "y = Pad(x, cut)",
    "Pad of an axis": "y = Pad(x, sides, , last)",
    "Expand": "a = Slice(x, zero, one, one) y = Expand(a, wide)",
    "Tile": "y = Tile(x, times)",
    "SpaceToDepth": "y = SpaceToDepth<blocksize=2>(x)",
    "SpaceToDepth and back": "a = SpaceToDepth<blocksize=2>(x) y = DepthToSpace<blocksize=2>(a)",
    "SpaceToDepth and elsewhere": 'a = SpaceToDepth<blocksize=2>(x) y = DepthToSpace<blocksize=2, mode="CRD">(a)',
    "Col2Im": """a = SpaceToDepth<blocksize=2>(x) b = Reshape(a, depth) c = Transpose<perm=[0,2,1,3]>(b)
      d = Reshape(c, patches) y = Col2Im<strides=[2,2]>(d, size, square)""",
    "Where": "y = Where(yes, x, nothing)",
}
CONSTANTS = """
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] last = {3},
 int64[1] five = {5}, int64[1] far = {99}, int64[1] back = {-1}, int64[1] before = {-99}, int64 row = {-2},
 int64[2] starts = {0,0}, int64[2] ends = {9,1}, int64[3] rows = {0,2,-1}, int64[2] joined = {-1,2},
 int64[3] mixed = {5,-1,0}, int64[2,3] windows = {0,1,2,2,3,4}, int64[1,2] windows_of_channels = {1,0},
 int64[3] parts = {1,4,3}, int64[8] border = {0,0,1,0,0,0,0,2}, int64[8] cut = {0,0,-1,0,0,0,1,-2},
 int64[2] sides = {1,2}, int64[4] wide = {1,4,1,1}, int64[4] times = {1,3,1,2},
 int64[4] depth = {-1,4,2,12}, int64[3] patches = {0,8,12}, int64[2] size = {6,8}, int64[2] square = {2,2},
 bool[1] yes = {1}, float[1] nothing = {0.0},
 float[2,2,1,8] blank = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}>
"""


@pytest.mark.parametrize("nodes", MOVES.values(), ids=MOVES)
def test_places_move_as_numbers_do(nodes):
    grid, model = follow(f"(float[N,2,{H},{W}] x) => (float[a] y) {CONSTANTS} {{ {nodes} }}")
    numbers = np.arange(1, 1 + SAMPLES * H * W, dtype=np.float32).reshape(SAMPLES, 1, H, W)
    moved = run(model, {"x": np.repeat(numbers, 2, axis=1)}, ["y"])[0]
    place = grid.place(grid.value("y"))
    sample, y, x = np.broadcast_to(place, (3, *moved.shape))
    index = np.where(moved > 0, moved - 1, np.nan)
    np.testing.assert_array_equal(sample, index // (H * W))
    np.testing.assert_allclose(y, (index % (H * W) // W + 0.5) / H, rtol=1e-6)
    np.testing.assert_allclose(x, (index % W + 0.5) / W, rtol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Gather<axis=2>(x, at)",
        "y = Slice(x, at, ends)",
        "y = Reshape(x, at)",
        "y = Tile(x, at)",
        "y = Pad(x, at)",
        'y = Einsum<equation="...chw->...hwc">(x)',
        "y = ReduceMean(x, at)",
        "y = ReduceMean(x)",
        "y, indices = TopK(x, at)",
        "a = Flatten<axis=2>(x) y = Col2Im(a, at, at)",
    ],
)
def test_what_only_the_run_knows_is_nowhere(nodes):
    grid, _ = follow(f"(float[N,2,6,8] x, int64[K] at) => (float[a] y) <int64[1] ends = {{9}}> {{ {nodes} }}")
    assert grid.layer("y") is None


# ----- Contraction -----

TOKENS = """(float[N,3,8,8] x) => (float[a] y)
<float[5,3,4,4] w, float[5,5] p, float[4,4] across, int64[3] flat = {0,5,4}, int64[2] rows = {-1,5}, int64[1] one = {1},
 int64[1] last = {-1}> {
  c = Conv<strides=[4,4]>(x, w)
  columns = Reshape(c, flat)
  tokens = Transpose<perm=[0,2,1]>(columns)
  stacked = Reshape(tokens, rows)
  turned = Transpose<perm=[1,0]>(stacked)
"""
KEEPING = {
    "MatMul": "y = MatMul(tokens, p)",
    "MatMul from the left": "y = MatMul(p, columns)",
    "Gemm": "y = Gemm(stacked, p)",
    "Gemm, transposed": "y = Gemm<transA=1>(turned, p)",
    "Gemm from the left": "y = Gemm<transB=1>(p, stacked)",
    "Einsum": 'y = Einsum<equation="ntc,cd->ntd">(tokens, p)',
    "Einsum from the left": 'y = Einsum<equation="dc,ntc->dnt">(p, tokens)',
    "attention, transposed": "s = MatMul(columns, tokens) a = Softmax(s) y = MatMul(a, columns)",
    "ReduceMax that keeps its axis": "m = ReduceMax(tokens, last) y = Sub(tokens, m)",
    "LayerNormalization, decomposed": """m = ReduceMean(tokens, last) d = Sub(tokens, m) q = Mul(d, d)
      v = ReduceMean(q, last) s = Sqrt(v) y = Div(d, s)""",
    "nothing to reduce": "y = ReduceSum<noop_with_empty_axes=1>(tokens)",
}
MIXING = {
    "MatMul across tokens": "y = MatMul(across, tokens)",
    "MatMul of columns across tokens": "y = MatMul(columns, across)",
    "Einsum across tokens": 'y = Einsum<equation="ntc,ts->nsc">(tokens, across)',
    "Einsum of a diagonal": 'y = Einsum<equation="nii->ni">(square)',
    "Gemm across tokens": "y = Gemm(turned, stacked)",
    "a vector": "v = ReduceSum<keepdims=0>(tokens, one) y = MatMul(v, p)",
}


@pytest.mark.parametrize("nodes", KEEPING.values(), ids=KEEPING)
def test_what_leaves_cells_apart_keeps_their_places(nodes):
    found = layer(f"{TOKENS} {nodes} }}")
    assert found.grid == (2, 2)
    assert sorted(found.order) == [0, 1, 2, 3]


@pytest.mark.parametrize("nodes", MIXING.values(), ids=MIXING)
def test_what_mixes_cells_is_nowhere(nodes):
    square = "square = MatMul(tokens, columns)" if "square" in nodes else ""
    assert layer(f"{TOKENS} {square} {nodes} }}") is None


def test_an_attention_operator_keeps_the_queries():
    text = """(float[N,3,8,8] x) => (float[N,4,6] y) <float[6,3,4,4] w, float[1,3,6] other, int64[3] flat = {0,6,4}> {
      c = Conv<strides=[4,4]>(x, w) columns = Reshape(c, flat) tokens = Transpose<perm=[0,2,1]>(columns)
      y = Attention<q_num_heads=2, kv_num_heads=2>(tokens, tokens, tokens) }"""
    grid, _ = follow(text, opset=23)
    assert grid.layer("y").grid == (2, 2)


# ----- Windows -----


@pytest.mark.parametrize(
    ("nodes", "grid"),
    [
        ("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", (3, 4)),
        ("y = AveragePool<kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]>(x)", (6, 8)),
        ("y = Conv<strides=[3,1]>(x, k)", (2, 8)),
        ("y = Conv<dilations=[2,2]>(x, k3)", (2, 4)),
        ("t = Transpose<perm=[0,1,3,2]>(x) y = Conv(t, k3)", (4, 6)),
        ("b = Slice(x, far, before, last, back) y = Conv(b, k3)", (4, 6)),
    ],
    ids=["MaxPool", "same size", "stride", "dilation", "rows and columns exchanged", "mirrored"],
)
def test_windows_lie_evenly_over_the_image(nodes, grid):
    text = f"""(float[N,2,6,8] x) => (float[N,a,b,c] y) <float[5,2,1,1] k, float[5,2,3,3] k3, int64[1] far = {{99}},
    int64[1] before = {{-99}}, int64[1] last = {{3}}, int64[1] back = {{-1}}> {{ {nodes} }}"""
    found, _ = follow(text)
    assert found.layer("y").grid == grid
    place = found.place(found.value("y"))
    assert np.nanmin(place[1:]) == pytest.approx(0.5 / max(grid), abs=0.05)
    assert np.nanmax(place[1:]) == pytest.approx(1 - 0.5 / max(grid), abs=0.05)


def test_cells_out_of_order_are_left_where_they_are_only_by_pointwise_convolutions():
    text = """(float[N,2,6,8] x) => (float[N,5,a,b] y)
    <int64[6] mixed = {2,0,1,5,3,4}, float[5,2,1,1] k, float[5,2,3,3] k3> {
      m = Gather<axis=2>(x, mixed) y = Conv(m, k) z = Conv(m, k3) }"""
    assert layer(text).order != range(48)
    assert layer(text).grid == (6, 8)
    assert layer(text, "z") is None


def test_a_convolution_over_tokens_of_kernel_one_keeps_them():
    text = """(float[N,3,8,8] x) => (float[N,6,4] y)
    <float[5,3,4,4] w, float[6,5,1] k, float[6,5,3] k3, int64[3] flat = {0,5,4}> {
      c = Conv<strides=[4,4]>(x, w) columns = Reshape(c, flat) y = Conv(columns, k) z = Conv(columns, k3) }"""
    assert layer(text).grid == (2, 2)
    assert layer(text, "z") is None
