"""Operators as older opsets wrote them: attributes that became inputs, defaults and meanings that changed."""

from dataclasses import dataclass, field

import numpy as np
import onnx

# The IR version that came with each opset; text models are parsed at 4 or later, below which weights are inputs too.
IR_VERSIONS = {7: 4, 8: 4, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
IR_VERSIONS |= {22: 10, 23: 11, 24: 12, 25: 12, 26: 13}


@dataclass(frozen=True)
class Spelling:
    """A model that is valid in some opsets.

    Attributes:
        first: The first of these opsets.
        last: The last.
        text: The model, in float32.
        feeds: Values for inputs, where a standard normal will not do.
    """

    first: int
    last: int
    text: str
    feeds: dict = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.text[self.text.index('{ ') :]} of {self.first} to {self.last}"

    def model(self, opset: int) -> onnx.ModelProto:
        return parse(self.text, opset)

    def opsets(self) -> list[int]:
        """Return the first opset of each stretch in which none of the operators changes."""
        operators = [node.op_type for node in self.model(self.first).graph.node]
        return first_of_each_version(operators, self.first, self.last)


def parse(text: str, opset: int) -> onnx.ModelProto:
    header = f'<ir_version: {IR_VERSIONS[opset]}, opset_import: ["" : {opset}]> agraph '
    return onnx.parser.parse_model(header + text)


def first_of_each_version(operators: list[str], first: int, last: int) -> list[int]:
    seen: dict[tuple[int, ...], int] = {}
    for opset in range(first, last + 1):
        seen.setdefault(tuple(onnx.defs.get_schema(o, opset, "").since_version for o in operators), opset)
    return list(seen.values())


def spelling(first: int, last: int, text: str, **feeds) -> Spelling:
    return Spelling(first, last, text, {k: np.asarray(v) for k, v in feeds.items()})


def on(shape: str, call: str) -> str:
    """Write `y = call`, of one input of a shape."""
    return f"(float[{shape}] x) => (float[] y) {{ y = {call} }}"


