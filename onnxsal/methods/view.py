"""What a method may ask of a model while it writes its graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsal.autodiff import STANDARD, RuleBook
from onnxsal.autodiff.backward import differentiate
from onnxsal.autodiff.node import NodeView
from onnxsal.autodiff.path import find_path
from onnxsal.autodiff.primal import Primal
from onnxsal.errors import LayerError, MethodError
from onnxsal.graph.builder import Op, rank
from onnxsal.graph.find import find_value
from onnxsal.graph.types import HALVES, Dim, dims
from onnxsal.image.resampling import resize_matrix
from onnxsal.methods.means import mean_over_pixels
from onnxsal.methods.rectifiers import RECTIFIERS, is_rectifier
from onnxsal.model.findings import Findings
from onnxsal.model.grid import Layer, fold
from onnxsal.model.heads import Gap

MOST_WEIGHTS = 2**16
"""Above as many numbers, matrices that enlarge a map would be more to write into a file than they are worth."""


@dataclass(frozen=True)
class Scalar:
    """The target within the graph.

    Attributes:
        of: The value it is read from.
        seed: The cotangent of `of`: the sum of `seed * of` over a sample is its score.
    """

    of: ir.Value
    seed: ir.Value


class View:
    """A model, a target in it, and the gradients of the target.

    Layers are seen as (N, C, h, w) whatever the model stores: tokens and windows are folded back to
    their grid, and so are their gradients.
    """

    def __init__(self, op: Op, findings: Findings, scalar: Scalar) -> None:
        """Look at the graph that `op` writes to."""
        self._op = op
        self._findings = findings
        self._scalar = scalar
        self._folded: dict[ir.Value, tuple[ir.Value, Layer]] = {}
        self._used_layers: list[Layer] = []
        self._is_modified = False

    # ----- The image -----

    @property
    def image(self) -> ir.Value:
        """The image as real numbers, in float32 at least: the input, decoded, or what stands behind its Cast."""
        return real_numbers(self._op, find_value(self._op.graph, self._findings.gradient_point))

    @property
    def channel_axis(self) -> int:
        """The axis of `image` that holds the channels."""
        return self._findings.image_channel_axis

    def enlarge(self, heat: ir.Value, interpolation: str = "bilinear") -> ir.Value:
        """Return a map (N, h, w) at the image's height and width, (N, H, W): bilinear, or `nearest`."""
        return enlarge(self._op, heat, self.image, self._findings.spatial_axes, interpolation)

    # ----- Layers -----

    def activation(self, layer: str | None = None) -> ir.Value:
        """Return a layer's activation, (N, C, h, w); None takes the last layer with a spatial extent.

        Raises:
            LayerError: No such layer, or it has no spatial extent, or the target does not depend on it.
        """
        found = self._findings.layer(self._op.graph, layer)
        value = find_value(self._op.graph, found.name)
        if not self._reaches(value):
            raise LayerError(
                f"the target does not depend on layer {found.name!r}: choose one that lies before the target"
            )
        folded = fold(self._op, real_numbers(self._op, value), found)
        self._folded[folded] = (value, found)
        self._used_layers.append(found)
        return folded

    @property
    def used_layer(self) -> Layer | None:
        """The layer that the method looked at last, if it did."""
        return self._used_layers[-1] if self._used_layers else None

    def pooled_layer(self) -> ir.Value:
        """Return the activation that the head averages over, (N, C, h, w).

        Raises:
            MethodError: The head is not global average pooling and linear layers.
        """
        return self.activation(self._gap().features)

    def pooled_weights(self) -> ir.Value:
        """Return how much the target weighs each averaged channel, (N, C, 1, 1).

        Behind the pooling all is linear, so these are the head's weights for the target's class.
        """
        pooled = find_value(self._op.graph, self._gap().pooled)
        gradient = self.gradient(wrt=pooled)
        shape = self._op.Concat(self._op.dim(gradient, 0), [-1, 1, 1], axis=0)
        return self._op.Reshape(gradient, shape)

    def _gap(self) -> Gap:
        gap = self._findings.head.gap
        if gap is None:
            raise MethodError(
                f"cam needs a head of global average pooling and linear layers, and {self._findings.head.gap_reason}: "
                f"use grad-cam, which needs no such head"
            )
        return gap

    # ----- Gradients -----

    def gradient(self, *, wrt: ir.Value | None = None, rules: RuleBook = STANDARD) -> ir.Value:
        """Return the target's gradient with respect to a value of this view; None means the image.

        Raises:
            MissingRule: Operators on the way have no rule.
        """
        if wrt is None:
            return self._gradient_of_value(find_value(self._op.graph, self._findings.gradient_point), rules)
        if wrt in self._folded:
            value, layer = self._folded[wrt]
            return fold(self._op, self._gradient_of_value(value, rules), layer)
        return self._gradient_of_value(wrt, rules)

    def mean_gradient(self, *, wrt: ir.Value) -> ir.Value:
        """Return the mean over rows and columns of the gradient with respect to a layer, (N, C, 1, 1)."""
        return mean_over_pixels(self._op, self.gradient(wrt=wrt))

    def _gradient_of_value(self, value: ir.Value, rules: RuleBook) -> ir.Value:
        scalar = self._scalar
        (gradient,) = differentiate(self._op, {scalar.of: scalar.seed}, [value], rules)
        self._is_modified |= rules is not STANDARD
        if gradient is None:
            raise LayerError(f"the target does not depend on {value.name!r}: choose a target that lies behind it")
        return gradient

    @property
    def is_modified(self) -> bool:
        """Whether a gradient was taken under other rules than the true derivative's."""
        return self._is_modified

    def rectifiers(self) -> list[str]:
        """Return the names of the nodes that guided backpropagation and DeconvNet change, those within bodies last."""
        start = find_value(self._op.graph, self._findings.gradient_point)
        path = find_path(self._op, [self._scalar.of], [start], STANDARD)
        kinds = dict(RECTIFIERS)
        candidates = [n for n in [*path.nodes, *path.inner] if n.domain in ("", "ai.onnx") and n.op_type in kinds]
        views = [view for n in candidates if is_rectifier(view := NodeView(self._op, n))]
        return list(dict.fromkeys(view.name for view in views))

    def _reaches(self, value: ir.Value) -> bool:
        if value is self._scalar.of:
            return True
        return bool(find_path(self._op, [self._scalar.of], [value], STANDARD).nodes)


