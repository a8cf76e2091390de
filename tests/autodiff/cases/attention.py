"""Attention, with masks and caches of all kinds and in each of its outputs, and RotaryEmbedding."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(7)

INPUTS = ["q", "k", "v", "m", "pk", "pv", "n"]
PLAIN = {"q": "2,4,3,8", "k": "2,4,5,8", "v": "2,4,5,6"}
GROUPED = PLAIN | {"k": "2,2,5,8", "v": "2,2,5,6"}
FLAT = {"q": "2,3,32", "k": "2,5,16", "v": "2,5,12"}
HEADS = "q_num_heads=4,kv_num_heads=2"
PAST = {"pk": "2,4,2,8", "pv": "2,4,2,6"}
# For what the reference evaluator gets wrong, or warns of: differences of a smooth function in float32.
SMOOTH_IN_ORT = {"runtimes": ("ort",), "numeric": "ort", "step": 1e-2, "rtol": 1e-3}
SEEN = rng.random((3, 5)) < 0.6
SEEN[1] = False


def attention(attributes, shapes, outputs="y", *, known=True, feeds=(), **settings):
    """Write Attention of inputs with the given shapes; `outputs` names those that are used, one behind the other.

    Without `known`, the graph does not tell the sizes, but for that of heads side by side, where ONNX infers 0.
    """
    feeds = dict(feeds)
    arrays = {n: rng.standard_normal([int(d) for d in s.split(",")]) for n, s in shapes.items()} | feeds
    if not known:
        shapes = {n: _unknown(n, s.split(",")) for n, s in shapes.items()}
    said = ", ".join(f"{_kind(arrays[n])}[{s}] {n}" for n, s in shapes.items())
    read = ", ".join(n if n in shapes else "" for n in INPUTS[: 1 + max(map(INPUTS.index, shapes))])
    used = [n for n in outputs.split(",") if n]
    flat = " ".join(f"flat_{n} = Reshape({n}, all)" for n in used)
    joined = ", ".join(f"flat_{n}" for n in used)
    operator = f"Attention<{attributes}>" if attributes else "Attention"
    text = (
        f"({said}) => (double[all] z) <int64[1] all = {{-1}}>"
        f" {{ {outputs} = {operator}({read}) {flat} z = Concat<axis=0>({joined}) }}"
    )
    return case("Attention", text, feeds=feeds if known else arrays, **{"opset": 23} | settings)


def _unknown(name, sizes):
    return ",".join(size if i == 2 and len(sizes) == 3 else f"{name}{i}" for i, size in enumerate(sizes))


def _kind(array):
    return {"f": "double", "b": "bool", "i": "int64"}[np.asarray(array).dtype.kind]


ATTENTION = [
    attention("", PLAIN, note="4-D"),
    attention("scale=0.3", GROUPED, note="heads in groups, scale"),
    attention(HEADS, FLAT, note="3-D, heads in groups"),
    attention(
        "q_num_heads=4,kv_num_heads=4",
        {"q": "2,3,32", "k": "2,5,32", "v": "2,5,24", "m": "3,5"},
        note="3-D, masked",
    ),
    *(
        attention(
            f"softcap=1.5,qk_matmul_output_mode={mode}",
            PLAIN | PAST | {"m": "3,7"},
            "y,npk,npv,qk",
            note=f"all inputs and outputs, softcap, mode {mode}",
            # The reference evaluator's mode 0 is behind the softcap.
            **({} if mode else SMOOTH_IN_ORT),
        )
        for mode in (0, 1, 2, 3)
    ),
    attention(HEADS, FLAT, "y,npk,npv,qk", note="all outputs without a past, 3-D"),
    *(attention("", PLAIN | {"m": m}, note=f"mask {m}") for m in ("2,4,3,5", "2,1,3,5", "4,3,5")),
    *(
        attention("is_causal=1,qk_matmul_output_mode=3", PLAIN, "y,,,qk", opset=opset, note=f"causal, opset {opset}")
        for opset in (23, 24, 25)
    ),
    attention(
        "is_causal=1",
        GROUPED | {"m": "3,7", "pk": "2,2,2,8", "pv": "2,2,2,6"},
        "y,npk,npv",
        note="causal behind a past, masked, heads in groups",
    ),
    attention(
        "qk_matmul_output_mode=3",
        PLAIN | {"m": "3,5"},
        "y,,,qk",
        feeds={"m": SEEN},
        note="a bool mask under which one query sees nothing",
        **SMOOTH_IN_ORT,
    ),
    attention(
        "",
        PLAIN | {"m": "3,5"},
        feeds={"m": np.where(SEEN, 0.5, -np.inf)},
        wrt=("q", "k", "v"),
        note="a float mask under which one query sees nothing",
        **SMOOTH_IN_ORT,
    ),
    attention(
        "is_causal=1,qk_matmul_output_mode=2",
        PLAIN | {"m": "3,5"},
        "y,,,qk",
        note="scores with a bias that hides some, of which ONNX Runtime hands out the lowest number",
        **SMOOTH_IN_ORT,
    ),
    *(
        attention(
            f"is_causal={causal}",
            PLAIN | {"n": "2"},
            feeds={"n": count},
            opset=24,
            note=f"{count} keys count, causal {causal}",
            **SMOOTH_IN_ORT,
        )
        for causal in (0, 1)
        for count in ([5, 4], [1, 2])
    ),
    attention("", PLAIN | {"m": "3,4"}, opset=25, note="a mask shorter than the keys"),
    attention(
        "",
        PLAIN | {"m": "3,2"},
        opset=25,
        feeds={"m": SEEN[:, :2]},
        note="a bool mask shorter than the keys",
        **SMOOTH_IN_ORT,
    ),
    attention("left_window_size=1,right_window_size=1", PLAIN, opset=25, note="a window"),
    attention("left_window_size=1,is_causal=1", PLAIN | PAST, "y,npk,npv", opset=25, note="a window behind a past"),
    attention(
        "is_causal=1",
        GROUPED | {"m": "3,7", "pk": "2,2,2,8", "pv": "2,2,2,6"},
        "y,npk,npv",
        known=False,
        note="sizes known at run time only",
    ),
    attention(HEADS, FLAT, known=False, note="3-D, sizes known at run time only"),
]


def rotary(attributes, shapes, feeds=None, **settings):
    """Write RotaryEmbedding, which has no double; it is bilinear, so differences are exact at any step."""
    said = ", ".join(f"{'int64' if n == 'p' else 'float'}[{s}] {n}" for n, s in shapes.items())
    operator = f"RotaryEmbedding<{attributes}>" if attributes else "RotaryEmbedding"
    text = f"({said}) => (float[] y) {{ y = {operator}({', '.join(shapes)}) }}"
    settings |= {"runtimes": ("ort",), "numeric": "ort"}
    return case("RotaryEmbedding", text, feeds=feeds or {}, opset=23, **settings)


TURNED = {"x": "2,4,3,8", "c": "2,3,4", "s": "2,3,4"}
PLACED = {"x": "2,4,3,8", "c": "9,3", "s": "9,3", "p": "2,3"}
PLACES = {"p": [[0, 5, 5], [8, 1, 0]]}

ROTARY = [
    rotary("", TURNED, note="halves"),
    rotary("interleaved=1", TURNED, note="interleaved"),
    *(
        rotary(
            f"rotary_embedding_dim=6,interleaved={i}", PLACED, PLACES, note=f"in part, places twice, interleaved {i}"
        )
        for i in (0, 1)
    ),
    rotary("num_heads=4", TURNED | {"x": "2,3,32"}, note="3-D"),
    rotary("num_heads=4,interleaved=1,rotary_embedding_dim=6", PLACED | {"x": "2,3,32"}, PLACES, note="3-D, all"),
    rotary(
        "rotary_embedding_dim=6",
        {"x": "n,h,s,d", "c": "m,r", "s": "m,r", "p": "n,s"},
        {"x": rng.standard_normal((2, 4, 3, 8)), "c": rng.standard_normal((9, 3)), "s": rng.standard_normal((9, 3))}
        | PLACES,
        note="sizes known at run time only",
    ),
]

CASES = [*ATTENTION, *ROTARY]
