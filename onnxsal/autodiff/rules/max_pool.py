"""The rule for MaxPool: each cotangent goes to the first of the largest entries of its window, as in PyTorch.

ONNX Runtime computes `Indices` in a loop ten times slower than the maximum itself. A maximum over a window
is one over its rows, of the maxima within each; so the row is found first, then the place in the row, by
comparing with these maxima one tap at a time: what equals the maximum takes the cotangent, what does not
leaves it to the next. Against `Indices`, milliseconds on one thread: 9.7 and 12.0 for 3x3 with stride 2 on 64
channels of 112x112, 2.8 and 6.7 for 3x3 with stride 1 on 192 of 28x28, 3.7 and 8.2 for 5x5 on 256 of 20x20.
"""

from dataclasses import dataclass

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.max_pool_blocks import axes_in_blocks, hand_out_in_blocks
from onnxsal.autodiff.rules.tracing import scatter
from onnxsal.autodiff.rules.windows import dilations, spatial
from onnxsal.graph.builder import rank


@vjp("MaxPool", wrt="X")
def max_pool(op, node, g):
    if "pads" not in node.attrs or spatial(node.X) is None or spatial(node.Y) is None:
        return _scatter(op, node, g)
    axes = axes_in_blocks(op, node)
    if axes is not None:
        return hand_out_in_blocks(op, node, g, axes)
    n = len(node.attrs["strides"])
    maxima = [node.Y, *(_maxima_along(op, node, axis) for axis in range(1, n)), node.X]
    for axis in range(n):
        g = _hand_out(op, Line.along(node, axis), g, maxima[axis], maxima[axis + 1])
    return g


def _scatter(op, node, g):
    """Add each cotangent where MaxPool says that it found its maximum."""
    if node.has("Indices") and not node.attrs["storage_order"]:
        indices = node.Indices
    else:
        geometry = {k: v for k, v in node.attrs.items() if k != "storage_order"}
        indices = op.MaxPool(node.X, **geometry, outputs=2)[1]
    # Indices count through the whole of X, batch and channels included.
    zeros = op.Expand(op.scalar(0, like=g), op.Reshape(op.Size(node.X), [1]))
    places, g = op.Reshape(indices, [-1]), op.Reshape(g, [-1])
    return op.reshape_like(scatter(op, op.ScatterElements, zeros, places, g, axis=0, reduction="add"), node.X)


# ----- One axis at a time -----


@dataclass(frozen=True)
class Line:
    """The windows along one axis, all sizes known.

    Tap t of window w reads entry w * stride + t * dilation - begin. Entries are kept by phase, their number modulo the
    stride: within a phase, the windows read one entry after the other.

    Attributes:
        axis: Of X.
        size: Of X.
        count: Of windows.
        kernel: Taps per window.
        stride: From window to window.
        dilation: From tap to tap.
        begin: Padding before X.
    """

    axis: int
    size: int
    count: int
    kernel: int
    stride: int
    dilation: int
    begin: int

    @classmethod
    def along(cls, node, axis):
        """Read the geometry of a pooling along its spatial axis number `axis`."""
        attrs = node.attrs
        return cls(
            axis + 2,
            spatial(node.X)[axis],
            spatial(node.Y)[axis],
            attrs["kernel_shape"][axis],
            attrs["strides"][axis],
            dilations(node)[axis],
            attrs["pads"][axis],
        )

    def place(self, tap):
        """Return which entry of which phase the first window reads at a tap: entry, phase."""
        return divmod(tap * self.dilation - self.begin, self.stride)


def _maxima_along(op, node, axis):
    """Return the maxima over the windows' extent along the spatial axes from `axis` on."""
    attrs, n = node.attrs, len(node.attrs["strides"])
    ones, nothing = [1] * axis, [0] * axis
    return op.MaxPool(
        node.X,
        kernel_shape=ones + attrs["kernel_shape"][axis:],
        strides=ones + attrs["strides"][axis:],
        dilations=ones + dilations(node)[axis:],
        pads=nothing + attrs["pads"][axis:n] + nothing + attrs["pads"][n + axis :],
        ceil_mode=attrs["ceil_mode"],
    )


