"""Write the geometry of convolutions and poolings out in full.

Attributes left to their defaults, `auto_pad` and `output_shape` become explicit `kernel_shape`,
`strides`, `dilations`, `pads` and `group`: rules read one spelling, and the browser's older runtime
refuses a Conv without `dilations` (onnxruntime-web: "dilations should be 2D").
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxsal.graph.types import Dim, dims

POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
WINDOWED = POOLS | {"Conv", "ConvTranspose"}


def spell_out_geometry(graph: ir.Graph) -> bool:
    """Give every Conv, ConvTranspose and pooling of the graph its attributes in full.

    `auto_pad`, or `output_shape`, stays where the padding depends on a size that only the run knows, and
    `auto_pad` where it makes a pooling leave entries out.
    `kernel_shape` stays away where the kernel is computed and its size is not known. `ceil_mode` stays
    where a window reaches beyond padding that is averaged in.

    Returns:
        Whether a node, now that it says all, turns out to make another shape than was inferred: ONNX's
        inference and ONNX Runtime disagree on some geometry. Shapes must be inferred again then, and this
        be called again, since the rest was not looked at.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.domain in ("", "ai.onnx") and node.op_type in WINDOWED:
            before = dict(node.attributes)
            spell_out(node)
            if dict(node.attributes) != before and _is_misjudged(node):
                return True
    return False


def split_padding(total: Sequence[int], auto_pad: str) -> list[int]:
    """Return `[begins..., ends...]`; the larger half stands at the end under SAME_UPPER, else at the begin."""
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if auto_pad == "SAME_UPPER" else large + small


def spell_out(node: ir.Node) -> None:
    """Give one convolution or pooling its attributes in full, as far as they are known."""
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
    if kernel is None:
        reach = None
    elif node.op_type in POOLS and node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME"):
        reach = kernel  # ONNX Runtime pads poolings for their kernel undilated
    else:
        reach = _reach(kernel, dilations)
    if node.op_type == "ConvTranspose":
        _spell_out_transposed(node, reach, strides)
    else:
        _spell_out_pads(node, reach, strides)
    _fold_ceil_mode(node)


