"""The rule for Loop and Scan: a Loop that takes the turns in reverse.

Each turn back holds the forward turn again, from the states that the forward loop recorded before it, and
its vjp. It hands the cotangents of the states to the turn before, adds up those of what the body reads
around it, and stacks those of what it read slice by slice. Of no turns at all it hands the cotangents of
the final states on to the initial ones.
"""

import onnx_ir as ir

from onnxsal.autodiff.bodies import Whole
from onnxsal.autodiff.registry import STANDARD
from onnxsal.autodiff.rules.slices import flip
from onnxsal.autodiff.rules.turns import bodies, count_turns, is_stackable, record, run_until, turns_of
from onnxsal.graph.builder import rank
from onnxsal.graph.flow import captured
from onnxsal.graph.lists import add_lists, zeros_for
from onnxsal.graph.prune import drop_unread
from onnxsal.graph.subgraph import argument, loop_arguments, open_body, replay, result, write
from onnxsal.graph.types import dims, is_sequence


def vjp(op, request):
    turns, (inside,) = turns_of(request.node), request.inside
    states = [s for s in turns.states if s.before in inside.active and s.after in inside.of]
    items = [r for r in turns.read if r.slice in inside.active]
    around = captured(request.node)
    around = [value for value in request.wanted if value in around]
    back = Back(op, request, turns)
    back.step(states, items, around)
    return back.loop(states, items)


