"""Fourier transforms: real and complex, one-sided, inverse, cut and padded, along any axis, in frames."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(4)


def dft(attributes, size, length=None, *, shape=None, note="", **settings):
    """Transform the middle axis of (2, 6, size); `length` cuts or pads it."""
    n = "" if length is None else f"<int64 n = {{{length}}}>"
    text = (
        f"(double[{shape or f'2,6,{size}'}] x) => (double[a,b,c] y) {n}"
        f" {{ y = DFT<{attributes}>(x{', n' if length is not None else ''}) }}"
    )
    feeds = {"x": rng.standard_normal((2, 6, size))}
    called = f"{attributes}, {'real' if size == 1 else 'complex'}, length {length}{note and ', ' + note}"
    # Some of the reference evaluator's transforms go through complex64.
    return case("DFT", text, feeds=feeds, numeric="ort double", runtimes=("ort",), note=called, **settings)


def moved(axis, opset, text, feeds=()):
    feeds = {"x": rng.standard_normal((3, 4, 5, 2))} | dict(feeds)
    return case(
        "DFT", text, feeds=feeds, opset=opset, runtimes=("ort",), numeric="ort double", note=f"{axis}, opset {opset}"
    )


def stft(attributes, inputs, size, *, feeds=(), note="", shapes=None):
    """Part a signal of 20 places in frames of 8, each 3 behind the other; `inputs` are those behind the step."""
    said = shapes or (f"2,20,{size}", "8")
    window = f", double[{said[1]}] w" if "w" in inputs else ""
    text = (
        f"(double[{said[0]}] x{window}) => (double[a,b,c,d] y) <int64 s = {{3}}, int64 n = {{8}}>"
        f" {{ y = STFT<{attributes}>(x, s, {inputs}) }}"
    )
    feeds = {"x": rng.standard_normal((2, 20, size))} | ({"w": rng.standard_normal(8)} if window else {})
    called = f"{attributes}, {inputs}, {'real' if size == 1 else 'complex'}{note and ', ' + note}"
    return case("STFT", text, feeds=feeds, runtimes=("ort",), numeric="ort double", note=called)


CASES = [
    *(
        dft(f"inverse={inverse},onesided={onesided}", size, length)
        for inverse, onesided, size in ((0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 0, 2), (1, 1, 2))
        # ONNX Runtime's inverse is wrong where the length does not go with the half of the frequencies that it reads.
        for length in ((None, 4, 5, 9) if not (inverse and onesided) else (None, 10, 11))
    ),
    *(
        dft(f"inverse={inverse},onesided={onesided}", size, length, shape="a,b,c", note="sizes known at run time only")
        for inverse, onesided, size, length in (
            (0, 1, 1, None),
            (0, 1, 1, 5),
            (1, 1, 2, None),
            (1, 1, 2, 11),
            (1, 0, 2, 5),
        )
    ),
    moved("the first axis", 17, "(double[3,4,5,2] x) => (double[a,b,c,d] y) { y = DFT<axis=0>(x) }"),
    moved(
        "the second axis",
        20,
        "(double[3,4,5,2] x) => (double[a,b,c,d] y) <int64 a = {-3}> { y = DFT<inverse=1,onesided=1>(x, , a) }",
    ),
    moved(
        "an axis and a length that the run knows",
        20,
        "(double[3,4,5,2] x, int64 a, int64 n) => (double[] y) { y = DFT(x, n, a) }",
        {"a": np.int64(1), "n": np.int64(6)},
    ),
    *(
        stft(f"onesided={onesided}", inputs, size)
        for onesided in (0, 1)
        for inputs in (" , n", "w", "w, n")
        for size in (1, 2)
    ),
    stft("onesided=1", "w", 1, shapes=("b,t,c", "l"), note="sizes known at run time only"),
    case(
        "STFT",
        "(double[2,20,1] x, int64 s, double[8] w) => (double[a,b,c,d] y) { y = STFT(x, s, w) }",
        feeds={"s": np.int64(5)},
        runtimes=("ort",),
        numeric="ort double",
        note="a step that the run knows, onesided by default",
    ),
]
