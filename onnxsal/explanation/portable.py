"""Make an explainer graph a file that stands alone, wherever ONNX Runtime runs."""

from typing import TYPE_CHECKING

from onnxsal.errors import OnnxsalError, OutputError
from onnxsal.explanation.compiled import PROTOBUF_LIMIT, weight_bytes
from onnxsal.model.card import Card, card_to_metadata

if TYPE_CHECKING:
    import onnx_ir as ir


def make_portable(model: "ir.Model", card: Card) -> "ir.Model":
    """Return the graph with its card embedded and weights inside, checked in full.

    Raises:
        OnnxsalError: ONNX's checker refuses the result, which is a defect of onnxsal.
    """
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common

    from onnxsal.graph.prune import prune

    keep = [v for v in model.graph.outputs if v.name != "target_score"]
    model.graph.outputs.clear()
    model.graph.outputs.extend(keep)
    prune(model)
    model.metadata_props.update(card_to_metadata(card))
    common.RemoveUnusedOpsetsPass()(model)
    model = ir.external_data.load_to_model(model)
    if weight_bytes(model) < PROTOBUF_LIMIT:
        try:
            onnx.checker.check_model(ir.to_proto(model), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise OnnxsalError(
                f"the compiled explainer is not valid ONNX ({str(error).splitlines()[0]}); please report this"
            ) from error
    return model


def to_bytes(model: "ir.Model") -> bytes:
    """Return the one file that holds the graph and its weights.

    Raises:
        OutputError: Its weights are more than one ONNX file can hold.
    """
    import onnx_ir as ir

    size = weight_bytes(model)
    if size >= PROTOBUF_LIMIT:
        raise OutputError(f"the weights take {size / 1e9:.1f} GB, and one ONNX file holds at most 2 GB")
    data: bytes = ir.to_proto(model).SerializeToString()
    return data
