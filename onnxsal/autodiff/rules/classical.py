"""Rules for operators of ai.onnx.ml that stand in front of, or behind, a network."""

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.autodiff.rules.tracing import trace

ML = "ai.onnx.ml"


@vjp("ArrayFeatureExtractor", wrt="X", domain=ML)
def array_feature_extractor(op, node, g):
    return trace(op, node.X, g, lambda x: op.Gather(x, op.Reshape(node.Y, [-1]), axis=-1))


@vjp("Scaler", wrt="X", domain=ML)
def scaler(op, node, g):
    # It gives float32 whatever it takes.
    return op.cast(op.Mul(g, op.const(node.attrs["scale"], g.dtype)), node.X.dtype)


# Constant between their thresholds.
declare_zero("Binarizer", "X", domain=ML)
declare_zero("TreeEnsemble", "X", domain=ML)
