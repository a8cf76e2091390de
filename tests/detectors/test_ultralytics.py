"""How Ultralytics writes its heads: other pyramids, open sizes, masks, key points, turned boxes."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper
from support.heads import head

import onnxsal

BOX = (8.0, 16.0, 40.0, 48.0)  # in pixels of an input of 64 x 64
CENTRE = (24.0, 32.0, 32.0, 32.0)  # x, y, w, h
CLASSES = ("a", "b", "c")
PROBABILITIES = (0.01, 0.8, 0.02)
PHOTO = np.full((64, 64, 3), 100, np.uint8)


def metadata(task: str = "detect", **more: str) -> dict[str, str]:
    said = {"author": "Ultralytics", "task": task, "names": str(dict(enumerate(CLASSES))), "imgsz": "[64, 64]"}
    return said | {"stride": "32"} | more


def raw(columns: list[float], cells: int = 84) -> np.ndarray:
    """Return (1, 4 + K and more, cells) of almost nothing but for one proposal."""
    out = np.full((1, len(columns), cells), 1e-3, np.float32)
    out[0, :, 7] = columns
    return out


def final(columns: list[float]) -> np.ndarray:
    """Return (1, 300, 6 and more), one row of which is filled."""
    out = np.zeros((1, 300, len(columns)), np.float32)
    out[0, 0] = columns
    return out


def found_by(model: onnx.ModelProto) -> tuple[str, onnxsal.Detection]:
    loaded = onnxsal.load(model)
    (found,) = loaded.detect(PHOTO)
    return loaded.inspect().detectors[0]["decoder"], found


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32, 64), (16, 32)], ids=["P2", "P6", "tiny"])
def test_other_pyramids_are_recognised(strides):
    out = raw([*CENTRE, *PROBABILITIES], sum((64 // s) ** 2 for s in strides))
    decoder, found = found_by(head({"output0": out}, metadata=metadata()))
    assert decoder == "ultralytics"
    assert_allclose(found.box, BOX)


def test_an_export_of_open_sizes_is_recognised_at_the_size_of_the_card():
    """`dynamic=True` leaves heights, widths and the number of proposals to the run."""
    columns = 4 + len(CLASSES)
    weights = np.zeros((columns, 3, 8, 8), np.float32)
    kernels = numpy_helper.from_array(weights, "w")
    biases = numpy_helper.from_array(np.array([*CENTRE, *PROBABILITIES], np.float32), "b")
    nodes = []
    for stride in (8, 16, 32):
        conv = helper.make_node("Conv", ["images", "w", "b"], [f"m{stride}"], strides=[stride] * 2)
        nodes += [conv, helper.make_node("Reshape", [f"m{stride}", "shape"], [f"r{stride}"])]
    nodes.append(helper.make_node("Concat", ["r8", "r16", "r32"], ["output0"], axis=2))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", columns, "anchors"])
    shape = numpy_helper.from_array(np.array([0, columns, -1]), "shape")
    graph = helper.make_graph(nodes, "open", [image], [output], [kernels, biases, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata())
    decoder, found = found_by(model)
    assert decoder == "ultralytics"
    assert_allclose(found.box, BOX)


@pytest.mark.parametrize("names", [True, False], ids=["with labels", "without"])
def test_coefficients_of_masks_are_no_classes(names):
    out = raw([*CENTRE, *PROBABILITIES, *[5.0] * 32])
    said = metadata("segment") if names else {"author": "Ultralytics", "task": "segment", "imgsz": "[64, 64]"}
    decoder, found = found_by(head({"output0": out, "output1": np.ones((1, 32, 16, 16), np.float32)}, metadata=said))
    assert decoder == "ultralytics"
    assert (found.index, found.score) == (1, pytest.approx(0.8))


def test_key_points_are_no_classes_and_inspect_shows_the_head():
    out = raw([*CENTRE, *PROBABILITIES, *[30.0] * 6])
    decoder, found = found_by(head({"output0": out}, metadata=metadata("pose", kpt_shape="[2, 3]")))
    assert decoder == "ultralytics"
    assert (found.index, found.score) == (1, pytest.approx(0.8))


@pytest.mark.parametrize(
    ("task", "extra", "more"),
    [("segment", 32, {}), ("pose", 6, {"kpt_shape": "[2, 3]"})],
    ids=["masks", "key points"],
)
def test_rows_after_suppression_may_go_on_behind_the_class(task, extra, more):
    outputs = {"output0": final([*BOX, 0.8, 1, *[5.0] * extra])}
    outputs |= {"output1": np.ones((1, 32, 16, 16), np.float32)} if task == "segment" else {}
    decoder, found = found_by(head(outputs, metadata=metadata(task, **more)))
    assert decoder == "rows-of-6"
    assert_allclose(found.box, BOX)
    assert (found.index, found.score) == (1, pytest.approx(0.8))


@pytest.mark.parametrize("extra", [0, 32], ids=["boxes", "masks"])
def test_yolov5_writes_two_fields_of_metadata_and_coefficients_behind_its_classes(extra):
    out = np.full((1, 3 * 84, 8 + extra), 1e-3, np.float32)
    out[0, 30] = [*CENTRE, 0.9, *PROBABILITIES, *[5.0] * extra]
    outputs = {"output0": out} | ({"output1": np.ones((1, 32, 16, 16), np.float32)} if extra else {})
    model = head(outputs, metadata={"stride": "32", "names": str(dict(enumerate(CLASSES)))})
    decoder, found = found_by(model)
    assert decoder == "yolov5"
    assert (found.label, found.score) == ("b", pytest.approx(0.9 * 0.8))
    card = onnxsal.load(model).card.card
    assert (card.resize, card.pad_value) == ("letterbox", 114)


@pytest.mark.parametrize("form", ["probabilities", "score and class"])
def test_an_rt_detr_has_boxes_by_centre_as_fractions_of_a_stretched_photo(form):
    said = [*PROBABILITIES] if form == "probabilities" else [0.8, 1]
    out = np.full((1, 300, 4 + len(said)), 1e-3, np.float32)
    out[0, 5] = [*np.array(CENTRE) / 64, *said]
    model = head({"output0": out}, metadata=metadata(description="Ultralytics rtdetr-l model"))
    # Its deformable attention samples maps.
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 1, 2), np.float32), "places"))
    model.graph.node.insert(0, helper.make_node("GridSample", ["images", "places"], ["sampled"]))
    mean = next(node for node in model.graph.node if node.op_type == "ReduceMean")
    mean.input[0] = "sampled"
    decoder, found = found_by(model)
    assert decoder == "rt-detr-rows"
    assert_allclose(found.box, BOX, atol=1e-4)
    assert (found.index, found.score) == (1, pytest.approx(0.8))
    assert onnxsal.load(model).card.card.resize == "stretch"


TURNED = (32.0, 32.0, 20.0, 10.0)
ANGLE = np.pi / 6
# Half of 20 cos + 10 sin, and of 20 sin + 10 cos.
HULL = (32 - 11.160254, 32 - 9.330127, 32 + 11.160254, 32 + 9.330127)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_turned_box_counts_as_the_upright_one_around_it(sign: int) -> None:
    """YOLO26 may give a side less than nothing, and Ultralytics takes the corners all the same."""
    x, y, width, height = TURNED
    row = [x, y, width, sign * height, *PROBABILITIES, ANGLE]
    decoder, found = found_by(head({"output0": raw(row)}, metadata=metadata("obb")))
    assert decoder == "ultralytics"
    assert_allclose(found.box, HULL, atol=1e-4)
    assert (found.index, found.score) == (1, pytest.approx(0.8))


def test_a_turned_box_after_suppression_is_written_by_its_centre():
    decoder, found = found_by(head({"output0": final([*TURNED, 0.8, 1, ANGLE])}, metadata=metadata("obb")))
    assert decoder == "rows-of-6"
    assert_allclose(found.box, HULL, atol=1e-4)


def test_the_layer_of_a_box_is_none_of_the_branch_of_masks():
    """Prototypes of masks are maps like classes' scores, and their branch has the grid of the finest level."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def conv(source: str, made: str, channels: tuple[int, int], stride: int) -> str:
        kernel = rng.normal(0, 0.2, (*channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{made}_w"))
        pads = {"pads": [1] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", [source, f"{made}_w"], [f"{made}_c"], **pads))
        nodes.append(helper.make_node("Relu", [f"{made}_c"], [made]))
        return made

    p8 = conv(conv("images", "p4", (4, 3), 4), "p8", (8, 4), 2)
    p16 = conv(p8, "p16", (8, 8), 2)
    p32 = conv(p16, "p32", (8, 8), 2)
    masks = conv(conv(p8, "mask_branch", (8, 8), 1), "output1", (32, 8), 1)
    weights.append(numpy_helper.from_array(np.array([1, 4 + len(CLASSES) + 32, -1]), "shape"))
    for level in (p8, p16, p32):
        made = conv(level, f"head_{level}", (4 + len(CLASSES) + 32, 8), 1)
        nodes.append(helper.make_node("Reshape", [made, "shape"], [f"rows_{level}"]))
    nodes.append(helper.make_node("Concat", ["rows_p8", "rows_p16", "rows_p32"], ["joined"], axis=2))
    nodes.append(helper.make_node("Tanh", ["joined"], ["squeezed"]))
    lift = np.zeros((1, 39, 84), np.float32)
    lift[0, :4, 5], lift[0, 5, 5] = CENTRE, 0.5
    weights.append(numpy_helper.from_array(lift, "lift"))
    weights.append(numpy_helper.from_array(np.float32(1e-3), "little"))
    nodes.append(helper.make_node("Mul", ["squeezed", "little"], ["quiet"]))
    nodes.append(helper.make_node("Add", ["quiet", "lift"], ["output0"]))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    outputs = [
        helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 39, 84]),
        helper.make_tensor_value_info(masks, TensorProto.FLOAT, [1, 32, 8, 8]),
    ]
    graph = helper.make_graph(nodes, "masks", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata("segment"))
    photo = rng.integers(0, 255, PHOTO.shape, dtype=np.uint8)
    explained = onnxsal.load(model).explain(photo, "odam", "box:0")
    assert explained.settings["layer"] in ("p8", "head_p8", "head_p8_c")


def test_boxes_that_the_head_has_kept_stay_unless_more_is_to_be_suppressed():
    """They overlap by 0.6: an export suppresses from 0.7 on unless told otherwise, and so has left both."""
    out = final([*BOX, 0.8, 1])
    out[0, 1, :6] = [BOX[0], BOX[1] + 8, BOX[2], BOX[3] + 8, 0.7, 1]
    model = onnxsal.load(head({"output0": out}, metadata=metadata()))
    assert [d.score for d in model.detect(PHOTO)] == pytest.approx([0.8, 0.7])
    assert [d.score for d in model.detect(PHOTO, overlap=0.5)] == pytest.approx([0.8])


def test_overlapping_proposals_of_a_head_that_leaves_suppression_to_others_are_one_object():
    out = raw([*CENTRE, *PROBABILITIES])
    out[0, :, 9] = [CENTRE[0], CENTRE[1] + 8, *CENTRE[2:], 0.01, 0.7, 0.02]
    model = onnxsal.load(head({"output0": out}, metadata=metadata()))
    assert len(model.detect(PHOTO)) == 1
    assert len(model.detect(PHOTO, overlap=0.7)) == 2
