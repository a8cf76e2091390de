"""Softmax and LogSoftmax."""

from support.derivatives import case

CASES = [
    case(op_type, f"(double[{shape}] x) => (double[{shape}] y) {{ y = {op_type}{attributes}(x) }}")
    for op_type in ("Softmax", "LogSoftmax")
    for shape, attributes in (("2,5", ""), ("2,3,4", "<axis=1>"), ("a,b,c", "<axis=0>"), ("a,b", "<axis=-2>"))
]