class Back:
    """Writes the way back through the turns of one node.

    Attributes:
        inner: Writes one turn back.
        turn: The number of the forward turn that it undoes.
        past: What stands for each state before that turn.
    """

    def __init__(self, op, request, turns):
        self.op, self.request, self.turns = op, request, turns
        self.count = count_turns(op, turns)
        self.inner = open_body(op, "back")
        self.back_turn, self.going = loop_arguments(self.inner)
        self.turn = self.inner.Sub(self.inner.Sub(self.count, 1), self.back_turn)
        self.past = [self.stand_in(state.before) for state in turns.states]

    def stand_in(self, value):
        name = self.inner.fresh(f"{self.inner.graph.name}/{value.name}")
        return ir.Value(name=name, type=value.type, shape=value.shape)

    # ----- One turn -----

    def step(self, states, items, around):
        """Write one turn back, with its outputs."""
        inner, turns, request = self.inner, self.turns, self.request
        slices = [self.slice_of(r, r.whole) for r in turns.read]
        first = self.counters() if request.node.op_type == "Loop" else []
        outputs = replay(inner, turns.graph, [*first, *self.past, *slices])
        made = dict(zip(turns.graph.outputs, outputs, strict=True))
        carried = [argument(inner, request.sketch(s.before), "cotangent") for s in states]
        seeds = self.seeds(made, states, carried)
        past = [self.past[turns.states.index(s)] for s in states]
        wrt = [*past, *(slices[turns.read.index(r)] for r in items), *around]
        gradients = request.differentiate(inner, seeds, wrt)
        result(inner, self.going)
        for state, one, g, arrived in zip(states, past, gradients, carried, strict=False):
            like = arrived if is_stackable(state) else one
            result(inner, zeros_for(inner, like, request.gradient_type(one)) if g is None else g)
        n = len(states)
        self.sum_up(around, gradients[n + len(items) :])
        for r, one, g in zip(items, wrt[n:], gradients[n:], strict=False):
            result(inner, zeros_for(inner, one, request.gradient_type(r.slice)) if g is None else g)
        self.recall()

    def counters(self):
        """Return what a Loop's body is told of the turn: its number, and that it is still going."""
        told = zip(self.turns.graph.inputs, [self.turn, self.inner.const(True)], strict=False)
        return [self.inner.Reshape(value, [1]) if dims(one) == (1,) else value for one, value in told]

    def seeds(self, made, states, carried):
        """Return the cotangents of the turn's outputs, by value."""
        arrived = [(made[s.after], g) for s, g in zip(states, carried, strict=True)]
        for w in self.turns.written:
            g = self.request.cotangent(w.whole)
            arrived += [] if g is None else [(made[w.slice], self.slice_of(w, g))]
        seeds = {}
        for value, g in arrived:
            seeds[value] = add(self.inner, seeds[value], g) if value in seeds else g
        return seeds

    def slice_of(self, sliced, whole):
        """Return a turn's slice of a whole, or of its cotangent."""
        place = self.back_turn if sliced.backwards else self.turn
        one = self.inner.Gather(whole, place, axis=sliced.axis)
        if one.shape is None:
            one.shape = sliced.slice.shape
        return one

    def sum_up(self, around, gradients):
        """Add a turn's cotangents of what the body reads around it to those of the turns behind it."""
        self.around = [(value, g) for value, g in zip(around, gradients, strict=True) if g is not None]
        for value, g in self.around:
            total = argument(self.inner, self.request.sketch(value), "total")
            result(self.inner, add(self.inner, total, g))

    def recall(self):
        """Put what was before the turn in the place of what stands for it, as far as it is read."""
        inner, turns = self.inner, self.turns
        drop_unread(inner.graph, keep=[self.turn])
        again = None
        for index, (state, one) in enumerate(zip(turns.states, self.past, strict=True)):
            if not one.uses() and not one.is_graph_output():
                continue
            if turns.read or is_stackable(state):
                found = inner.Gather(record(self.op, turns, state.before), self.turn, axis=0)
                found.shape = one.shape
            else:
                again = again or run_until(inner, turns, self.turn)
                found = again[index]
            ir.convenience.replace_all_uses_with(one, found, replace_graph_outputs=True)
        inner.graph.sort()

    # ----- All turns -----

    def loop(self, states, items):
        """Write the loop over the turns; return pairs of a value and its cotangent."""
        op, request = self.op, self.request
        wanted = set(request.wanted)
        initial = [self.last(s) for s in states]
        initial += [zeros_for(op, value, request.gradient_type(value)) for value, _ in self.around]
        stacks = [self.stack(r) for r in items]
        like = [*(request.sketch(s.before) for s in states), *(request.sketch(v) for v, _ in self.around), *stacks]
        if not like:
            return []
        outputs = write(op, "Loop", [self.count, op.const(True), *initial], like, {"body": self.inner})
        values = [*(s.initial for s in states), *(v for v, _ in self.around)]
        pairs = list(zip(values, outputs, strict=False))
        pairs += [(r.whole, self.arrange(r, g)) for r, g in zip(items, outputs[len(values) :], strict=True)]
        return [(value, g) for value, g in pairs if value in wanted]

    def last(self, state):
        """Return the cotangent of a final state."""
        g = self.request.cotangent(state.final)
        if g is not None:
            return g
        if not state.final.name:
            state.final.name = self.op.fresh(f"{state.after.name}_final")
        return zeros_for(self.op, state.final, self.request.gradient_type(state.before))

    def stack(self, sliced):
        one = self.request.sketch(sliced.slice)
        return ir.Value(type=one.type, shape=ir.Shape([dims(sliced.whole)[sliced.axis], *dims(one)]))

    def arrange(self, sliced, stacked):
        """Return stacked cotangents, the last turn's first, as the whole lies."""
        op = self.op
        stacked = stacked if sliced.backwards else flip(op, stacked, [0])
        n = rank(sliced.whole)
        axis = sliced.axis % n
        return stacked if axis == 0 else op.Transpose(stacked, perm=[*range(1, axis + 1), 0, *range(axis + 1, n)])


def add(op, a, b):
    return add_lists(op, a, b) if is_sequence(a) else op.Add(a, b)


for _op_type in ("Loop", "Scan"):
    STANDARD.declare_whole(_op_type, Whole(bodies, vjp))