REDUCTIONS = [
    spelling(
        7, 12 if op == "ReduceSum" else 17, on("2,3,4", f"{op}{axes}(x)"), x=0.3 + np.arange(24).reshape(2, 3, 4) % 7
    )
    for op in ("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
    for axes in ("", "<axes=[1]>", "<axes=[0,2], keepdims=0>")
]
FLATTENED = [
    spelling(first, 12, on(shape, f"{op}{axis}(x)"))
    for op in ("Softmax", "LogSoftmax", "Hardmax")
    for shape in ("2,3,4", "a,b,c")
    for axis, first in (("", 7), ("<axis=0>", 7), ("<axis=2>", 7), ("<axis=-2>", 11))
]
ENLARGED = [
    made
    for mode in ("nearest", "linear")
    for scales in ("1.0,1.0,2.0,3.0", "1.0,1.0,1.5,1.7")
    for made in (
        spelling(7, 8, on("1,2,4,3", f'Upsample<mode="{mode}", scales=[{scales}]>(x)')),
        spelling(
            9, 9, f'(float[1,2,4,3] x) => (float[] y) <float[4] s={{{scales}}}> {{ y = Upsample<mode="{mode}">(x, s) }}'
        ),
    )
]
RESIZED = [
    spelling(
        10, 10, f'(float[1,2,4,6] x) => (float[] y) <float[4] s={{1,1,{s}}}> {{ y = Resize<mode="{mode}">(x, s) }}'
    )
    for mode in ("nearest", "linear")
    for s in ("2,3", "0.5,0.6", "0.5,2")
] + [
    spelling(
        11,
        12 if coordinates == "tf_half_pixel_for_nn" else 18,
        f"(float[1,2,4,6] x) => (float[] y) <float[8] r={{0,0,0.1,0.2,1,1,0.9,0.8}}, float[4] s={{1,1,2,0.7}}> "
        f'{{ y = Resize<mode="{mode}", coordinate_transformation_mode="{coordinates}">(x, r, s) }}',
    )
    for mode, coordinates in (
        ("nearest", "half_pixel"),
        ("nearest", "tf_half_pixel_for_nn"),
        ("linear", "tf_crop_and_resize"),
        ("cubic", "align_corners"),
    )
]
PADDED = [
    *[spelling(7, 10, on("4,5", f'Pad<mode="{mode}", pads=[1,2,2,1]>(x)')) for mode in ("constant", "reflect", "edge")],
    spelling(7, 10, on("4,5", "Pad<pads=[1,-2,-1,1], value=1.5>(x)")),
    spelling(7, 10, on("4,5", 'Pad<mode="edge", pads=[1,2,2,1], value=1.5>(x)')),
    spelling(11, 17, "(float[4,5] x) => (float[] y) <int64[4] p={1,2,2,1}, float v={2}> { y = Pad(x, p, v) }"),
]
POOLED = [
    spelling(7, 26, on("1,2,6,5", f"{op}<kernel_shape=[3,3], strides=[2,2]{more}>(x)"))
    for op in ("MaxPool", "AveragePool", "LpPool")
    for more in ("", ", pads=[1,0,1,1]", ', auto_pad="SAME_LOWER"')
] + [
    spelling(10, 26, on("1,2,6,5", "AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)")),
    spelling(7, 26, on("1,2,6,5", "AveragePool<kernel_shape=[2,2], pads=[1,1,0,0], count_include_pad=1>(x)")),
    spelling(10, 26, on("1,2,6,5", "MaxPool<kernel_shape=[2,2], dilations=[2,2]>(x)")),
    spelling(
        8, 26, "(float[1,2,6,5] x) => (float[] y, int64[] i) { y, i = MaxPool<kernel_shape=[2,2], storage_order=1>(x) }"
    ),
    spelling(7, 21, on("1,2,6,5", "GlobalLpPool<p=3>(x)")),
]
PARTED = [
    spelling(7, 9, on("4,5", "Slice<starts=[1,-4], ends=[3,-1]>(x)")),
    spelling(7, 9, on("a,b", "Slice<starts=[1], ends=[1000], axes=[1]>(x)")),
    spelling(7, 12, "(float[4,5] x) => (float[] y, float[] z) { y, z = Split<split=[1,3]>(x) }"),
    spelling(7, 12, "(float[4,6] x) => (float[] y, float[] z) { y, z = Split<axis=1>(x) }"),
    spelling(13, 17, "(float[4,6] x) => (float[] y) { y, z = Split(x) }"),
    spelling(7, 9, "(float[3,5] x) => (float[] y, int64[] i) { y, i = TopK<k=2>(x) }"),
    spelling(10, 10, "(float[3,5] x) => (float[] y, int64[] i) <int64[1] k={2}> { y, i = TopK(x, k) }"),
    spelling(7, 12, on("1,3,1", "Squeeze<axes=[0,2]>(x)")),
    spelling(7, 12, on("1,3,1", "Squeeze(x)")),
    spelling(7, 12, on("3,2", "Unsqueeze<axes=[0,2]>(x)")),
    spelling(11, 12, on("3,2", "Unsqueeze<axes=[-1]>(x)")),
]
WRITTEN = [
    spelling(
        first,
        last,
        f"(float[3,3] x, int64[2,3] i, float[2,3] u) => (float[] y) {{ y = {op}{axis}(x, i, u) }}",
        i=[[1, 0, 2], [0, 2, 1]],
    )
    for first, last, op in ((9, 10, "Scatter"), (11, 15, "ScatterElements"))
    for axis in ("", "<axis=1>")
]
RECURRENT = [
    spelling(
        7,
        13,
        f"(float[3,2,2] x, float[2,{3 * gates},2] w, float[2,{3 * gates},3] r) => (float[] y) "
        f'{{ y = {op}<hidden_size=3, direction="bidirectional">(x, w, r) }}',
    )
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
]
SPELLINGS = [
    *REDUCTIONS,
    *FLATTENED,
    *ENLARGED,
    *RESIZED,
    *PADDED,
    *POOLED,
    *PARTED,
    *WRITTEN,
    *RECURRENT,
    *[spelling(7, 10, on("4,5", f"Clip{bounds}(x)")) for bounds in ("", "<min=-0.5>", "<min=-0.5, max=0.7>")],
    spelling(7, 11, on("2,3", "Dropout<ratio=0.3>(x)")),
    spelling(7, 11, "(float[2,3] x) => (float[] y) { y, mask = Dropout(x) }"),
    spelling(
        7,
        14,
        "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[] y) "
        "{ y = BatchNormalization<epsilon=0.01, momentum=0.8>(x, s, b, m, v) }",
        v=[0.5, 1, 2],
    ),
    spelling(7, 10, "(float[2,3] a, float[3,4] b, float[4] c) => (float[] y) { y = Gemm<alpha=0.5>(a, b, c) }"),
    spelling(7, 10, on("1,8,2,3", "DepthToSpace<blocksize=2>(x)")),
    spelling(9, 26, on("1,2,3,4", "MeanVarianceNormalization(x)")),
    *[
        spelling(
            16,
            19,
            f"(float[1,2,4,5] x, float[1,3,2,2] g) => (float[] y) "
            f'{{ y = GridSample<mode="{mode}", padding_mode="{padding}">(x, g) }}',
        )
        for mode, padding in (("bilinear", "zeros"), ("bicubic", "reflection"), ("nearest", "border"))
    ],
    spelling(
        10,
        15,
        "(float[1,2,6,6] x, int64[2] b) => (float[] y) <float[2,4] r={0.3,0.4,3.1,3.2,1,1,4.2,5}> "
        "{ y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, r, b) }",
        b=[0, 0],
    ),
    spelling(11, 26, "(float[2,3] a, float[3,4] b) => (float[] y) { y = Gemm(a, b) }"),
    spelling(7, 26, "(float[2] x) => (float[2] y) { c = Constant<value=float[2] {1,2}>() y = Mul(x, c) }"),
]
