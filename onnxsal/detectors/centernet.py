"""CenterNet: `hm` (N, K, h, w), how likely a centre of each class is here; `wh`, sizes; `reg`, where in the cell.

Source: Zhou et al. 2019, arXiv:1904.07850. A cell proposes a box if no neighbour is likelier: a 3 x 3 maximum is its
suppression.
"""

import onnx_ir as ir

from onnxsal.detectors.emit import from_centres, grid
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value


@decoder("centernet")
def centernet(evidence: Evidence) -> Candidate | None:
    """Recognise `hm`, `wh` and `reg`, maps of one size."""
    if not evidence.has("hm", "wh", "reg") or len(evidence.outputs["hm"]) != 4:
        return None
    rows = evidence.outputs["hm"][2]
    stride = evidence.size[0] // rows if isinstance(rows, int) and rows else 4
    live = bool(evidence.behind("hm", {"Sigmoid"}, 3))

    def decode(op: Op) -> Proposals:
        heat = find_value(op.graph, "hm")
        heat = heat if live else op.Sigmoid(heat)
        peak = op.MaxPool(heat, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        heat = op.Mul(heat, op.cast(op.Equal(heat, peak), heat.dtype))
        sizes, offsets = (_rows(op, find_value(op.graph, name)) for name in ("wh", "reg"))
        corners, scale = (op.const(a, sizes.dtype) for a in grid(evidence.size, (stride,)))
        centres = op.Mul(op.Add(offsets, corners), scale)
        return Proposals(from_centres(op, centres, op.Mul(sizes, scale)), _rows(op, heat))

    said = ["outputs `hm`, `wh`, `reg`", f"stride {stride}", "hm is a sigmoid" if live else "hm is of logits"]
    return Candidate("centernet", said, decode, 0.9, evidence.levels((stride,)))


def _rows(op: Op, value: ir.Value) -> ir.Value:
    """Return (N, C, h, w) as (N, h * w, C)."""
    return op.Transpose(op.Reshape(value, [0, 0, -1]), perm=[0, 2, 1])
