"""Linear operators: ⟨A x, y⟩ = ⟨x, A* y⟩, exactly, over their attributes, for known sizes and for unknown ones.

No differences are taken, so float32 will do, and the kernels are those that deployed models run on; with
ONNX Runtime's basic optimisations and with all of them, which fuse what the gradient adds with the model's own.
"""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onnxsal.autodiff import vjp

LEVELS = (ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
few = settings(derandomize=True, max_examples=40, deadline=None)
numbers = st.integers


def check(shape, body, *, weights=(), rank=None, dynamic=False, wrt="x", **constants):
    """Hold the gradient of `y`, which `body` computes of `x` and of weights, to the definition of an adjoint.

    Args:
        shape: Of x.
        body: The text of nodes.
        weights: Name and shape of further inputs, drawn like x.
        rank: Of y; as that of x unless given.
        dynamic: Whether the model knows sizes by name only.
        wrt: The input that y is linear in.
        constants: Initializers.
    """
    names = {"x": tuple(shape), **dict(weights)}
    inputs = ", ".join(
        f"float[{','.join(f'{n}{i}' if dynamic else str(d) for i, d in enumerate(s))}] {n}" for n, s in names.items()
    )
    held = ", ".join(_initializer(name, np.asarray(value)) for name, value in constants.items())
    outer = ",".join(f"y{i}" for i in range(len(shape) if rank is None else rank))
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> agraph ({inputs}) => (float[{outer}] y) <{held}> {{ {body} }}'
        if held
        else f'<ir_version: 10, opset_import: ["" : 21]> agraph ({inputs}) => (float[{outer}] y) {{ {body} }}'
    )
    rng = np.random.default_rng(0)
    feeds = {name: rng.integers(-4, 5, size).astype(np.float32) for name, size in names.items()}
    y = forward(model, feeds)
    assume(y.size)
    g = rng.integers(-4, 5, y.shape).astype(np.float32)
    graph = ir.to_proto(vjp(model, of="y", wrt=wrt)).SerializeToString()
    for level in LEVELS:
        found, grad = session(graph, level).run(["y", f"grad_{wrt}"], feeds | {"cotangent_y": g})
        np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)
        assert grad.shape == feeds[wrt].shape
        left, right = (float(np.sum(np.float64(a) * b)) for a, b in ((y, g), (feeds[wrt], grad)))
        scale = math.sqrt(float(np.sum(np.float64(y) ** 2)) * float(np.sum(g**2))) + 1
        assert abs(left - right) <= 1e-5 * scale, (left, right)


def _initializer(name, array):
    kind = "float" if array.dtype.kind == "f" else "int64"
    shape = f"[{','.join(map(str, array.shape))}]" if array.ndim else ""
    return f"{kind}{shape} {name} = {{{','.join(map(str, array.ravel().tolist()))}}}"


def forward(model, feeds):
    """Run the model as it is; what ONNX Runtime refuses is no example."""
    try:
        return session(model.SerializeToString(), LEVELS[0]).run(["y"], feeds)[0]
    except Exception:
        assume(False)


def session(model, level):
    options = ort.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, level
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ints(value):
    return "[" + ",".join(map(str, value)) + "]"


# ----- Windows -----


