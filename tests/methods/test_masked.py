"""The model with masks in its graph: what it computes, and what it lets ONNX Runtime know."""

import numpy as np
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose
from support.explainable import loaded, random_input

from onnxsal.graph.inference import infer_shapes
from onnxsal.graph.types import dims
from onnxsal.methods.masked import build_masked
from onnxsal.sampling.designs import Independent
from onnxsal.sampling.feeds import image_feeds, mask_feeds
from onnxsal.sampling.masks import rise_space
from onnxsal.session import Session

SPACE = rise_space((2, 0, 12, 12), (12, 12), (4, 4))
DRAWS = Independent(SPACE, 0, 0.5).draw(0, 6)


def masked(net: str, *, filled: bool) -> ir.Model:
    network = loaded(net).network
    outputs = [str(v.name) for v in network.graph().graph.outputs]
    return build_masked(network.graph(), network.card.image.name, network.card.card.layout, outputs, filled=filled)


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = Session(ir.to_proto(model).SerializeToString(), ["CPUExecutionProvider"])
    return next(iter(session.run_whole(feeds).values()))


@pytest.mark.parametrize("net", ["small", "channels last"])
@pytest.mark.parametrize("fill", [0.0, 0.75])
def test_masks_made_in_the_graph_are_those_that_are_rendered(net, fill):
    x, layout = random_input(net, 1), loaded(net).card.card.layout
    hidden = np.full((1, 1, 1, 1), fill, np.float32)
    feeds = image_feeds(x, SPACE, hidden) | mask_feeds(SPACE, DRAWS)
    model = masked(net, filled=bool(fill))
    assert {str(v.name) for v in model.graph.inputs} == set(feeds)
    masks = np.expand_dims(SPACE.render(DRAWS), 1 if layout == "NCHW" else 3)
    plain = ir.to_proto(loaded(net).network.graph()).SerializeToString()
    expected = Session(plain, ["CPUExecutionProvider"]).run_whole(
        {loaded(net).card.image.name: hidden + masks * (x - hidden)}
    )
    assert_allclose(run(model, feeds), next(iter(expected.values())), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("filled", [False, True])
def test_sums_within_the_network_keep_addends_of_one_size(filled):
    """ONNX Runtime adds in place only then."""
    model = masked("residual", filled=filled)
    infer_shapes(model)
    sums = [node for node in model.graph if node.op_type == "Add" and not (node.name or "").startswith("mask")]
    assert sums
    for node in sums:
        left, right = (dims(v) for v in node.inputs)
        assert left == right
        assert None not in (left or (None,))
