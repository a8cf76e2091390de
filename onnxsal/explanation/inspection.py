"""What was found in a model, and for each method whether it works on it."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onnxsal.errors import OnnxsalError, TargetError
from onnxsal.methods import make_method, methods
from onnxsal.methods.registry import Method
from onnxsal.methods.subject import SampledMethod
from onnxsal.targets import Form

if TYPE_CHECKING:
    from onnxsal.autodiff import Unsupported
    from onnxsal.explanation.compiled import Compiler
    from onnxsal.explanation.loaded import Model
    from onnxsal.model.network import Network


@dataclass(frozen=True)
class Verdict:
    """Whether one method works on a model.

    Attributes:
        method: Its name.
        works: Whether its explainer graph could be built.
        reason: Why not, and what to do; empty if it works.
        layer: The layer it looks at by default, if it takes one; of a detector, where it is each detection's own, None.
        rectifiers: The nodes whose gradient it modifies.
    """

    method: str
    works: bool
    reason: str = ""
    layer: str | None = None
    rectifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerRow:
    """A layer that methods can look at.

    Attributes:
        name: Name of the value.
        node: Name of the node that makes it.
        op_type: Its operator.
        shape: As the model stores it; names stand for dimensions that only the run knows.
        kind: `map`, `map-nhwc`, `tokens` or `windows`.
        grid: Rows and columns it is folded back to.
        extra: Class and register tokens left out.
    """

    name: str
    node: str
    op_type: str
    shape: tuple[int | str | None, ...]
    kind: str
    grid: tuple[int, int]
    extra: int


@dataclass(frozen=True)
class Inspection:
    """What was found in a model.

    Attributes:
        file: Name, hash, size of the graph, producer, opset, IR version, operator domains.
        inputs: Name, type and shape of each input.
        outputs: Likewise.
        image: Name of the image input; the float value at which gradients are taken; layout; whether
            several images share a run.
        card: Value and source of each field that is known; `guesses`, the fields that were guessed; `notes`.
        head: Logits, activation behind them, class axis and number, output; the pooled layer of a
            global-average-pool head; reasons for what is missing.
        layers: In topological order.
        default_layer: The one that methods take unless told otherwise.
        default_layer_reason: Why there is none, if so.
        methods: One verdict per method, of a detector for its detections.
        unsupported: Operators without a rule, by `operator`: their `nodes`, and whether they lie `on_path` from the
            gradient point to the classes (without classes, to any output).
        detectors: Heads of detectors that the outputs may be, the surest first: `decoder`, `sure`, `evidence`.
        error: Why the graph could not be analysed at all, if so.
    """

    file: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    image: dict[str, Any]
    card: dict[str, Any]
    head: dict[str, Any]
    layers: list[LayerRow]
    default_layer: str | None
    default_layer_reason: str
    methods: list[Verdict]
    unsupported: list[dict[str, Any]]
    detectors: list[dict[str, Any]]
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        return asdict(self)


def inspect_model(model: "Model", compiler: "Compiler") -> Inspection:
    """Analyse a model, and try to build each method's explainer on it."""
    network, signature = model.network, model.network.signature
    error, image, head, layers, default, reason, ruleless, detectors = "", {}, {}, [], None, "", [], []
    try:
        findings = network.findings()
        image = {"gradient_point": findings.gradient_point, "gradient_point_reason": findings.gradient_point_reason}
        head, layers = findings.head_facts(), [LayerRow(**row) for row in findings.layer_rows()]
        default, reason = findings.default_layer, findings.default_layer_reason
        ruleless = [asdict(row) for row in _unsupported(network)]
        detectors = _detectors(model)
        verdicts = [_try_method(model, name, compiler) for name in methods()]
    except OnnxsalError as failure:
        error = str(failure)
        verdicts = [Verdict(name, works=False, reason=error) for name in methods()]
    resolved = model.card
    return Inspection(
        file={
            "name": network.source.path.name if network.source.path else "model",
            "sha256": model.sha256,
            "nodes": signature.nodes,
            "producer": signature.producer,
            "opset": signature.opset,
            "ir_version": signature.ir_version,
            "domains": [d or "ai.onnx" for d in signature.domains],
            "external_data": list(signature.external),
        },
        inputs=[{"name": i.name, "dtype": i.dtype, "shape": i.shape} for i in signature.inputs],
        outputs=[{"name": o.name, "dtype": o.dtype, "shape": o.shape} for o in signature.outputs],
        image={"input": resolved.image.name, "layout": resolved.card.layout, **image},
        card={
            "values": resolved.card.to_dict(),
            "sources": dict(resolved.sources),
            "guesses": list(resolved.guesses),
            "notes": list(resolved.notes),
        },
        head=head,
        layers=layers,
        default_layer=default,
        default_layer_reason=reason,
        methods=verdicts,
        unsupported=ruleless,
        detectors=detectors,
        error=error,
    )


def _unsupported(network: "Network") -> "list[Unsupported]":
    from onnxsal.autodiff import unsupported
    from onnxsal.graph.types import has_gradient

    findings, graph = network.findings(), network.graph()
    logits = findings.head.logits
    of = [logits] if logits else [str(v.name) for v in graph.graph.outputs if has_gradient(v)]
    return unsupported(graph, of=of, wrt=[findings.gradient_point])


def _detectors(model: "Model") -> list[dict[str, Any]]:
    """Return the heads of detectors that fit, with what speaks for each; none of a model of classes."""
    from onnxsal.methods.detector import find_heads

    found = find_heads(model.network)
    return [{"decoder": c.name, "sure": c.sure, "evidence": list(c.evidence)} for c in found]


def _try_method(model: "Model", name: str, compiler: "Compiler") -> Verdict:
    """Build the method's explainer, which is the one way to know."""
    from onnxsal.methods.explainer import build_explainer

    network, made, boxes = model.network, make_method(name, {}), model.means_boxes(model.read_target(None))
    try:
        if isinstance(made, SampledMethod):
            _check_sampled(model, made, boxes=boxes)
            base = made.white_box()
            if base is None:
                return Verdict(name, works=True)
            made = base
        if boxes:
            return _try_on_boxes(network, name, made, compiler)
        built = build_explainer(network.graph(), network.findings(), made, Form())
    except OnnxsalError as failure:
        return Verdict(name, works=False, reason=str(failure))
    return Verdict(name, works=True, layer=built.layer, rectifiers=built.rectifiers)


def _try_on_boxes(network: "Network", name: str, method: Method, compiler: "Compiler") -> Verdict:
    """Build the method's explainer of a detection; each has a layer of its own, so that there is none to tell."""
    from onnxsal.explanation.aiming import at_last_level
    from onnxsal.methods.detector import Reading, read_head
    from onnxsal.methods.explainer import build_explainer

    own, decode = at_last_level(compiler, Reading(), method), read_head(network, Reading(), batched=False).decode
    built = build_explainer(network.graph(), network.findings(), own, Form("box"), decode=decode)
    return Verdict(name, works=True, rectifiers=built.rectifiers)


def _check_sampled(model: "Model", method: SampledMethod, *, boxes: bool) -> None:
    """Refuse a model that does not output what the method watches.

    Raises:
        OnnxsalError: It has no classes, or no detections.
    """
    from onnxsal.methods.detector import surest

    if method.asks == "detections":
        surest(model.network, None)
    elif method.asks == "classes" and not boxes and model.network.findings().head.output is None:
        raise TargetError(f"the model predicts no classes: {model.network.findings().head.reason}")
