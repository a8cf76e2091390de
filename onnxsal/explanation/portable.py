"""Make an explainer graph a file that stands alone, wherever ONNX Runtime runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from onnxsal.errors import OnnxsalError, OutputError
from onnxsal.explanation.sharing import own_bytes, weight_bytes
from onnxsal.model.card import Card, card_to_metadata
from onnxsal.model.source import PROTOBUF_LIMIT

if TYPE_CHECKING:
    import onnx_ir as ir


def make_portable(model: "ir.Model", card: Card) -> "ir.Model":
    """Return the graph with its card embedded, checked in full, and its weights inside up to 2 GB.

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
    if weight_bytes(model) < PROTOBUF_LIMIT:
        model = ir.external_data.load_to_model(model)
        try:
            onnx.checker.check_model(ir.to_proto(model), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise OnnxsalError(
                f"the compiled explainer is not valid ONNX ({str(error).splitlines()[0]}); please report this"
            ) from error
    return model


def to_bytes(model: "ir.Model", folder: Path) -> bytes:
    """Return the one file that holds the graph and its weights, to be written in `folder`.

    Weights beyond 2 GB stay in the model's own files, which have to be in that folder.

    Raises:
        OutputError: Its weights are more than one ONNX file can hold, and lie elsewhere.
    """
    import onnx_ir as ir

    size = weight_bytes(model)
    held = [v.const_value for v in model.graph.initializers.values()]
    homes = {Path(t.base_dir).resolve() for t in held if isinstance(t, ir.ExternalTensor)}
    if size >= PROTOBUF_LIMIT and homes - {folder.resolve()}:
        raise OutputError(
            f"the weights take {size / 1e9:.1f} GB, and one ONNX file holds at most 2 GB: write the explainer beside "
            f"the model, whose weights it then shares (-o {min(homes) / 'explainer.onnx'})"
        )
    if own_bytes(model) >= PROTOBUF_LIMIT:
        raise OutputError(f"the weights take {size / 1e9:.1f} GB, and one ONNX file holds at most 2 GB")
    data: bytes = ir.to_proto(model).SerializeToString()
    return data
