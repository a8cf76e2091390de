"""Write the geometry of convolutions and poolings out in full.

Attributes left to their defaults, and `auto_pad`, become explicit `kernel_shape`, `strides`,
`dilations`, `pads` and `group`: rules read one spelling, and the browser's older runtime refuses
a Conv without `dilations` (reference: onnxruntime-web, "dilations should be 2D").
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxsal.graph.types import dims

WINDOWED = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}


def spell_out_geometry(graph: ir.Graph) -> None:
    """Give every Conv, ConvTranspose and pooling of the graph its attributes in full.

    `auto_pad` stays where the padding depends on a size that only the run knows.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.domain in ("", "ai.onnx") and node.op_type in WINDOWED:
            _spell_out(node)


def _spell_out(node: ir.Node) -> None:
    attrs = node.attributes
    if "kernel_shape" not in attrs:
        weight = dims(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if weight is None or not all(isinstance(d, int) for d in weight[2:]):
            return
        attrs["kernel_shape"] = ir.AttrInt64s("kernel_shape", [int(d) for d in weight[2:] if isinstance(d, int)])
    kernel = attrs.get_ints("kernel_shape") or ()
    strides = _default(node, "strides", [1] * len(kernel))
    dilations = attrs.get_ints("dilations") or [1] * len(kernel)
    if node.op_type in ("Conv", "ConvTranspose"):
        # Not on poolings: ONNX Runtime's QLinearAveragePool inherits their attributes and has no `dilations`.
        _default(node, "dilations", dilations)
        if "group" not in attrs:
            attrs["group"] = ir.AttrInt64("group", 1)
    pads = _explicit_pads(node, kernel, strides, dilations)
    if pads is not None:
        attrs["pads"] = ir.AttrInt64s("pads", pads)
        attrs.pop("auto_pad", None)


def _default(node: ir.Node, name: str, value: Sequence[int]) -> Sequence[int]:
    if name not in node.attributes:
        node.attributes[name] = ir.AttrInt64s(name, list(value))
    return node.attributes.get_ints(name) or ()


def _explicit_pads(
    node: ir.Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int] | None:
    """Return the padding `[begins..., ends...]`, or None where only the run can tell."""
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad == "NOTSET":
        return list(node.attributes.get_ints("pads") or [0] * (2 * len(kernel)))
    if auto_pad == "VALID":
        return [0] * (2 * len(kernel))
    if node.op_type == "ConvTranspose":
        return None  # `pads` and `output_shape` depend on each other there; its rule reads `auto_pad`
    size = dims(node.inputs[0]) if node.inputs[0] is not None else None
    if size is None or not all(isinstance(d, int) for d in size[2:]):
        return _size_free_pads(auto_pad, kernel, strides, dilations)
    total = [
        max((-(-int(d or 0) // s) - 1) * s + (k - 1) * e + 1 - int(d or 0), 0)
        for d, k, s, e in zip(size[2:], kernel, strides, dilations, strict=True)
    ]
    return _split(auto_pad, total)


def _size_free_pads(
    auto_pad: str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int] | None:
    """At stride 1, SAME padding is the same for every size."""
    if any(s != 1 for s in strides):
        return None
    return _split(auto_pad, [(k - 1) * e for k, e in zip(kernel, dilations, strict=True)])


def _split(auto_pad: str, total: Sequence[int]) -> list[int]:
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if auto_pad == "SAME_UPPER" else large + small
