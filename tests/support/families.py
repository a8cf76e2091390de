"""A head of each family that says one box of one class, as the family writes it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from support.heads import head

BOX = (8.0, 16.0, 40.0, 48.0)  # in pixels of an input of 64 x 64
CLASS, CLASSES = 2, 5
SCORE = 0.8
CELLS = 8 * 8 + 4 * 4 + 2 * 2
CENTRE = (24.0, 32.0, 32.0, 32.0)  # x, y, w, h


@dataclass(frozen=True)
class Head:
    """A head that says BOX, CLASS and SCORE.

    Attributes:
        decoder: That must recognise it.
        model: It.
        first: The number of its first class, where a background comes before.
        top_only: Whether it tells the best class only.
        inputs: What is fed beside the image.
        score: What it says, if not SCORE.
    """

    decoder: str
    model: onnx.ModelProto
    first: int = 0
    top_only: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (64, 64)
    classes: int = CLASSES
    score: float = SCORE
    index: int = CLASS


def rows(columns: int, count: int = CELLS, at: int = 7) -> np.ndarray:
    """Return (1, count, columns) of almost nothing, to be filled at `at`."""
    return np.full((1, count, columns), 1e-3, np.float32)


def probabilities(score: float = SCORE, classes: int = CLASSES) -> np.ndarray:
    p = np.full(classes, 0.01, np.float32)
    p[CLASS] = score
    return p


def yolov5() -> Head:
    out = rows(5 + CLASSES, 3 * CELLS)
    out[0, 30] = [*CENTRE, 0.9, *probabilities(SCORE / 0.9)]
    return Head("yolov5", head({"output0": out}))


def yolov6() -> Head:
    out = rows(4 + CLASSES)
    out[0, 7] = [*CENTRE, *probabilities()]
    joined = np.concatenate([out[..., :4], np.ones_like(out[..., :1]), out[..., 4:]], axis=2)
    model = head({"outputs": joined})
    # Boxes and classes are computed, the column between them is written down.
    graph = model.graph
    last = graph.node[-1]
    parts = [("boxes", joined[..., :4]), ("ones", joined[..., 4:5]), ("classes", joined[..., 5:])]
    for name, array in parts:
        graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}_given"))
    live = [onnx.helper.make_node("Add", [f"{n}_given", "nothing"], [n]) for n in ("boxes", "classes")]
    join = onnx.helper.make_node("Concat", ["boxes", "ones_given", "classes"], [last.output[0]], axis=2)
    del graph.node[2:]
    graph.node.extend([*live, join])
    return Head("yolov6", model)


def yolox_decoded() -> Head:
    out = rows(5 + CLASSES)
    out[0, 7] = [*CENTRE, 0.9, *probabilities(SCORE / 0.9)]
    model = head({"output": out})
    # Decoding takes the exponential of sizes.
    graph = model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.log(out), "logarithms"))
    del graph.node[2:]
    graph.node.extend(
        [
            onnx.helper.make_node("Add", ["logarithms", "nothing"], ["live"]),
            onnx.helper.make_node("Exp", ["live"], ["output"]),
        ]
    )
    return Head("yolox", model)


def yolox_raw() -> Head:
    out = rows(5 + CLASSES)
    # Cell (2, 3) of the grid of stride 8: its corner is (16, 24), the centre of the box one cell on.
    out[0, 3 * 8 + 2] = [1, 1, np.log(4), np.log(4), 0.9, *probabilities(SCORE / 0.9)]
    return Head("yolox", head({"output": out}))


def ultralytics() -> Head:
    out = rows(4 + CLASSES)
    out[0, 7] = [*CENTRE, *probabilities()]
    author = {"author": "Ultralytics", "task": "detect", "stride": "32", "names": str(dict(enumerate("abcde")))}
    return Head("ultralytics", head({"output0": out.transpose(0, 2, 1)}, metadata=author | {"imgsz": "[64, 64]"}))


def end_to_end() -> Head:
    out = rows(6, 300)
    out[0, 0] = [*BOX, SCORE, CLASS]
    return Head(
        "rows-of-6", head({"output0": out}, metadata={"author": "Ultralytics", "task": "detect"}), top_only=True
    )


def yolo_nas() -> Head:
    boxes, scores = rows(4), rows(CLASSES)
    boxes[0, 7], scores[0, 7] = BOX, probabilities()
    return Head("yolo-nas", head({"904": boxes, "913": scores}))


def pp_yoloe() -> Head:
    boxes, scores = rows(4), np.full((1, CLASSES, CELLS), 0.01, np.float32)
    boxes[0, 7], scores[0, :, 7] = BOX, probabilities()
    return Head("yolo-nas", head({"tmp_1": boxes.astype(np.float64), "concat_0": scores}))


def boxes_and_classes(centred: bool) -> Head:
    """Rows joined from boxes and classes; the second half of a box is a size, or a corner."""
    low, high, scores = rows(2), rows(2), rows(CLASSES)
    low[0, 7], high[0, 7], scores[0, 7] = CENTRE[:2] if centred else BOX[:2], BOX[2:], probabilities()
    model = head({"out": np.concatenate([low, high, scores], axis=2)})
    graph = model.graph
    parts = {"low": low, "high": high, "classes": scores, "corner": BOX[2:] - np.float32(CENTRE[2:])}
    graph.initializer.extend(onnx.numpy_helper.from_array(np.float32(a), f"{n}_given") for n, a in parts.items())
    del graph.node[2:]
    graph.node.extend(
        [
            *[onnx.helper.make_node("Add", [f"{n}_given", "nothing"], [n]) for n in ("low", "high", "classes")],
            onnx.helper.make_node(
                "Sub" if centred else "Add", ["high", "corner_given" if centred else "nothing"], ["h"]
            ),
            onnx.helper.make_node("Concat", ["low", "h"], ["boxes"], axis=2),
            onnx.helper.make_node("Concat", ["boxes", "classes"], ["out"], axis=2),
        ]
    )
    return Head("boxes-and-classes", model)


def end2end() -> Head:
    boxes, scores, classes = rows(4, 10), np.zeros((1, 10), np.float32), np.zeros((1, 10), np.int32)
    boxes[0, 0], scores[0, 0], classes[0, 0] = BOX, SCORE, CLASS
    outputs = {"num_dets": np.ones((1, 1), np.int32), "det_boxes": boxes, "det_scores": scores, "det_classes": classes}
    return Head("end2end", head(outputs), top_only=True)


def yolo_nas_end2end() -> Head:
    outputs = {
        "graph2_num_predictions": np.ones((1, 1), np.int64),
        "graph2_pred_boxes": np.array([[BOX, BOX]], np.float32),
        "graph2_pred_scores": np.array([[SCORE, -1]], np.float32),
        "graph2_pred_classes": np.array([[CLASS, -1]]),
    }
    return Head("end2end", head(outputs), top_only=True)


def yolov7_rows() -> Head:
    rows_of_7 = np.array([[0, *BOX, CLASS, SCORE]], np.float32)
    return Head("yolov7-end2end", head({"output": rows_of_7}, suppressed=True), top_only=True)


def yolo_nas_rows() -> Head:
    rows_of_7 = np.array([[0, *BOX, SCORE, CLASS]], np.float32)
    return Head("yolov7-end2end", head({"graph2_flat_predictions": rows_of_7}), top_only=True)


def yolov3() -> Head:
    x1, y1, x2, y2 = BOX
    boxes = rows(4, 30)
    boxes[0, 5] = [y1, x1, y2, x2]
    scores = np.full((1, CLASSES, 30), 0.01, np.float32)
    scores[0, CLASS, 5] = SCORE
    outputs = {"yolonms_layer_1": boxes, "yolonms_layer_1:1": scores, "yolonms_layer_1:2": np.zeros((1, 3), np.int32)}
    shape = {"image_shape": np.array([[64, 64]], np.float32)}
    return Head("yolov3", head(outputs, inputs=shape), inputs=shape)


def yolov4() -> Head:
    outputs = {}
    for i, stride in enumerate((8, 16, 32)):
        cells = 64 // stride
        outputs[f"Identity_{i}:0"] = np.full((1, cells, cells, 3, 5 + CLASSES), -9, np.float32)
    # Cell (1, 2) of stride 16, the middle of it, and the first anchor of that grid, 36 x 75.
    logits = [-9.0] * CLASSES
    logits[CLASS] = np.log(SCORE / (1 - SCORE))
    outputs["Identity_1:0"][0, 1, 1, 0] = [0, 0, np.log(32 / 36), np.log(32 / 75), 20, *logits]
    return Head("yolov4", head(outputs), score=SCORE)


def yolov4_decoded() -> Head:
    boxes, scores = np.zeros((1, 3 * CELLS, 1, 4), np.float32), np.full((1, 3 * CELLS, CLASSES), 0.01, np.float32)
    boxes[0, 30, 0], scores[0, 30] = np.array(BOX) / 64, probabilities()
    return Head("yolov4", head({"boxes": boxes, "confs": scores}))


def yolo_maps() -> Head:
    outputs = {f"map_{c}": np.full((1, 3, c, c, 5 + CLASSES), -9, np.float32) for c in (8, 4, 2)}
    # Cell (column 1, row 1) of stride 16, the middle of it, and YOLOv5's second anchor of that grid, 62 x 45.
    sizes = np.sqrt(np.array([32 / 62, 32 / 45])) / 2
    logits = np.full(CLASSES, -9.0)
    logits[CLASS] = np.log(SCORE / (1 - SCORE))
    outputs["map_4"][0, 1, 1, 1] = [0, 0, *np.log(sizes / (1 - sizes)), 20, *logits]
    return Head("yolo-maps", head(outputs))


def tiny_yolov2() -> Head:
    out = np.full((1, 125, 13, 13), -9, np.float32)
    # Cell (column 3, row 4), anchor 1: 3.42 x 4.41 cells of 32 pixels.
    out[0, 25:30, 4, 3] = [0, 0, np.log(2 / 3.42), np.log(3 / 4.41), 20]
    out[0, 30:50, 4, 3] = 0
    out[0, 30 + CLASS, 4, 3] = np.log(19 * SCORE / (1 - SCORE))
    return Head("tiny-yolov2", head({"grid": out}, (416, 416)), size=(416, 416), classes=20)


def nanodet() -> Head:
    cells = CELLS + 1
    out = np.full((1, cells, CLASSES + 32), 0, np.float32)
    # Cell (column 3, row 4) of stride 8: its corner is (24, 32), two strides from each side.
    out[0, 4 * 8 + 3, :CLASSES] = probabilities()
    bins = np.full((4, 8), -40, np.float32)
    bins[:, 2] = 40
    out[0, 4 * 8 + 3, CLASSES:] = bins.ravel()
    return Head("nanodet", head({"output": out}))


def nanodet_before_plus() -> Head:
    """Three grids, eleven distances a side, from the middle of the cell."""
    out = np.full((1, CELLS, CLASSES + 44), 0, np.float32)
    # Cell (column 2, row 3) of stride 8: its middle is (20, 28); 1.5 and 2.5 strides to the sides.
    out[0, 3 * 8 + 2, :CLASSES] = probabilities()
    bins = np.full((4, 11), -40, np.float32)
    bins[:2, 1:3] = bins[2:, 2:4] = 40
    out[0, 3 * 8 + 2, CLASSES:] = bins.ravel()
    return Head("nanodet", head({"output": out}))


def centernet() -> Head:
    heat = np.full((1, CLASSES, 16, 16), 0.01, np.float32)
    heat[0, CLASS, 8, 6] = SCORE
    heat[0, CLASS, 8, 7] = SCORE - 0.1  # a neighbour that is less likely proposes nothing
    sizes, offsets = np.full((2, 1, 2, 16, 16), 0, np.float32)
    sizes[0, :, 8, 6] = sizes[0, :, 8, 7] = 8
    return Head("centernet", head({"hm": heat, "wh": sizes, "reg": offsets}, through={"hm": "Sigmoid"}))


def retinanet(live: bool) -> Head:
    outputs = {}
    grids = [64 // stride for stride in (8, 16, 32)]
    for cells in grids:
        outputs[f"classes_{cells}"] = np.full((1, 9 * CLASSES, cells, cells), 0.01 if live else -9, np.float32)
    for cells in grids:
        outputs[f"boxes_{cells}"] = np.zeros((1, 36, cells, cells), np.float32)
    # Cell (column 1, row 2) of stride 16, middle (24, 40); its anchor 1 is 44 x 88: sides 16 / sqrt(2) and twice that,
    # rounded to 11 and 22, times 4.
    outputs["classes_4"][0, 1 * CLASSES + CLASS, 2, 1] = SCORE if live else np.log(SCORE / (1 - SCORE))
    outputs["boxes_4"][0, 4:8, 2, 1] = [0, (32 - 40) / 88, np.log(32 / 44), np.log(32 / 88)]
    through = {name: "Sigmoid" for name in outputs if live and name.startswith("classes")}
    return Head("retinanet", head(outputs, through=through))


def detr() -> Head:
    logits = np.zeros((1, 100, CLASSES + 1), np.float32)
    logits[0, :, CLASSES] = 10
    logits[0, 9] = np.log([0.04, 0.04, SCORE, 0.04, 0.04, 0.04])
    boxes = np.full((1, 100, 4), 0.5, np.float32)
    boxes[0, 9] = np.array(CENTRE) / 64
    return Head("detr", head({"logits": logits, "pred_boxes": boxes}))


def rt_detr() -> Head:
    logits = np.full((1, 300, CLASSES), -8, np.float32)
    logits[0, 9, CLASS] = np.log(SCORE / (1 - SCORE))
    boxes = np.full((1, 300, 4), 0.5, np.float32)
    boxes[0, 9] = np.array(CENTRE) / 64
    return Head("detr", head({"logits": logits, "pred_boxes": boxes}))


def rf_detr() -> Head:
    """As its project exports it, of five labels and a column more."""
    logits = np.full((1, 300, CLASSES + 1), -8, np.float32)
    logits[0, 9, CLASS] = np.log(SCORE / (1 - SCORE))
    boxes = np.full((1, 300, 4), 0.5, np.float32)
    boxes[0, 9] = np.array(CENTRE) / 64
    return Head("detr", head({"dets": boxes, "labels": logits}))


def rt_detr_native() -> Head:
    labels, boxes, scores = np.zeros((1, 300), np.int64), rows(4, 300), np.zeros((1, 300), np.float32)
    labels[0, 0], boxes[0, 0], scores[0, 0] = CLASS, BOX, SCORE
    sizes = {"orig_target_sizes": np.array([[64, 64]], np.int64)}
    model = head({"labels": labels, "boxes": boxes, "scores": scores}, inputs=sizes)
    return Head("boxes-scores-labels", model, top_only=True, inputs=sizes)


def torchvision() -> Head:
    outputs = {
        "4012": np.array([BOX], np.float32),
        "4014": np.array([CLASS], np.int64),
        "4013": np.array([SCORE], np.float32),
    }
    return Head("boxes-scores-labels", head(outputs), first=1, top_only=True)


def ssd() -> Head:
    fractions = np.array([[np.array(BOX) / 64]], np.float32)
    outputs = {"bboxes": fractions, "labels": np.array([[CLASS]]), "scores": np.array([[SCORE]], np.float32)}
    return Head("boxes-scores-labels", head(outputs), first=1, top_only=True)


def tensorflow(raw: bool, number: str = "") -> Head:
    x1, y1, x2, y2 = np.array(BOX) / 64
    boxes = np.zeros((1, 10, 4), np.float32)
    boxes[0, 3] = [y1, x1, y2, x2]
    scores, classes = np.zeros((1, 10), np.float32), np.ones((1, 10), np.float32)
    scores[0, 3], classes[0, 3] = SCORE, CLASS
    outputs = {"detection_boxes": boxes, "detection_scores": scores, "detection_classes": classes}
    if raw:
        everything = np.full((1, 10, CLASSES + 1), 0.01, np.float32)
        everything[0, 3, CLASS] = SCORE
        outputs |= {"raw_detection_boxes": boxes, "raw_detection_scores": everything}
    named = {f"{name}{number}": array for name, array in outputs.items()}
    return Head("tensorflow", head(named), first=1, top_only=not raw)


def paddle() -> Head:
    outputs = {"multiclass_nms3_0.tmp_0": np.array([[CLASS, SCORE, *BOX]], np.float32), "num": np.ones(1, np.int32)}
    scale = {"scale_factor": np.ones((1, 2), np.float32)}
    return Head("paddle", head(outputs, inputs=scale), top_only=True, inputs=scale)


def mmdeploy() -> Head:
    outputs = {"dets": np.array([[[*BOX, SCORE]]], np.float32), "labels": np.array([[CLASS]], np.int64)}
    return Head("mmdeploy", head(outputs), top_only=True)


def efficientdet() -> Head:
    x1, y1, x2, y2 = BOX
    outputs = {"detections:0": np.array([[[0, y1, x1, y2, x2, SCORE, CLASS]]], np.float32)}
    return Head("efficientdet", head(outputs), first=1, top_only=True)


def ultraface() -> Head:
    scores, boxes = rows(2, 20), rows(4, 20)
    scores[0, 4], boxes[0, 4] = [1 - SCORE, SCORE], np.array(BOX) / 64
    return Head("ultraface", head({"scores": scores, "boxes": boxes}), first=1, classes=2, index=1)


def scrfd() -> Head:
    outputs = {}
    for what, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            outputs[f"{what}_{stride}"] = np.full((1, 2 * (64 // stride) ** 2, width), 0.01, np.float32)
    # The second anchor of cell (column 1, row 2) of stride 16: (16, 32) is its corner.
    outputs["score_16"][0, 2 * 9 + 1] = SCORE
    outputs["bbox_16"][0, 2 * 9 + 1] = [0.5, 1, 1.5, 1]
    return Head("scrfd", head(outputs), classes=1, index=0)


def retinaface() -> Head:
    loc, conf, landmarks = rows(4, 2 * CELLS), rows(2, 2 * CELLS), rows(10, 2 * CELLS)
    # The second prior of cell (column 1, row 2) of stride 16: 128 pixels around (24, 40).
    at = 2 * 64 + 2 * 9 + 1
    loc[0, at] = [0, (32 - 40) / 128 / 0.1, np.log(32 / 128) / 0.2, np.log(32 / 128) / 0.2]
    conf[0, at] = [1 - SCORE, SCORE]
    return Head("retinaface", head({"loc": loc, "conf": conf, "landm": landmarks}), first=1, classes=2, index=1)


def yunet() -> Head:
    outputs = {}
    for what, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            outputs[f"{what}_{stride}"] = np.full((1, (64 // stride) ** 2, width), 0.01, np.float32)
    # Cell (column 1, row 2) of stride 16: half a cell to the right.
    outputs["cls_16"][0, 9], outputs["obj_16"][0, 9] = SCORE * SCORE / 0.9, 0.9
    outputs["bbox_16"][0, 9] = [0.5, 0, np.log(2), np.log(2)]
    return Head("yunet", head(outputs), classes=1, index=0)


HEADS = [
    yolov5(),
    yolov6(),
    yolox_decoded(),
    yolox_raw(),
    ultralytics(),
    end_to_end(),
    yolo_nas(),
    yolo_nas_rows(),
    pp_yoloe(),
    boxes_and_classes(centred=True),
    boxes_and_classes(centred=False),
    end2end(),
    yolo_nas_end2end(),
    yolov7_rows(),
    yolov3(),
    yolov4(),
    yolov4_decoded(),
    yolo_maps(),
    tiny_yolov2(),
    nanodet(),
    nanodet_before_plus(),
    centernet(),
    retinanet(live=True),
    retinanet(live=False),
    detr(),
    rt_detr(),
    rf_detr(),
    rt_detr_native(),
    torchvision(),
    ssd(),
    tensorflow(raw=True),
    tensorflow(raw=False),
    tensorflow(raw=True, number=":0"),
    tensorflow(raw=False, number=":0"),
    paddle(),
    mmdeploy(),
    efficientdet(),
    ultraface(),
    scrfd(),
    retinaface(),
    yunet(),
]
