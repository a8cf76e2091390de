"""The model with a mask before its image: masks are made in the graph, from a few numbers each.

What crosses to the device per mask is its cells and two shifts; the image crosses once a run. The mask is a product of
small matrices (`sampling.masks`), next to nothing beside the model.
"""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import opset_of
from onnxsal.graph.find import find_value
from onnxsal.graph.prune import prune
from onnxsal.graph.types import dims, is_float

FEEDS = ("mask_cells", "mask_y", "mask_x", "mask_rows", "mask_columns", "mask_outside", "mask_fill")
BATCH = "masks"


def build_masked(
    model: ir.Model,
    image: str,
    layout: str,
    outputs: Sequence[str] = (),
    finish: Callable[[Op], ir.Value] | None = None,
) -> ir.Model:
    """Return a model that takes one image and n masks, and gives the outputs of the n masked images.

    Inputs: the model's own, the image with one sample; `mask_cells` (n, s, t), `mask_y` (n,), `mask_x` (n,),
    `mask_rows` (Y, H, s), `mask_columns` (X, W, t), `mask_outside` (H, W) as in `MaskSpace`; `mask_fill`, float32, of
    the image's shape or broadcast to it, what is seen where the mask hides.

    Args:
        model: In canonical form; its batch must be free, unless n is what it is fixed to.
        image: Name of the image input.
        layout: `NCHW` or `NHWC`.
        outputs: Names of the outputs to keep.
        finish: Emits an output of its own, `answer`, from the model's.
    """
    result = model.clone()
    graph = result.graph
    source = find_value(graph, image)
    readers = [(use.node, use.idx) for use in source.uses()]
    op = Op(graph, opset_of(result), result.ir_version or 10)
    with op.scope("mask"):
        feeds = {name: _input(graph, name, *kind) for name, kind in _kinds(source).items()}
        masked = _masked(op, source, feeds, layout)
    for node, index in readers:
        node.replace_input_with(index, masked)
    if source.shape is not None:
        source.shape = ir.Shape([1, *source.shape[1:]])
    kept = [v for v in graph.outputs if v.name in outputs]
    if finish is not None:
        with op.scope("answer"):
            kept.append(op.rename(finish(op), "answer"))
    graph.outputs.clear()
    graph.outputs.extend(kept)
    _forget_batch(kept)
    graph.sort()
    prune(result)
    return result


def _kinds(source: ir.Value) -> dict[str, tuple[ir.DataType, list[str | int | None]]]:
    """Return type and shape of what is fed beside the image."""
    float32, int64 = ir.DataType.FLOAT, ir.DataType.INT64
    known = dims(source)
    return {
        "mask_cells": (float32, [BATCH, "mask_s", "mask_t"]),
        "mask_y": (int64, [BATCH]),
        "mask_x": (int64, [BATCH]),
        "mask_rows": (float32, ["mask_down", "mask_height", "mask_s"]),
        "mask_columns": (float32, ["mask_across", "mask_width", "mask_t"]),
        "mask_outside": (float32, ["mask_height", "mask_width"]),
        "mask_fill": (float32, [None] * len(known) if known else [None] * 4),
    }


def _input(graph: ir.Graph, name: str, dtype: ir.DataType, shape: Sequence[str | int | None]) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))
    graph.inputs.append(value)
    return value


def _masked(op: Op, source: ir.Value, feeds: dict[str, ir.Value], layout: str) -> ir.Value:
    """Return fill + mask · (image - fill), in the image's own type."""
    rows = op.Gather(feeds["mask_rows"], feeds["mask_y"], axis=0)
    columns = op.Transpose(op.Gather(feeds["mask_columns"], feeds["mask_x"], axis=0), perm=[0, 2, 1])
    mask = op.Add(op.MatMul(op.MatMul(rows, feeds["mask_cells"]), columns), feeds["mask_outside"])
    mask = op.Unsqueeze(mask, [1 if layout == "NCHW" else 3])
    image = op.cast(source, ir.DataType.FLOAT)
    masked = op.Add(op.Mul(mask, op.Sub(image, feeds["mask_fill"])), feeds["mask_fill"])
    if is_float(source):
        return op.cast(masked, source.dtype)
    return op.Cast(op.Round(masked), to=source.dtype)


def _forget_batch(outputs: Sequence[ir.Value]) -> None:
    """Do not claim to know how many samples come out."""
    for value in outputs:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape([None, *value.shape[1:]])