def _reach(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def _is_misjudged(node: ir.Node) -> bool:
    """Tell whether a node's output surely has other sizes than inference said."""
    said, made = _numbers(dims(node.outputs[0])), _output_sizes(node)
    return said is not None and made is not None and said != made


def _output_sizes(node: ir.Node) -> list[int] | None:
    """Return the sizes that ONNX Runtime makes, or None where not all of the geometry is known."""
    attrs = node.attributes
    size = _numbers(dims(node.inputs[0])) if node.inputs[0] is not None else None
    kernel, strides, pads = (attrs.get_ints(name) for name in ("kernel_shape", "strides", "pads"))
    if size is None or not kernel or not strides or not pads:
        return None
    n = len(kernel)
    reach = _reach(kernel, attrs.get_ints("dilations") or [1] * n)
    if node.op_type == "ConvTranspose":
        extra = attrs.get_ints("output_padding") or [0] * n
        whole = [(d - 1) * s + r + e for d, s, r, e in zip(size, strides, reach, extra, strict=True)]
        return [w - b - e for w, b, e in zip(whole, pads[:n], pads[n:], strict=True)]
    count = _windows_beyond if attrs.get_int("ceil_mode", 0) else _windows
    return [count(d, r, s, b, e) for d, r, s, b, e in zip(size, reach, strides, pads[:n], pads[n:], strict=True)]


def _windows(size: int, reach: int, stride: int, begin: int, end: int) -> int:
    return (size + begin + end - reach) // stride + 1


def _windows_beyond(size: int, reach: int, stride: int, begin: int, end: int) -> int:
    """Count windows as `ceil_mode` does: the last may reach beyond the padding, but not begin behind X."""
    count = -(-(size + begin + end - reach) // stride) + 1
    return count - 1 if (count - 1) * stride >= size + begin else count


def _fold_ceil_mode(node: ir.Node) -> None:
    """Remove `ceil_mode` where padding at the end says the same: ONNX's inference miscounts its windows."""
    attrs = node.attributes
    made = _output_sizes(node) if attrs.get_int("ceil_mode", 0) else None
    if made is None:
        return
    ceil_mode, pads = attrs.pop("ceil_mode"), attrs["pads"]
    if made == _output_sizes(node):
        return
    ends = _ends(node, made)
    if not attrs.get_int("count_include_pad", 0) and all(
        e < k for e, k in zip(ends, attrs.get_ints("kernel_shape") or (), strict=True)
    ):
        attrs["pads"] = ir.AttrInt64s("pads", [*(attrs.get_ints("pads") or ())[: len(ends)], *ends])
    else:  # padding would be averaged in, or ONNX Runtime refuse it
        attrs["ceil_mode"], attrs["pads"] = ceil_mode, pads
        _drop_unread_padding(node, made)


def _drop_unread_padding(node: ir.Node, made: Sequence[int]) -> None:
    """Remove padding behind the last window that counts: ONNX's inference has windows begin there."""
    pads, n = node.attributes.get_ints("pads") or (), len(made)
    last = _reached(node, made)
    ends = [min(end, max(reached, 0)) for end, reached in zip(pads[n:], last, strict=True)]
    node.attributes["pads"] = ir.AttrInt64s("pads", [*pads[:n], *ends])


def _ends(node: ir.Node, made: Sequence[int]) -> list[int]:
    """Return the padding behind X that there is, or that the last windows reach."""
    pads = node.attributes.get_ints("pads") or ()
    return [max(end, reached) for end, reached in zip(pads[len(made) :], _reached(node, made), strict=True)]


def _reached(node: ir.Node, made: Sequence[int]) -> list[int]:
    """Return how far behind X the last windows reach."""
    attrs, n = node.attributes, len(made)
    size = _numbers(dims(node.inputs[0])) if node.inputs[0] is not None else None
    kernel, strides, pads = (attrs.get_ints(name) or () for name in ("kernel_shape", "strides", "pads"))
    reach = _reach(kernel, attrs.get_ints("dilations") or [1] * n)
    last = [(m - 1) * s + r for m, s, r in zip(made, strides, reach, strict=True)]
    return [o - d - b for o, d, b in zip(last, size or (), pads[:n], strict=True)]


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
    total = [(-(-d // s) - 1) * s + r - d for d, r, s in zip(size or [1] * len(reach), reach, strides, strict=True)]
    if node.op_type in POOLS and min(total) < 0:
        return  # below its stride a pooling's kernel skips entries at the begin, which no padding says
    total = [max(t, 0) for t in total]
    _set_pads(node, split_padding(total, auto_pad), len(strides))


def _spell_out_transposed(node: ir.Node, reach: list[int] | None, strides: Sequence[int]) -> None:
    """Replace `auto_pad` and `output_shape` of a ConvTranspose by `pads` and `output_padding`.

    As ONNX Runtime does: `output_shape` overrules `pads`, and SAME aims at the input's size times the stride.
    """
    n = len(strides)
    extra = _default(node, "output_padding", [0] * n)
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if node.attributes.get_ints("output_shape"):
        _spell_out_wanted(node, reach, strides, extra)
    elif auto_pad in ("NOTSET", "VALID"):
        _set_pads(node, node.attributes.get_ints("pads") if auto_pad == "NOTSET" else None, n)
    elif reach is not None:
        # Where a kernel is below its stride ONNX wants more than this, but ONNX Runtime makes no more.
        total = [max(r + e - s, 0) for r, e, s in zip(reach, extra, strides, strict=True)]
        _set_pads(node, split_padding(total, auto_pad), n)


def _spell_out_wanted(node: ir.Node, reach: list[int] | None, strides: Sequence[int], extra: Sequence[int]) -> None:
    """Replace `output_shape`: padding cuts off what is too much, `output_padding` adds what is missing."""
    node.attributes.pop("pads", None)
    wanted = node.attributes.get_ints("output_shape") or ()
    size = _numbers(dims(node.inputs[0])) if node.inputs[0] is not None else None
    if size is None or reach is None:
        return
    total = [(d - 1) * s + r + e - o for d, s, r, e, o in zip(size, strides, reach, extra, wanted, strict=True)]
    extra = [e - min(t, 0) for e, t in zip(extra, total, strict=True)]
    node.attributes["output_padding"] = ir.AttrInt64s("output_padding", extra)
    node.attributes.pop("output_shape")
    pads = split_padding([max(t, 0) for t in total], node.attributes.get_string("auto_pad", "NOTSET"))
    _set_pads(node, pads, len(strides))


def _set_pads(node: ir.Node, pads: Sequence[int] | None, n: int) -> None:
    node.attributes["pads"] = ir.AttrInt64s("pads", list(pads or [0] * (2 * n)))
    node.attributes.pop("auto_pad", None)
