"""DETR and its kin: `logits` (N, Q, K) and `pred_boxes` (N, Q, 4), boxes by centre as fractions of the input.

Sources: Carion et al. 2020, arXiv:2005.12872 (softmax, the last class is "no object"); Zhao et al. 2023,
arXiv:2304.08069 (RT-DETR: sigmoid, no such class). Exporters of both write the same names and shapes; RF-DETR
(github.com/roboflow/rf-detr, `models/lwdetr.py`, forward_export) calls its logits `labels` and its boxes `dets`.
"""

from onnxsal.detectors.emit import from_centres, part, to_pixels
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

RF_DETR = ("labels", "dets")
NAMES = (("logits", "pred_boxes"), ("pred_logits", "pred_boxes"), RF_DETR)
QUERIES = (100, 15, 125)
"""How many queries DETR and YOLOS have, and Table Transformers; Conditional DETR, RT-DETR and D-FINE have 300."""


@decoder("detr")
def detr(evidence: Evidence) -> Candidate | None:
    """Recognise class logits beside boxes of as many queries."""
    found = next((n for n in NAMES if evidence.has(*n)), None)
    if found is None:
        return None
    logits, boxes = found
    shape = evidence.outputs[logits]
    if len(shape) != 3 or evidence.outputs[boxes][2:] != (4,):
        return None
    softmax, reason = (False, "RF-DETR") if found == RF_DETR else _is_softmax(evidence, shape)

    def decode(op: Op) -> Proposals:
        fractions, scores = find_value(op.graph, boxes), find_value(op.graph, logits)
        corners = to_pixels(op, from_centres(op, part(op, fractions, 0, 2), part(op, fractions, 2, 4)), evidence.size)
        probabilities = part(op, op.Softmax(scores, axis=-1), 0, -1) if softmax else op.Sigmoid(scores)
        return Proposals(corners, probabilities, distinct=True)

    said = [
        f"outputs {logits!r} and {boxes!r}",
        f"{'softmax with a class for no object' if softmax else 'sigmoid'}: {reason}",
    ]
    return Candidate("detr", said, decode, 0.9)


def _is_softmax(evidence: Evidence, shape: tuple[int | str | None, ...]) -> tuple[bool, str]:
    """Tell whether one of the classes is "no object", and from what."""
    columns, queries = shape[2], shape[1]
    if evidence.classes is not None and columns in (evidence.classes, evidence.classes + 1):
        return columns == evidence.classes + 1, f"{columns} columns for {evidence.classes} labels"
    return queries in QUERIES, f"{queries} queries"
