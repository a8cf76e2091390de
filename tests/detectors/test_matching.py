"""However proposals are written, they are found by the final boxes among them, and read in the graph as they were."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.testing import assert_allclose
from support.heads import head

from onnxsal.detectors.detections import Detections
from onnxsal.detectors.matching import Candidates, match, places_of
from onnxsal.graph.builder import Op

SIZE = (64, 96)  # height, width
COUNT, CLASSES = 12, 3
WHOLE = np.array([96, 64, 96, 64])


def proposals() -> tuple[np.ndarray, np.ndarray]:
    """Return corners (12, 4) in pixels and probabilities (12, 3)."""
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 30, (COUNT, 2))
    return np.concatenate([low, low + rng.uniform(6, 30, (COUNT, 2))], axis=1), rng.uniform(
        0.05, 0.95, (COUNT, CLASSES)
    )


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def centred(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def anchors() -> np.ndarray:
    low = np.random.default_rng(6).uniform(0, 30, (COUNT, 2))
    return np.concatenate([low, low + 20], axis=1)


def offsets(boxes: np.ndarray) -> np.ndarray:
    own, given = centred(boxes), centred(anchors())
    return np.concatenate([(own[:, :2] - given[:, :2]) / given[:, 2:], np.log(own[:, 2:] / given[:, 2:])], axis=1)


def distances(boxes: np.ndarray) -> np.ndarray:
    given = centred(anchors())
    middle, sides = given[:, :2], given[:, 2:]
    return np.concatenate([(middle - boxes[:, :2]) / sides, (boxes[:, 2:] - middle) / sides], axis=1)


def each_class(boxes: np.ndarray) -> np.ndarray:
    """Return (12, 1 + 3, 4): the background's box, and those of the classes, each 1.5 pixels beside the last."""
    return np.stack([boxes - 40, *(boxes + 1.5 * k for k in range(CLASSES))], axis=1)


def background(p: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((COUNT, 1), 0.02), p], axis=1)


def forms() -> dict[str, dict[str, np.ndarray]]:
    b, p = proposals()
    centredness = np.random.default_rng(7).uniform(0.5, 0.9, (COUNT, 1))
    return {
        "corners": {"boxes": b[None], "scores": p[None]},
        "rows": {"boxes": b, "scores": p},
        "y first": {"boxes": b[None, :, [1, 0, 3, 2]], "scores": p[None]},
        "centres, classes beside": {"boxes": np.concatenate([centred(b), p], axis=1)[None]},
        "turned": {"boxes": np.concatenate([centred(b), p], axis=1).T[None]},
        "fractions": {"boxes": (b / WHOLE)[None], "scores": logit(p)[None]},
        "a background": {"boxes": b, "scores": background(p)},
        "offsets": {"offsets": offsets(b)[None], "anchors": anchors(), "scores": logit(p)[None]},
        "distances": {"offsets": distances(b)[None], "anchors": anchors(), "scores": logit(p)[None]},
        "centredness": {"boxes": b, "scores": logit(p)[None], "centred": logit(centredness)[None]},
        "a box for each class": {"boxes": each_class(b), "scores": background(p)},
        "a larger image": {"boxes": b * 2, "scores": p, "resized": np.zeros((1, 3, 128, 192))},
        "cut": {"boxes": b - 8, "scores": p},
    }


def final(form: str) -> Detections:
    """Return three detections: proposals 2, 5 and 7, of their likeliest class."""
    boxes, p = proposals()
    rows = np.array([2, 5, 7])
    if form == "centredness":
        arrays = forms()[form]
        p = np.sqrt(1 / (1 + np.exp(-arrays["scores"][0])) / (1 + np.exp(-arrays["centred"][0])))
    best = p[rows].argmax(axis=1)
    boxes = boxes[rows]
    boxes = boxes + 1.5 * best[:, None] if form == "a box for each class" else boxes
    boxes = np.clip(boxes - 8, 0, WHOLE) if form == "cut" else boxes
    only = np.zeros((3, CLASSES), np.float32)
    only[range(3), best] = p[rows, best]
    first = 1 if form in ("a background", "a box for each class") else 0
    return Detections(boxes.astype(np.float32), only, np.ones(3, np.float32), True, False, first)