def _hand_out(op, line, g, maximum, entries):
    """Return the cotangent of `entries`, given that of the maximum over each window along the line."""
    phases, outside = _phases(op, line, entries), op.scalar(-np.inf, like=entries)
    shares = []
    for tap in range(line.kernel - 1):
        first, phase = line.place(tap)
        length = -(-(line.size - phase) // line.stride)
        entry = _shift(op, line.axis, phases[phase], first, length, line.count, outside)
        share = op.Mul(g, op.cast(op.Equal(entry, maximum), g.dtype))
        shares.append(share)
        g = op.Sub(g, share)
    # What no tap took is the last one's.
    return _put_back(op, line, [*shares, g])


def _phases(op, line, entries):
    """Return the entries of each phase that is read; the first alone where no other is."""
    if line.stride == 1:
        return [entries]
    if all(line.place(tap)[1] == 0 for tap in range(line.kernel - 1)):
        return [_first_phase(op, line, entries)]
    sizes, last = spatial(entries), line.axis == rank(entries) - 1
    if last and line.size % line.stride == 0:  # to pick every other number of a row is slow, to turn them is not
        turned = op.Reshape(entries, [0, 0, *sizes[:-1], -1, line.stride])
        turned = op.Transpose(turned, perm=[*range(line.axis), line.axis + 1, line.axis])
        return [op.Squeeze(op.Slice(turned, [p], [p + 1], [line.axis]), [line.axis]) for p in range(line.stride)]
    return [op.Slice(entries, [p], [line.size], [line.axis], [line.stride]) for p in range(line.stride)]


def _first_phase(op, line, entries):
    """Pick every so many-th entry by a pooling over single ones, which ONNX Runtime computes in blocks.

    For windows of 2x2 side by side, VGG16's, no other phase is read: 0.9 ms instead of 7.2 on 64 channels of 224x224.
    """
    strides = [line.stride if axis == line.axis else 1 for axis in range(2, rank(entries))]
    return op.MaxPool(entries, kernel_shape=[1] * len(strides), strides=strides)


def _put_back(op, line, shares):
    """Add the taps' shares up in the places that they were read from."""
    length = -(-line.size // line.stride)
    phases = [[] for _ in range(line.stride)]
    for tap, share in enumerate(shares):
        first, phase = line.place(tap)
        phases[phase].append(_shift(op, line.axis, share, -first, line.count, length, op.scalar(0, like=share)))
    made = _interleave(op, line, [_sum(op, p) for p in phases])
    return made if length * line.stride == line.size else op.Slice(made, [0], [line.size], [line.axis])


def _interleave(op, line, phases):
    """Return the entries of the phases in turn: first of the first, first of the second, ...; None is zeros."""
    if line.stride == 1:
        return phases[0]
    some = next(p for p in phases if p is not None)
    phases = [op.zeros_like(some) if p is None else p for p in phases]
    # Side by side: to lay them one behind the other and turn them takes ONNX Runtime ten times as long on two threads.
    made = op.Concat(*(op.Unsqueeze(p, [line.axis + 1]) for p in phases), axis=line.axis + 1)
    sizes = spatial(some)
    sizes[line.axis - 2] *= line.stride
    return op.Reshape(made, [0, 0, *sizes])


def _sum(op, values):
    return (op.Sum(*values) if len(values) > 1 else values[0]) if values else None


def _shift(op, axis, value, first, length, wanted, fill):
    """Return `wanted` entries from number `first` on of the `length` along an axis; what lies beyond is `fill`."""
    before, behind = max(-first, 0), max(first + wanted - length, 0)
    if before or behind:
        value = op.Pad(value, [before, behind], fill, [axis])
    begin = first + before
    return value if before + length + behind == wanted else op.Slice(value, [begin], [begin + wanted], [axis])
