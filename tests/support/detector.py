"""A detector of coloured squares, small enough to know what it must say: YOLOX's layout, nothing learnt."""

import numpy as np
import onnx

SIZE = 64
CLASSES = 3


def detector(*, batch: str = "1") -> onnx.ModelProto:
    """Return a detector whose cells look at the mean colour around them.

    Input `images` (batch, 3, 64, 64); output `output` (batch, 84, 5 + 3), boxes not decoded: a cell of stride 8
    proposes a box of 16 pixels around its centre; its class is its colour, its objectness how strong that is.
    """
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    text = f"""{header} squares (float[{batch},3,64,64] images) => (float[{batch},84,8] output)
    <float[1] half = {{0.5}}, int64[3] rows = {{0,3,-1}}, int64[1] one = {{1}}, float gain = {{8.0}},
     float edge = {{4.0}}, float zero = {{0.0}}, float log2 = {{0.6931472}}> {{
      p8 = AveragePool<kernel_shape=[8,8], strides=[8,8]>(images)
      p16 = AveragePool<kernel_shape=[16,16], strides=[16,16]>(images)
      p32 = AveragePool<kernel_shape=[32,32], strides=[32,32]>(images)
      f8 = Reshape(p8, rows)
      f16 = Reshape(p16, rows)
      f32 = Reshape(p32, rows)
      colours = Concat<axis=2>(f8, f16, f32)
      scaled = Mul(colours, gain)
      shifted = Sub(scaled, edge)
      probabilities = Sigmoid(shifted)
      objectness = ReduceMax<axes=[1]>(probabilities)
      nothing = Mul(objectness, zero)
      offset = Add(nothing, half)
      size = Add(nothing, log2)
      all = Concat<axis=1>(offset, offset, size, size, objectness, probabilities)
      output = Transpose<perm=[0,2,1]>(all)
    }}"""
    return onnx.parser.parse_model(text)


CARD = {
    "task": "detection",
    "scale": 1 / 255,
    "mean": 0,
    "std": 1,
    "channels": "RGB",
    "size": [SIZE, SIZE],
    "labels": ["red", "green", "blue"],
}


def squares(*places: tuple[int, int, int]) -> np.ndarray:
    """Return a photo (64, 64, 3) with squares of 16 pixels: (class, x, y) each."""
    photo = np.zeros((SIZE, SIZE, 3), np.uint8)
    for colour, x, y in places:
        photo[y : y + 16, x : x + 16, colour] = 255
    return photo