@pytest.mark.parametrize("form", forms())
def test_proposals_are_found_and_read(form):
    arrays, wanted = {name: a.astype(np.float32) for name, a in forms()[form].items()}, final(form)
    values = [name for name in arrays if name != "resized"]
    names = Candidates(values, values, [name for name in arrays if name == "resized"])
    peel = match(arrays, names, wanted, SIZE)
    assert peel is not None
    boxes, probabilities = read(arrays, peel)
    everything = Detections(boxes, probabilities, np.ones(len(boxes), np.float32), False, False, wanted.first_class)
    places = places_of(everything, wanted)
    assert_allclose(boxes[places], wanted.boxes, atol=1e-3)
    best = wanted.classes - wanted.first_class
    assert_allclose(probabilities[places, best], wanted.scores, atol=1e-5)
    # All classes of the proposal are known, not the best alone.
    assert (probabilities[places] > 0.01).all()
    assert probabilities.shape[1] == CLASSES


def read(arrays: dict[str, np.ndarray], peel) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes and the probabilities that a peel reads, run by ONNX Runtime."""
    model = ir.from_proto(head(arrays))
    op = Op(model.graph, 17, 8)
    found = peel.decode(op, SIZE)
    model.graph.outputs.clear()
    model.graph.outputs.extend([found.boxes, found.probabilities])
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    boxes, probabilities = session.run(None, {"images": np.zeros((1, 3, 64, 64), np.float32)})
    return boxes[0], probabilities[0]


def test_proposals_that_lack_one_final_box_are_refused():
    arrays, wanted = {name: a.astype(np.float32) for name, a in forms()["rows"].items()}, final("rows")
    arrays["boxes"][5] += 3
    assert match(arrays, Candidates(list(arrays), list(arrays), []), wanted, SIZE) is None


def test_proposals_that_lack_one_score_are_refused():
    arrays, wanted = {name: a.astype(np.float32) for name, a in forms()["rows"].items()}, final("rows")
    arrays["scores"][5] *= 0.9
    assert match(arrays, Candidates(list(arrays), list(arrays), []), wanted, SIZE) is None


def test_anchors_may_be_weights():
    arrays, wanted = {name: a.astype(np.float32) for name, a in forms()["offsets"].items()}, final("offsets")
    fixed = {"anchors": arrays.pop("anchors")}
    peel = match(arrays, Candidates(list(arrays), list(arrays), [], fixed), wanted, SIZE)
    assert peel is not None
    assert peel.boxes.anchors == "anchors"


def test_scores_come_first_where_every_count_is_open():
    """A file may call the count of scores another name than that of boxes."""
    from onnxsal.detectors.matching import MOST, candidates

    steps = " ".join(f"s{i + 1} = Relu(s{i})" for i in range(MOST))
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[n,4] b, float[1,r,3] p) => (float[k,4] out) {{
      boxes = Relu(b) scores = Sigmoid(p) centred = ReduceMax<axes=[2], keepdims=0>(scores) s0 = Transpose(centred)
      {steps} first = Squeeze(s{MOST}) top = Cast<to=7>(first)
      best, which = TopK(first, top) out = Gather(boxes, which)
    }}"""
    model = onnx.parser.parse_model(text)
    for i in range(MOST + 1):
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(f"s{i}", onnx.TensorProto.FLOAT, ["n", "m"]))
    for name, shape in (("boxes", ["n", 4]), ("scores", [1, "r", 3]), ("first", ["n"])):
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    assert "scores" in candidates(ir.from_proto(model)).scores


def test_what_was_selected_is_no_proposal():
    from onnxsal.detectors.matching import candidates

    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[1,100,4] b, float[1,100] s) => (float[1,10,4] out)
    <int64[1] ten = {10}, int64[3] wide = {1,10,4}, int64[3] turn = {1,10,1}> {
      boxes = Relu(b)
      best, which = TopK<axis=1>(s, ten)
      rows = Reshape(which, turn)
      each = Expand(rows, wide)
      kept = GatherElements<axis=1>(boxes, each)
      out = Abs(kept)
    }"""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    assert candidates(model).boxes == ["boxes"]
