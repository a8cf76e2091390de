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
from onnxsal.graph.types import Dim, dims, is_float

BATCH = "masks"


def build_masked(
    model: ir.Model,
    image: str,
    layout: str,
    outputs: Sequence[str] = (),
    finish: Callable[[Op], ir.Value] | None = None,
    *,
    filled: bool = True,
) -> ir.Model:
    """Return a model that takes one image and n masks, and gives the outputs of the n masked images.

    Inputs (`sampling.feeds` makes them): the model's own but for the image; `mask_cells` (n, s, t), `mask_y` (n,),
    `mask_x` (n,), `mask_rows` (Y, H, s), `mask_columns` (X, W, t) as in a `MaskSpace` without a frame; `mask_shown`,
    float32, what a mask of 1 adds to what is seen where it hides, with one sample; and that, `mask_fill`, likewise.

    Args:
        model: In canonical form; its batch must be free, unless n is what it is fixed to.
        image: Name of the image input.
        layout: `NCHW` or `NHWC`.
        outputs: Names of the outputs to keep.
        finish: Emits an output of its own, `answer`, from the model's.
        filled: If not, there is no `mask_fill`, and zero is seen where a mask hides: a pass over all pixels less.
    """
    result = model.clone()
    graph = result.graph
    source = find_value(graph, image)
    readers = [(use.node, use.idx) for use in source.uses()]
    op = Op(graph, opset_of(result), result.ir_version or 10)
    with op.scope("mask"):
        feeds = {name: _input(graph, name, *kind) for name, kind in _kinds(source, layout, filled).items()}
        masked = _masked(op, source, feeds, layout)
    for node, index in readers:
        node.replace_input_with(index, masked)
    graph.inputs.remove(source)
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


def _kinds(source: ir.Value, layout: str, filled: bool) -> dict[str, tuple[ir.DataType, list[Dim]]]:
    """Return type and shape of what is fed.

    Sizes have the names that the model gives them. ONNX Runtime writes a sum in place of an addend only where it knows
    that both are of one size, and a network of residual blocks takes a tenth longer where it does not.
    """
    float32, int64 = ir.DataType.FLOAT, ir.DataType.INT64
    batch, *sizes = dims(source) or (None,) * 4
    count = BATCH if batch is None else batch
    height, width = (sizes[1], sizes[2]) if layout == "NCHW" else (sizes[0], sizes[1])
    image = {name: (float32, [1, *sizes]) for name in ("mask_shown", "mask_fill")[: 1 + filled]}
    return {
        "mask_cells": (float32, [count, "mask_s", "mask_t"]),
        "mask_y": (int64, [count]),
        "mask_x": (int64, [count]),
        "mask_rows": (float32, ["mask_down", height, "mask_s"]),
        "mask_columns": (float32, ["mask_across", width, "mask_t"]),
        **image,
    }


def _input(graph: ir.Graph, name: str, dtype: ir.DataType, shape: Sequence[Dim]) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))
    graph.inputs.append(value)
    return value


def _masked(op: Op, source: ir.Value, feeds: dict[str, ir.Value], layout: str) -> ir.Value:
    """Return mask · shown + fill, in the image's own type."""
    rows = op.Gather(feeds["mask_rows"], feeds["mask_y"], axis=0)
    columns = op.Transpose(op.Gather(feeds["mask_columns"], feeds["mask_x"], axis=0), perm=[0, 2, 1])
    mask = op.Unsqueeze(op.MatMul(op.MatMul(rows, feeds["mask_cells"]), columns), [1 if layout == "NCHW" else 3])
    masked = op.Mul(mask, feeds["mask_shown"])
    if "mask_fill" in feeds:
        masked = op.Add(masked, feeds["mask_fill"])
    if is_float(source):
        return op.cast(masked, source.dtype)
    return op.Cast(op.Round(masked), to=source.dtype)


def _forget_batch(outputs: Sequence[ir.Value]) -> None:
    """Do not claim to know how many samples come out."""
    for value in outputs:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape([None, *value.shape[1:]])
