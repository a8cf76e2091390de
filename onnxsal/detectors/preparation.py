"""How the detectors of a family are fed by those who made it: the best guess where nothing says it of a model."""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


def _fed(channels: str, scale: float, resize: str, pad: float = 0.0, mean: Any = (0.0,), std: Any = (1.0,)) -> Fields:
    return {"channels": channels, "scale": scale, "mean": mean, "std": std, "resize": resize, "pad_value": pad}


_ULTRALYTICS = _fed("RGB", 1 / 255, "letterbox", 114.0)

PREPARATION: Mapping[str, Fields] = {
    # github.com/ultralytics/ultralytics, data/augment.py, LetterBox; YOLOv5, v6 and v7 have it from there.
    "ultralytics": _ULTRALYTICS,
    "rows-of-6": _ULTRALYTICS,
    "yolov5": _ULTRALYTICS,
    "yolov6": _ULTRALYTICS,
    "yolo-maps": _ULTRALYTICS,
    "yolov7-end2end": _ULTRALYTICS,
    "end2end": _ULTRALYTICS,
    # github.com/onnx/models, yolov3; github.com/qqwweee/keras-yolo3, yolo3/utils.py, letterbox_image.
    "yolov3": _fed("RGB", 1 / 255, "letterbox", 128.0),
    # github.com/Megvii-BaseDetection/YOLOX, data/data_augment.py, ValTransform and preproc.
    "yolox": _fed("BGR", 1.0, "top_left_pad", 114.0),
    # github.com/RangiLyu/nanodet, config/nanodet-plus-m_416.yml.
    "nanodet": _fed("BGR", 1.0, "stretch", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
    # github.com/xingyizhou/CenterNet, lib/datasets/dataset/coco.py.
    "centernet": _fed(
        "BGR", 1 / 255, "letterbox", mean=(0.40789655, 0.44719303, 0.47026116), std=(0.2886383, 0.2740812, 0.27809834)
    ),
    # github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB, vision/ssd/config/fd_config.py.
    "ultraface": _fed("RGB", 1.0, "stretch", mean=(127.0,), std=(128.0,)),
    # github.com/deepinsight/insightface, model_zoo/scrfd.py.
    "scrfd": _fed("RGB", 1.0, "top_left_pad", mean=(127.5,), std=(128.0,)),
    # github.com/biubug6/Pytorch_Retinaface, detect.py.
    "retinaface": _fed("BGR", 1.0, "stretch", mean=(104.0, 117.0, 123.0)),
    # github.com/ShiqiYu/libfacedetection.train, and OpenCV's FaceDetectorYN.
    "yunet": _fed("BGR", 1.0, "stretch"),
}
"""Fields of the card, by decoder. Families that are fed in more than one way are left out."""
