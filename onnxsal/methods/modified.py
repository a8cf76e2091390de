"""Methods that change how gradients pass the rectifiers.

Both leave every operator but the rectifiers to the true derivative. In particular a max-pooling
sends what arrives to the place its maximum came from: DeconvNet's switches. Their override rules are
in `rectifiers.py`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxsal.errors import MethodError
from onnxsal.methods.registry import method

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.autodiff.registry import RuleBook
    from onnxsal.graph.builder import Op
    from onnxsal.methods.view import View


def modified_gradient(view: "View", rules: "RuleBook") -> "ir.Value":
    """Return the modified gradient with respect to the image.

    Raises:
        MethodError: No rectifier lies on the way, so that nothing would be modified.
    """
    if not view.rectifiers():
        raise MethodError(
            "the model has no Relu, Clip from 0, LeakyRelu or PRelu between image and target, so that this would be "
            "the plain gradient under another name: use gradient instead"
        )
    return view.gradient(rules=rules)


@method("guided-backprop")
@dataclass(frozen=True)
class GuidedBackprop:
    """The gradient, with negative parts stopped at each rectifier: what excites the target.

    Source: Springenberg et al. 2015, arXiv:1412.6806, section 3.4. Beyond the paper's ReLU: for Clip
    from 0 (ReLU6), LeakyRelu and PRelu, their derivative times the positive part of what arrives.
    """

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return the guided gradient, in the shape of the image input."""
        from onnxsal.methods.rectifiers import GUIDED

        return modified_gradient(view, GUIDED)


@method("deconvnet")
@dataclass(frozen=True)
class Deconvnet:
    """The target projected back to the image through a rectified, transposed network.

    Source: Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1: unpooling by the switches of the
    forward pass, rectification of the reconstructed signal, transposed filters.
    """

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return the reconstruction, in the shape of the image input."""
        from onnxsal.methods.rectifiers import DECONVNET

        return modified_gradient(view, DECONVNET)
