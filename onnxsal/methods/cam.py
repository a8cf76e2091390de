"""Class activation maps: weighted sums of a layer's channels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onnxsal.methods.registry import method

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.graph.builder import Op
    from onnxsal.methods.view import View


@method("cam")
@dataclass(frozen=True)
class CAM:
    """Weight each channel before global average pooling by its weight in the class, and sum.

    Source: Zhou et al. 2016, arXiv:1512.04150, eq. 2. Needs a head of global average pooling and
    linear layers; there it equals the layer's height x width x Grad-CAM before the ReLU.
    """

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return the signed map (N, h, w), h and w those of the pooled layer."""
        activation = view.pooled_layer()
        weights = view.pooled_weights()
        return weighted_sum(op, weights, activation)


@method("grad-cam")
@dataclass(frozen=True)
class GradCAM:
    """Weight each channel of a layer by its mean gradient, sum, keep what is positive.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2.

    Attributes:
        layer: The layer to explain; None takes the last with a spatial extent.
        relu: Keep what is positive only, as the paper does; False gives the signed map.
    """

    layer: str | None = None
    relu: bool = True

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return (N, h, w), h and w the layer's; >= 0 unless `relu` is off."""
        activation = view.activation(self.layer)
        weights = view.mean_gradient(wrt=activation)
        weighted = weighted_sum(op, weights, activation)
        return op.Relu(weighted) if self.relu else weighted


@method("guided-grad-cam")
@dataclass(frozen=True)
class GuidedGradCAM:
    """Guided backpropagation times the enlarged Grad-CAM: fine detail, for the target only.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3.2. There Grad-CAM is enlarged bilinearly.

    Attributes:
        layer: The layer of Grad-CAM; None takes the last with a spatial extent.
        interpolation: How Grad-CAM is enlarged: `bilinear`, or `nearest`.
    """

    layer: str | None = None
    interpolation: Literal["bilinear", "nearest"] = "bilinear"

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return the signed product, in the shape of the image input."""
        from onnxsal.methods.modified import modified_gradient
        from onnxsal.methods.rectifiers import GUIDED

        cam = view.enlarge(GradCAM(self.layer).build(op, view), self.interpolation)
        gradient = modified_gradient(view, GUIDED)
        # The image may be double where the layer is float.
        return op.Mul(gradient, op.cast(op.Unsqueeze(cam, [view.channel_axis]), gradient.dtype))


@method("odam")
@dataclass(frozen=True)
class ODAM:
    """Multiply a layer's activation by its gradient, place by place, sum over channels, keep what is positive.

    Unlike Grad-CAM's mean over all places, this tells instances of one class apart.

    Source: Zhao and Chan 2023, arXiv:2304.06354, eq. 5, for detections; of a class the same is HiResCAM (Draelos and
    Carin 2020, arXiv:2011.08891).

    Attributes:
        layer: The layer; None takes, of a detection, the last one that all of its head reads, else the last with a
            spatial extent.
    """

    layer: str | None = None

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return (N, h, w) >= 0, h and w the layer's."""
        activation = view.activation(self.layer)
        gradient = view.gradient(wrt=activation)
        return op.Relu(op.ReduceSum(op.Mul(gradient, activation), axes=[1], keepdims=0))


def weighted_sum(op: "Op", weights: "ir.Value", activation: "ir.Value") -> "ir.Value":
    """Sum the channels of an activation (N, C, h, w), weighted by (N, C, 1, 1): a product, (N, h, w)."""
    total = op.MatMul(op.Reshape(weights, [0, 1, -1]), op.Reshape(activation, [0, 0, -1]))
    sizes = list(activation.shape or ())[2:]
    if all(isinstance(size, int) for size in sizes):  # said as numbers, so that what comes next knows them
        return op.Reshape(total, [0, *sizes])
    return op.Reshape(total, op.Concat([0], op.dim(activation, 2), op.dim(activation, 3), axis=0))
