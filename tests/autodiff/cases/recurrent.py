"""RNN, GRU and LSTM: each direction, with and without each optional input and output."""

import numpy as np
from support.derivatives import case

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FORMALS = {
    "RNN": ("b", "n", "h0"),
    "GRU": ("b", "n", "h0"),
    "LSTM": ("b", "n", "h0", "c0", "p"),
}


def recurrent(op_type, note, *, attributes="", optional=(), outputs="yh", d=1, sizes="4,2,3", **settings):
    """Build a case of 4 steps, 2 samples, 3 inputs and 2 states: twice the sum of `outputs`, each of y, h and c."""
    gates = 2 * GATES[op_type]
    state = f"double[{d},2,2]"
    types = {"b": f"double[{d},{2 * gates}]", "h0": state, "c0": state, "p": f"double[{d},6]"}
    inputs = ["x", "w", "r", *(name if name in optional else '""' for name in FORMALS[op_type])]
    while inputs[-1] == '""':
        inputs.pop()
    declared = "".join(f", {types[name]} {name}" for name in optional)
    names = [name if name in outputs else '""' for name in "yhc"[: 3 if op_type == "LSTM" else 2]]
    parts = [name for name in names if name != '""']
    total = f"k,{d},2,2" if "y" in outputs else f"{d},2,2"
    text = (
        f"(double[{sizes}] x, double[{d},{gates},3] w, double[{d},{gates},2] r{declared}) => (double[{total}] total) "
        f"{{ {', '.join(names)} = {op_type}<hidden_size=2{attributes}>({', '.join(inputs)})  "
        f"s = Sum({', '.join(parts)})  total = Add(s, s) }}"
    )
    return case(op_type, text, note=note, **settings)


BOTH = ',direction="bidirectional"'
BACK = ',direction="reverse"'

CASES = [
    *(recurrent(name, "all defaults") for name in GATES),
    *(recurrent(name, "bias and initial state", optional=("b", "h0")) for name in GATES),
    *(recurrent(name, "reverse", attributes=BACK, optional=("b", "h0")) for name in GATES),
    *(recurrent(name, "bidirectional", attributes=BOTH, optional=("b", "h0"), d=2) for name in GATES),
    *(recurrent(name, "only the last state is read", attributes=BOTH, outputs="h", d=2) for name in GATES),
    *(recurrent(name, "only the sequence is read", outputs="y") for name in GATES),
    *(
        recurrent(name, "no size known", attributes=BOTH, d=2, sizes="t,n,3", feeds={"x": np.ones((4, 2, 3))})
        for name in GATES
    ),
    recurrent("GRU", "linear before reset", attributes=",linear_before_reset=1", optional=("b", "h0")),
    recurrent(
        "GRU", "linear before reset, bidirectional", attributes=",linear_before_reset=1" + BOTH, optional=("b",), d=2
    ),
    recurrent("LSTM", "initial cell, last cell", optional=("b", "h0", "c0"), outputs="yhc"),
    # The evaluator takes what an unnamed output holds for what an unnamed input gets.
    recurrent("LSTM", "only the last cell is read", attributes=BACK, optional=("c0",), outputs="c", runtimes=("ort",)),
    recurrent("LSTM", "peepholes", optional=("b", "h0", "c0", "p"), outputs="yhc"),
    recurrent("LSTM", "peepholes, bidirectional", attributes=BOTH, optional=("b", "p"), outputs="yhc", d=2),
]
