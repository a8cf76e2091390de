"""Write the geometry of convolutions and poolings out in full.

Attributes left to their defaults, `auto_pad` and `output_shape` become explicit `kernel_shape`,
`strides`, `dilations`, `pads` and `group`: rules read one spelling, and the browser's older runtime
refuses a Conv without `dilations` (onnxruntime-web: "dilations should be 2D").
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxsal.graph.types import Dim, dims

WINDOWED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})


def spell_out_geometry(graph: ir.Graph) -> None:
    """Give every Conv, ConvTranspose and pooling of the graph its attributes in full.

    `auto_pad`, or `output_shape`, stays where the padding depends on a size that only the run knows.
    `kernel_shape` stays away where the kernel is computed and its size is not known.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.domain in ("", "ai.onnx") and node.op_type in WINDOWED:
            _spell_out(node)


def split_padding(total: Sequence[int], auto_pad: str) -> list[int]:
    """Return `[begins..., ends...]`; the larger half stands at the end under SAME_UPPER, else at the begin."""
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if auto_pad == "SAME_UPPER" else large + small


def _spell_out(node: ir.Node) -> None:
    kernel = _kernel(node)
    n = len(kernel) if kernel is not None else _spatial_rank(node)
    if n is None:
        return
    strides = _default(node, "strides", [1] * n)
    dilations: Sequence[int] = node.attributes.get_ints("dilations") or [1] * n
    if node.op_type in ("Conv", "ConvTranspose"):
        # Not on poolings: ONNX Runtime's QLinearAveragePool inherits their attributes and has no `dilations`.
        _default(node, "dilations", dilations)
        if "group" not in node.attributes:
            node.attributes["group"] = ir.AttrInt64("group", 1)
    reach = None if kernel is None else [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if node.op_type == "ConvTranspose":
        _spell_out_transposed(node, reach, strides)
    else:
        _spell_out_pads(node, reach, strides)


def _kernel(node: ir.Node) -> list[int] | None:
    """Return `kernel_shape`, written onto the node, or None where the size of W is not known."""
    if "kernel_shape" not in node.attributes:
        weight = dims(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        kernel = _numbers(weight)
        if kernel is None:
            return None
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", kernel)
    return list(node.attributes.get_ints("kernel_shape") or ())


def _spatial_rank(node: ir.Node) -> int | None:
    shapes = [dims(v) for v in node.inputs[:2] if v is not None]
    return next((len(s) - 2 for s in shapes if s is not None), None)


def _numbers(shape: Sequence[Dim] | None) -> list[int] | None:
    """Return the spatial sizes of a shape, or None unless all of them are known."""
    if shape is None or not all(isinstance(d, int) for d in shape[2:]):
        return None
    return [d for d in shape[2:] if isinstance(d, int)]


def _default(node: ir.Node, name: str, value: Sequence[int]) -> Sequence[int]:
    if name not in node.attributes:
        node.attributes[name] = ir.AttrInt64s(name, list(value))
    return node.attributes.get_ints(name) or ()


def _spell_out_pads(node: ir.Node, reach: list[int] | None, strides: Sequence[int]) -> None:
    """Replace `auto_pad` by `pads`."""
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad in ("NOTSET", "VALID"):
        _set_pads(node, node.attributes.get_ints("pads") if auto_pad == "NOTSET" else None, len(strides))
        return
    size = _numbers(dims(node.inputs[0])) if node.inputs[0] is not None else None
    if reach is None or (size is None and any(s != 1 for s in strides)):
        return
    # At stride 1 the padding is the same for every size.
    total = [
        max((-(-d // s) - 1) * s + r - d, 0) for d, r, s in zip(size or [1] * len(reach), reach, strides, strict=True)
    ]
    _set_pads(node, split_padding(total, auto_pad), len(strides))


def _spell_out_transposed(node: ir.Node, reach: list[int] | None, strides: Sequence[int]) -> None:
    """Replace `auto_pad` and `output_shape` of a ConvTranspose by `pads` and `output_padding`.

    As ONNX Runtime does: `output_shape` overrules `pads`, and SAME aims at the input's size times the stride.
    """
    n = len(strides)
    extra = _default(node, "output_padding", [0] * n)
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    wanted = node.attributes.get_ints("output_shape")
    if not wanted and auto_pad in ("NOTSET", "VALID"):
        _set_pads(node, node.attributes.get_ints("pads") if auto_pad == "NOTSET" else None, n)
        return
    if reach is None:
        return
    if not wanted:
        total = [r + e - s for r, e, s in zip(reach, extra, strides, strict=True)]
        if min(total, default=0) >= 0:  # ONNX wants more than ONNX Runtime gives where a kernel is below its stride
            _set_pads(node, split_padding(total, auto_pad), n)
        return
    size = _numbers(dims(node.inputs[0])) if node.inputs[0] is not None else None
    if size is None:
        return
    total = [(d - 1) * s + r + e - o for d, s, r, e, o in zip(size, strides, reach, extra, wanted, strict=True)]
    extra = [e - min(t, 0) for e, t in zip(extra, total, strict=True)]
    node.attributes["output_padding"] = ir.AttrInt64s("output_padding", extra)
    node.attributes.pop("output_shape")
    _set_pads(node, split_padding([max(t, 0) for t in total], auto_pad), n)


def _set_pads(node: ir.Node, pads: Sequence[int] | None, n: int) -> None:
    node.attributes["pads"] = ir.AttrInt64s("pads", list(pads or [0] * (2 * n)))
    node.attributes.pop("auto_pad", None)
