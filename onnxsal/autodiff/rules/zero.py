"""Operators whose derivative is zero wherever it exists, by name.

An operator that is neither here nor in another file has no rule, and a gradient that has to pass it
is an error. Integer and boolean inputs carry no gradient and need no entry.
"""

from onnxsal.autodiff.registry import declare_undefined, declare_zero

# Constant between jumps.
for _op_type in ("Floor", "Ceil", "Round"):
    declare_zero(_op_type, "X")
declare_zero("Sign", "input")
# The edges of its filters are rounded to frequencies of the transform.
declare_zero("MelWeightMatrix", "lower_edge_hertz", "upper_edge_hertz")
declare_zero("Hardmax", "input")

# From numbers to truth values and indices.
for _op_type in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    declare_zero(_op_type, "A", "B")
declare_zero("IsNaN", "X")
declare_zero("IsInf", "X")
declare_zero("ArgMax", "data")
declare_zero("ArgMin", "data")
declare_zero("NonZero", "X")
declare_zero("NonMaxSuppression", "boxes", "scores", "iou_threshold", "score_threshold")

# Of the shape alone.
declare_zero("Shape", "data")
declare_zero("Size", "data")
declare_zero("EyeLike", "input")

# Drawn at random.
declare_zero("Bernoulli", "input")
declare_zero("Multinomial", "input")
declare_zero("RandomNormalLike", "input")
declare_zero("RandomUniformLike", "input")

# The position of ones is no smooth function of anything.
declare_zero("OneHot", "indices", "depth")

declare_undefined("BitCast", "input", why="its bits are read as another type's, which is no smooth function")