@st.composite
def windows(draw, largest_pad=2):
    """Draw the geometry of a convolution or pooling of one to three axes, as text, with the kernel and sizes of X."""
    n = draw(numbers(1, 3))
    kernel, strides = (draw(st.lists(numbers(1, 3), min_size=n, max_size=n)) for _ in range(2))
    sizes = draw(st.lists(numbers(3, 7), min_size=n, max_size=n))
    auto = draw(st.sampled_from(["", "", "", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    # What SAME means for a dilated window ONNX, its inference and ONNX Runtime's kernels each see otherwise.
    dilations = [1] * n if auto.startswith("SAME") else draw(st.lists(numbers(1, 2), min_size=n, max_size=n))
    pads = draw(st.lists(numbers(0, largest_pad), min_size=2 * n, max_size=2 * n))
    text = f"strides={ints(strides)}, dilations={ints(dilations)}, "
    return kernel, sizes, text + (f'auto_pad="{auto}"' if auto else f"pads={ints(pads)}")


@given(windows(largest_pad=4), numbers(1, 3), st.sampled_from([(1, 1), (1, 3), (2, 1), (8, 1), (9, 2)]), st.booleans())
@few
def test_conv(window, group, channels, dynamic):
    kernel, sizes, geometry = window
    inner, outer = channels
    check(
        (2, group * inner, *sizes),
        f"y = Conv<group={group}, {geometry}>(x, w)",
        weights=[("w", (group * outer, inner, *kernel))],
        dynamic=dynamic,
        wrt="w" if math.prod(kernel) % 2 == 0 and not dynamic else "x",
    )


@given(windows(), numbers(1, 2), st.booleans(), st.booleans())
@few
def test_conv_transpose(window, group, extra, dynamic):
    kernel, sizes, geometry = window
    padding = f", output_padding={ints([1] * len(kernel))}" if extra else ""
    check(
        (2, 2 * group, *sizes),
        f"y = ConvTranspose<group={group}, {geometry}{padding}>(x, w)",
        weights=[("w", (2 * group, 3, *kernel))],
        dynamic=dynamic,
    )


@given(windows(largest_pad=1), st.booleans(), st.booleans(), st.booleans())
@settings(few, max_examples=120)
def test_average_pool(window, ceil_mode, count_include_pad, dynamic):
    kernel, sizes, geometry = window
    settings_ = f"kernel_shape={ints(kernel)}, ceil_mode={int(ceil_mode)}, count_include_pad={int(count_include_pad)}"
    check((2, 3, *sizes), f"y = AveragePool<{settings_}, {geometry}>(x)", dynamic=dynamic)


@given(windows(largest_pad=1), st.booleans(), st.booleans())
@settings(few, max_examples=80)
def test_max_pool(window, ceil_mode, dynamic):
    # Not linear, but of degree one, so that the sum of all entries times their slopes is the output.
    kernel, sizes, geometry = window
    check(
        (2, 3, *sizes),
        f"y = MaxPool<kernel_shape={ints(kernel)}, ceil_mode={int(ceil_mode)}, {geometry}>(x)",
        dynamic=dynamic,
    )


@given(numbers(1, 3), st.booleans())
@settings(few, max_examples=6)
def test_global_average_pool(n, dynamic):
    check((2, 3, *range(3, 3 + n)), "y = GlobalAveragePool(x)", dynamic=dynamic)


# ----- Parts and places -----

shapes = st.lists(numbers(1, 5), min_size=1, max_size=4)


@st.composite
def slices(draw):
    shape = draw(shapes)
    axes = draw(st.lists(numbers(0, len(shape) - 1), min_size=1, unique=True))
    steps = [draw(st.sampled_from([-3, -2, -1, 1, 2, 3])) for _ in axes]
    starts, ends = ([draw(numbers(-7, 7)) for _ in axes] for _ in range(2))
    signs = [draw(st.sampled_from([0, len(shape)])) for _ in axes]
    return shape, {"s": starts, "e": ends, "a": [a - n for a, n in zip(axes, signs, strict=True)], "p": steps}


@given(slices(), st.booleans())
@settings(few, max_examples=60)
def test_slice(drawn, dynamic):
    shape, constants = drawn
    check(shape, "y = Slice(x, s, e, a, p)", dynamic=dynamic, **constants)


@given(shapes, st.data(), st.sampled_from(["constant", "reflect", "edge", "wrap"]), st.booleans())
@settings(few, max_examples=60)
def test_pad(shape, data, mode, dynamic):
    least = -2 if mode == "constant" else 0
    pads = data.draw(st.lists(numbers(least, 3), min_size=2 * len(shape), max_size=2 * len(shape)))
    check(shape, f'y = Pad<mode="{mode}">(x, p)', dynamic=dynamic, p=pads)


@given(shapes, st.data(), st.booleans())
@few
def test_gather(shape, data, dynamic):
    axis = data.draw(numbers(-len(shape), len(shape) - 1))
    size = shape[axis]
    indices = data.draw(st.lists(numbers(-size, size - 1), min_size=1, max_size=4))
    form = data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1)]))
    rank = len(shape) - 1 + len(form)
    check(shape, f"y = Gather<axis={axis}>(x, i)", rank=rank, dynamic=dynamic, i=np.reshape(indices, form))


