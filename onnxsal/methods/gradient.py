"""Methods that look at the plain gradient with respect to the image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onnxsal.methods.registry import method

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.graph.builder import Op
    from onnxsal.methods.view import View


@method("gradient")
@dataclass(frozen=True)
class Gradient:
    """How the target's score changes with each pixel.

    Source: Simonyan et al. 2014, arXiv:1312.6034, section 3. The map is the largest magnitude among
    a pixel's channels, as there.

    Attributes:
        absolute: Give magnitudes, without the sign.
    """

    absolute: bool = False

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return the gradient, signed unless `absolute`, in the shape of the image input."""
        return op.Abs(view.gradient()) if self.absolute else view.gradient()


@method("grad-x-input")
@dataclass(frozen=True)
class GradXInput:
    """Gradient times the input itself: what each pixel contributes to the score, to first order.

    Source: Shrikumar et al. 2016, arXiv:1605.01713. The input is the model's own, after preprocessing.
    The map is the magnitude of the sum over channels, so that a pixel's contributions may cancel.

    Attributes:
        rule: `gradient`, or `guided` for the product with guided backpropagation.
    """

    rule: Literal["gradient", "guided"] = "gradient"

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return input times gradient, signed, in the shape of the image input."""
        from onnxsal.methods.modified import modified_gradient
        from onnxsal.methods.rectifiers import GUIDED

        gradient = view.gradient() if self.rule == "gradient" else modified_gradient(view, GUIDED)
        return op.Mul(gradient, view.image)

    def reduce(self, op: "Op", attribution: "ir.Value", channel_axis: int) -> "ir.Value":
        """Return the magnitude of the sum over the channels."""
        return op.Abs(op.ReduceSum(attribution, axes=[channel_axis], keepdims=0))
