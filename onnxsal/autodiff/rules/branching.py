"""The rule for If: another If on the same condition, whose branches hold the forward branch again and its vjp."""

from onnxsal.autodiff.bodies import Body, Whole
from onnxsal.autodiff.registry import STANDARD
from onnxsal.graph.lists import zeros_for
from onnxsal.graph.subgraph import open_body, replay, result, write

BRANCHES = ("then_branch", "else_branch")


def bodies(node):
    """Return both branches; all that they read is captured."""
    graphs = [(name, node.attributes[name].as_graph()) for name in BRANCHES]
    return [Body(graph, name, leaves=list(zip(graph.outputs, node.outputs, strict=True))) for name, graph in graphs]


def vjp(op, request):
    made = [branch(op, request, inside) for inside in request.inside]
    found = [value for value in request.wanted if any(value in gradients for _, gradients in made)]
    if not found:
        return []
    for inner, gradients in made:
        for value in found:
            # A branch that does not read the value has no influence through it.
            g = gradients.get(value)
            result(inner, zeros_for(inner, value, request.gradient_type(value)) if g is None else g)
    (condition,) = request.node.inputs
    held = {name: inner for name, (inner, _) in zip(BRANCHES, made, strict=True)}
    outputs = write(op, "If", [condition], [request.sketch(value) for value in found], held)
    return list(zip(found, outputs, strict=True))


def branch(op, request, inside):
    """Write one branch; return its builder, and the cotangents by the value they belong to."""
    inner = open_body(op, inside.body.name)
    outputs = replay(inner, inside.body.graph, [])
    arrived = zip(outputs, request.cotangents, strict=False)
    seeds = {value: g for value, g in arrived if g is not None}
    gradients = request.differentiate(inner, seeds, request.wanted)
    return inner, {value: g for value, g in zip(request.wanted, gradients, strict=True) if g is not None}


STANDARD.declare_whole("If", Whole(bodies, vjp))