@given(shapes, st.data(), st.booleans())
@few
def test_gather_elements_and_scatter_elements(shape, data, dynamic):
    axis = data.draw(numbers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(data.draw(numbers(0, 99)))
    count = [data.draw(numbers(1, d)) for d in shape]
    indices = rng.integers(-shape[axis], shape[axis], count)
    check(shape, f"y = GatherElements<axis={axis}>(x, i)", dynamic=dynamic, i=indices)
    reduction = data.draw(st.sampled_from(["none", "add"]))
    if reduction == "none":  # what is written twice is not defined
        indices = np.indices(count)[axis]
    body = f'z = Sub(d, d)  y = ScatterElements<axis={axis}, reduction="{reduction}">(z, i, x)'
    check(count, body, weights=[("d", tuple(shape))], dynamic=dynamic, i=indices)


@given(shapes, st.data(), st.booleans())
@few
def test_tile_and_expand(shape, data, dynamic):
    repeats = [data.draw(numbers(1, 3)) for _ in shape]
    check(shape, "y = Tile(x, r)", dynamic=dynamic, r=repeats)
    outer = data.draw(st.lists(numbers(1, 3), max_size=2))
    target = outer + [r if d == 1 else data.draw(st.sampled_from([1, d])) for d, r in zip(shape, repeats, strict=True)]
    check(shape, "y = Expand(x, t)", rank=len(target), dynamic=dynamic, t=target)


@given(shapes, st.data(), st.booleans())
@few
def test_concat_and_split(shape, data, dynamic):
    axis = data.draw(numbers(-len(shape), len(shape) - 1))
    other = list(shape)
    other[axis] = data.draw(numbers(0, 3))
    check(
        shape,
        f"z = Sub(w, w)  y = Concat<axis={axis}>(x, z, x)",
        weights=[("w", tuple(other))],
        dynamic=dynamic,
    )
    cut = data.draw(numbers(0, shape[axis]))
    first = data.draw(st.sampled_from(["y, rest", "rest, y"]))
    check(shape, f"{first} = Split<axis={axis}>(x, s)", dynamic=dynamic, s=[cut, shape[axis] - cut])


# ----- Sums -----


@given(shapes, st.data(), st.sampled_from(["ReduceSum", "ReduceMean"]), st.booleans(), st.booleans())
@few
def test_sum_and_mean(shape, data, op_type, keepdims, dynamic):
    axes = data.draw(st.lists(numbers(0, len(shape) - 1), unique=True))
    rank = len(shape) if keepdims else len(shape) - (len(axes) or len(shape))
    axes = [a - data.draw(st.sampled_from([0, len(shape)])) for a in axes]
    check(
        shape, f"y = {op_type}<keepdims={int(keepdims)}>(x, a)", rank=rank, dynamic=dynamic, a=np.array(axes, np.int64)
    )


@given(shapes, st.data(), st.booleans(), st.booleans(), st.booleans())
@few
def test_cumulative_sum(shape, data, exclusive, reverse, dynamic):
    axis = data.draw(numbers(-len(shape), len(shape) - 1))
    body = f"y = CumSum<exclusive={int(exclusive)}, reverse={int(reverse)}>(x, a)"
    check(shape, body, dynamic=dynamic, a=np.int64(axis))


@st.composite
def einsums(draw):
    sizes = {letter: draw(numbers(1, 4)) for letter in "abcd"}
    left, right = (draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)) for _ in range(2))
    out = draw(st.permutations(sorted({*left, *right})))[: draw(numbers(0, 4))]
    return left, right, out, sizes


@given(einsums(), st.sampled_from(["x", "w"]), st.booleans())
@settings(few, max_examples=60)
def test_einsum(drawn, wrt, dynamic):
    left, right, out, sizes = drawn
    body = f'y = Einsum<equation="{"".join(left)},{"".join(right)}->{"".join(out)}">(x, w)'
    second = tuple(sizes[letter] for letter in right)
    check([sizes[i] for i in left], body, weights=[("w", second)], rank=len(out), dynamic=dynamic, wrt=wrt)


@given(st.lists(numbers(1, 3), max_size=2), st.data(), st.sampled_from(["x", "w"]), st.booleans())
@few
def test_matrix_product(batch, data, wrt, dynamic):
    other = [data.draw(st.sampled_from([1, d])) for d in batch[data.draw(numbers(0, len(batch))) :]]
    m, k, n = (data.draw(numbers(1, 4)) for _ in range(3))
    check([*batch, m, k], "y = MatMul(x, w)", weights=[("w", (*other, k, n))], dynamic=dynamic, wrt=wrt)


# ----- Sampling -----

COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]


@given(
    numbers(1, 2),
    st.data(),
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(COORDINATES),
    st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
    st.booleans(),
    st.booleans(),
)
@settings(few, max_examples=60)
def test_resize(n, data, mode, coordinates, nearest, by_size, dynamic):
    n = 2 if mode == "cubic" else n
    sizes = data.draw(st.lists(numbers(2, 6), min_size=n, max_size=n))
    antialias = int(mode != "nearest" and n == 2 and data.draw(st.booleans()))
    attributes = f'mode="{mode}", coordinate_transformation_mode="{coordinates}", nearest_mode="{nearest}"'
    attributes += f", antialias={antialias}"
    if by_size:
        target, inputs = {"z": [1, 2, *(data.draw(numbers(1, 9)) for _ in sizes)]}, "x, , , z"
    else:
        scales = [data.draw(st.sampled_from([0.5, 0.7, 1.0, 1.5, 2.0, 3.0])) for _ in sizes]
        target, inputs = {"z": np.array([1, 1, *scales], np.float32)}, "x, , z"
    check((1, 2, *sizes), f"y = Resize<{attributes}>({inputs})", dynamic=dynamic, **target)


@given(numbers(1, 3), numbers(1, 3), st.sampled_from(["DCR", "CRD"]), st.booleans())
@settings(few, max_examples=20)
def test_depth_to_space_and_back(size, channels, mode, dynamic):
    check((2, channels * size**2, 2, 3), f'y = DepthToSpace<blocksize={size}, mode="{mode}">(x)', dynamic=dynamic)
    check((2, channels, 2 * size, 3 * size), f"y = SpaceToDepth<blocksize={size}>(x)", dynamic=dynamic)
