"""What a sample takes in a run, against sums by hand."""

import numpy as np
import onnx
import onnx_ir as ir

from onnxsal.graph.measuring import measure

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,8,8] image, float[N,M] beside) => (float[N,4,64] y)
{
  wide = Conv<pads=[1,1,1,1]>(image, w)
  rectified = Relu(wide)
  narrow = Conv<pads=[1,1,1,1]>(rectified, v)
  y = Reshape(narrow, shape)
}
"""


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    weights = {"w": np.zeros((16, 3, 3, 3), np.float32), "v": np.zeros((4, 16, 3, 3), np.float32)}
    weights["shape"] = np.array([0, 4, 64])
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return ir.from_proto(proto)


def test_values_count_while_they_are_held():
    wide, narrow = 4 * 16 * 64, 4 * 4 * 64
    found = measure(model(), {"image": (1, 3, 8, 8)})
    assert found.peak == 2 * wide
    assert found.made == 2 * wide + narrow
    assert found.weights == 4 * (16 * 27 + 4 * 16 * 9) + 3 * 8


def test_larger_images_take_more():
    small, large = (measure(model(), {"image": (1, 3, n, n)}) for n in (8, 16))
    assert large.peak == 4 * small.peak
    assert large.weights == small.weights


def test_values_of_unknown_size_are_left_out():
    unknown = model()
    unknown.graph.inputs[0].shape = None
    for node in unknown.graph:
        for value in node.outputs:
            value.shape = None
    assert measure(unknown, {"image": (1, 3, 8, 8)}).made == 0
