"""Names and types of a model that explainers could trip over."""

import numpy as np
import pytest
from support import papers
from support.explainable import fill, replaced

import onnxsal


@pytest.mark.parametrize("name", ["target", "attribution", "saliency_map", "target_score"])
def test_a_layer_with_the_name_of_something_added_is_found_by_it(name, rng):
    text = replaced(("a2 = Relu", f"{name} = Relu"), ("GlobalAveragePool(a2)", f"GlobalAveragePool({name})"))
    x = rng.standard_normal((2, 3, 12, 12)).astype(np.float32)
    model, plain = onnxsal.load(fill(text)), onnxsal.load(fill(papers.TEXT))
    assert model.inspect().default_layer == name
    for mine, other in zip(model.explain(x), plain.explain(x, layer="a2"), strict=True):
        assert mine.settings["layer"] == name
        np.testing.assert_allclose(mine.attribution, other.attribution, rtol=1e-5)


def test_an_output_called_score_is_kept(rng):
    text = replaced(("[N,4] logits)", "[N,4] score)"), ("logits = ", "score = "))
    model = onnxsal.load(fill(text))
    assert [v.name for v in model.compile("gradient").graph.outputs] == ["score", "attribution", "saliency_map"]
    found = model.explain(rng.standard_normal((1, 3, 12, 12)).astype(np.float32), "gradient")
    assert np.isfinite((found[0] if isinstance(found, list) else found).score)


def test_a_double_image_before_a_float_network_is_explained(rng):
    text = replaced(
        ("float[N,3,12,12] image", "double[N,3,12,12] given"), ("c1 = ", "image = Cast<to=1>(given)\n c1 = ")
    )
    x = rng.standard_normal((2, 3, 12, 12))
    mine, other = onnxsal.load(fill(text)), onnxsal.load(fill(papers.TEXT))
    for a, b in zip(
        mine.explain(x, "guided-grad-cam"), other.explain(x.astype(np.float32), "guided-grad-cam"), strict=True
    ):
        np.testing.assert_allclose(a.attribution, b.attribution, rtol=1e-4, atol=1e-6)