def real_numbers(op: Op, value: ir.Value) -> ir.Value:
    """Return a value's real numbers, in float32 at least: the type that gradients have."""
    value = op.once(Primal).read(value)
    return op.cast(value, ir.DataType.FLOAT) if value.dtype in HALVES else value


def enlarge(
    op: Op, heat: ir.Value, image: ir.Value, spatial_axes: Sequence[int], interpolation: str = "bilinear"
) -> ir.Value:
    """Return a map (N, h, w) at the height and width of `image`: bilinear between half-pixel centres, or nearest."""
    wanted = [(dims(image) or (None,) * rank(image))[axis] for axis in spatial_axes]
    if all(isinstance(d, int) for d in wanted) and list((dims(heat) or ())[1:]) == wanted:
        return heat
    if interpolation == "bilinear":
        large = _by_matrices(op, heat, wanted)
        if large is not None:
            return large
    sizes = op.Concat(*(op.dim(image, axis) for axis in spatial_axes), axis=0)
    if all(isinstance(d, int) for d in wanted):
        sizes = op.const(wanted)
    stacked = op.Unsqueeze(heat, [1])
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if interpolation == "nearest":
        # Pixel i lies in cell floor(i * h / H), as PyTorch has it.
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    large = op.Resize(stacked, None, None, sizes, axes=[2, 3], **how)
    return op.Squeeze(large, [1])


def _by_matrices(op: Op, heat: ir.Value, wanted: Sequence[Dim]) -> ir.Value | None:
    """Return a map enlarged bilinearly by two products of matrices, from 7x7 to 224x224 four times as fast as Resize.

    None where sizes are known at run time only, or the matrices would be large.
    """
    found = list((dims(heat) or ())[1:])
    known = [(a, b) for a, b in zip(found, wanted, strict=True) if isinstance(a, int) and isinstance(b, int)]
    if len(known) < 2 or 0 in found or sum(a * b for a, b in known) > MOST_WEIGHTS:
        return None
    rows, columns = (op.const(resize_matrix(a, b, antialias=False)) for a, b in known)
    return op.MatMul(rows, op.MatMul(heat, op.Transpose(columns, perm=[1, 0])))
