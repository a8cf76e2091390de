"""Write Pad with pads for all axes, never with `axes`.

ONNX Runtime moves Transposes past a Pad as if it had no `axes` (1.32): it stops at the run with "indices
element out of data bounds", and would pad other axes where `axes` has all of them in another order.
"""

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxsal.graph.types import constant, dims

if TYPE_CHECKING:
    from onnxsal.graph.builder import Op


def pad_all_axes(op: "Op", inputs: list[ir.Value | None]) -> list[ir.Value | None]:
    """Return the inputs of a Pad without `axes`; as they are where rank or axes are known at run time only."""
    data, pads, value, axes = [*inputs, None, None, None][:4]
    shape, chosen = dims(data) if data is not None else None, constant(axes)
    if shape is None or chosen is None or pads is None:
        return inputs
    return [data, _spread(op, pads, [int(a) % len(shape) for a in chosen.ravel()], len(shape)), value]


def _spread(op: "Op", pads: ir.Value, axes: list[int], rank: int) -> ir.Value:
    """Return pads of all axes, zero where `axes` has none."""
    count = len(axes)
    known = constant(pads)
    if known is not None:
        full = np.zeros(2 * rank, np.int64)
        full[[*axes, *(rank + a for a in axes)]] = known
        return op.const(full)
    none = 2 * count  # where the zero stands, behind the pads there are
    begin = [axes.index(a) if a in axes else none for a in range(rank)]
    end = [count + i if i != none else none for i in begin]
    found: ir.Value = op.Gather(op.Concat(pads, op.const([0]), axis=0), op.const(begin + end))
    return found
