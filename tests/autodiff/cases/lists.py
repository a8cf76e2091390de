"""Sequences of tensors, at places that only the run knows: elsewhere they are no sequences in canonical form."""

import numpy as np
from support.derivatives import case


def at(place):
    return {"i": np.array(place)}


CASES = [
    *(
        case(
            "SequenceAt",
            "(double[2,3] x, double[2,3] z, int64 i) => (double[2,3] y) "
            "{ q = SequenceConstruct(x, z)  a = SequenceAt(q, i)  y = Mul(a, a) }",
            feeds=at(place),
            runtimes=("ort",),
            note=f"place {place}",
        )
        for place in (0, 1, -1, -2)
    ),
    case(
        "SequenceConstruct",
        "(double[n,3] x, double[m,3] z, int64 i) => (double[k,3] y) "
        "{ q = SequenceConstruct(x, z, x)  r = SequenceErase(q, i)  y = ConcatFromSequence<axis=0>(r) }",
        feeds=at(1) | {"x": np.ones((2, 3)), "z": np.ones((4, 3))},
        runtimes=("ort",),
        note="entries of several sizes, one read twice",
    ),
    *(
        case(
            "SequenceInsert",
            "(double[1,3] x, double[2,3] z, double[3,3] t, int64 i) => (double[6,3] y) "
            "{ q = SequenceConstruct(x, z)  r = SequenceInsert(q, t, i)  y = ConcatFromSequence<axis=0>(r) }",
            feeds=at(place),
            runtimes=("ort",),
            # The evaluator takes the place behind the last for the first.
            numeric="ort",
            note=f"place {place}",
        )
        for place in (0, 1, 2, -1, -2)
    ),
    case(
        "SequenceInsert",
        "(double[4,3] x, double[2,3] t, int64[k] s) => (double[6,3] y) "
        "{ q = SplitToSequence(x, s)  r = SequenceInsert(q, t)  y = ConcatFromSequence<axis=0>(r) }",
        feeds={"s": np.array([1, 3])},
        runtimes=("ort",),
        note="at the end, sizes at run time",
    ),
    *(
        case(
            "SequenceErase",
            "(double[2,3] x, double[2,3] z, int64 i) => (double[1,2,3] y) "
            "{ q = SequenceConstruct(x, z)  r = SequenceErase(q, i)  y = ConcatFromSequence<axis=0,new_axis=1>(r) }",
            feeds=at(place),
            runtimes=("ort",),
            note=f"place {place}",
        )
        for place in (0, 1, -1, -2)
    ),
    case(
        "SequenceErase",
        "(double[6] x, int64[k] s) => (double[4] y) "
        "{ q = SplitToSequence(x, s)  r = SequenceErase(q)  y = ConcatFromSequence<axis=-1>(r) }",
        feeds={"s": np.array([1, 3, 2])},
        runtimes=("ort",),
        note="the last",
    ),
    case(
        "SplitToSequence",
        "(double[n,m] x, int64 i) => (double[p,q] y) { q = SplitToSequence<axis=1>(x)  y = SequenceAt(q, i) }",
        feeds={"x": np.ones((2, 5)), "i": np.array(1)},
        runtimes=("ort",),
        note="entries of one",
    ),
    case(
        "SplitToSequence",
        "(double[n,m] x, int64 i, int64 s) => (double[p,q] y) "
        "{ q = SplitToSequence<axis=-1>(x, s)  y = SequenceAt(q, i) }",
        feeds={"x": np.ones((2, 5)), "i": np.array(2), "s": np.array(2)},
        runtimes=("ort",),
        note="a size at run time, the last entry smaller",
    ),
    case(
        "SplitToSequence",
        "(double[n,m] x, int64 i) => (double[p] y) { q = SplitToSequence<axis=1,keepdims=0>(x)  y = SequenceAt(q, i) }",
        feeds={"x": np.ones((2, 5)), "i": np.array(3)},
        runtimes=("ort",),
        note="the axis goes",
    ),
    case(
        "ConcatFromSequence",
        "(double[n,m] x, int64[k] s) => (double[n,m] y) "
        "{ q = SplitToSequence<axis=1>(x, s)  r = ConcatFromSequence<axis=-1>(q)  y = Mul(r, r) }",
        feeds={"x": np.ones((2, 6)), "s": np.array([1, 2, 3])},
        runtimes=("ort",),
        note="entries of several sizes",
    ),
    case(
        "ConcatFromSequence",
        "(double[n,m] x) => (double[m,n] y) "
        "{ q = SplitToSequence<axis=1,keepdims=0>(x)  y = ConcatFromSequence<axis=0,new_axis=1>(q) }",
        feeds={"x": np.arange(6.0).reshape(2, 3)},
        runtimes=("ort",),
        note="a new axis",
    ),
    case(
        "SequenceLength",
        "(double[n,m] x) => (double[n,m] y) "
        "{ q = SplitToSequence(x)  n = SequenceLength(q)  f = CastLike(n, x)  y = Mul(x, f) }",
        feeds={"x": np.arange(6.0).reshape(2, 3)},
        runtimes=("ort",),
    ),
    *(
        case(
            "OptionalGetElement",
            "(double[2] x, double[2] w, bool c) => (double[2] y) { o = If(c) <then_branch = t () => "
            "(optional(double[2]) p) { p = Optional(x) }, else_branch = e () => (optional(double[2]) q) "
            "{ z = Neg(x)  q = Optional(z) }>  h = OptionalHasElement(o) "
            "y = If(h) <then_branch = u () => (double[2] r) { a = OptionalGetElement(o)  r = Mul(a, w) }, "
            "else_branch = f () => (double[2] s) { s = Neg(x) }> }",
            feeds={"c": np.array(condition)},
            runtimes=("ort",),
            # The evaluator cannot hand an optional on; differences of what is quadratic are exact.
            numeric="ort",
            note=str(condition),
        )
        for condition in (True, False)
    ),
]
