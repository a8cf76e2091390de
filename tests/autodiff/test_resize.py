"""What the gradient of Resize is written in: CUDA errs along the batch, and in products of what is turned."""

import onnx_ir as ir
import pytest
from autodiff.cases.resize import SPECIAL

from onnxsal.autodiff import vjp
from onnxsal.graph.types import constant


def added(case) -> list[ir.Node]:
    """Return the nodes that the gradient adds to the model."""
    model = ir.from_proto(case.model(double=False))
    return [n for n in vjp(model, of="y", wrt="x").graph if n.name.startswith("grad_")]


def stays_within_images(node: ir.Node) -> bool:
    """Tell whether a Resize changes no more than the sizes behind batch and channels."""
    axes = node.attributes.get("axes")
    if axes is not None:
        return min(axes.as_ints()) >= 2
    factors = next(v for v in node.inputs[2:] if v is not None)
    while constant(factors) is None:
        factors = factors.producer().inputs[0]
    return constant(factors)[:2].tolist() == [1, 1] and len(node.inputs[0].shape) == 4


@pytest.mark.parametrize("case", SPECIAL, ids=str)
def test_a_gradient_resizes_neither_batch_nor_channels_and_turns_no_image(case):
    nodes = added(case)
    assert all(stays_within_images(n) for n in nodes if n.op_type == "Resize")
    assert all(len(n.outputs[0].shape) == 2 for n in nodes if n.op_type == "Transpose")
