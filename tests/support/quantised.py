"""A slow rewrite of quantised networks: float operators in double, rounding and clipping frozen at one input.

At one input each quantisation is replaced by the straight line through what it gave there: of slope 1
where the number lies within the range, 0 where it was clipped. What is left is a smooth float network,
whose derivatives finite differences in double show exactly: those that the gradient graph has to have.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
from onnx import helper, numpy_helper

LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
ODD = {"uint4": (0, 15), "int4": (-8, 7), "float8_e4m3fn": (-448, 448)}
LIMITS |= ODD
# The operator within, the inputs (each with its scale and zero point behind it), and the output's scale.
QLINEAR = {
    "QLinearConv": ("Conv", (0, 3), 6),
    "QLinearMatMul": ("MatMul", (0, 3), 6),
    "QLinearAdd": ("Add", (0, 3), 6),
    "QLinearMul": ("Mul", (0, 3), 6),
    "QLinearSigmoid": ("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": ("LeakyRelu", (0,), 3),
    "QLinearSoftmax": ("Softmax", (0,), 3),
    "QLinearAveragePool": ("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 3),
    "QLinearWhere": ("Where", (1, 4), 7),
    "QGemm": ("Gemm", (0, 3), 7),
}
ANYWHERE = (-np.inf, np.inf)
AXIS = {("QLinearConv", 3): 0, ("QGemm", 3): 1}
OWN = ("channels_last", "opset", "to")


def session(model: onnx.ModelProto, level: str = "ALL") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    name = "ORT_DISABLE_ALL" if level == "NONE" else f"ORT_ENABLE_{level}"
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Frozen:
    """A quantised model around one input. Models have one input and one output."""

    def __init__(self, model: onnx.ModelProto, x: np.ndarray) -> None:
        self.model = model
        self.held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.held |= {
            n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"
        }
        self.seen = self._everything(x)
        self.slopes: dict[str, tuple] = {}
        self.picked: dict[str, np.ndarray] = {}
        self.scales: dict[str, np.ndarray] = {}
        self.spans: dict[str, tuple[float, float]] = {}
        (self.input,), (self.output,) = (i for i in [model.graph.input]), (o for o in [model.graph.output])
        self.x = np.float64(x)
        self.run(self.x)

    def derivative(self, v: np.ndarray, u: np.ndarray, step: float = 1e-5) -> float:
        """Return the derivative of ⟨v, y⟩ along u."""
        plus, minus = (np.sum(v * self.run(self.x + s * step * u)) for s in (1, -1))
        return float(plus - minus) / (2 * step)

    def run(self, x: np.ndarray) -> np.ndarray:
        self.env = {self.input[0].name: x}
        for node in self.model.graph.node:
            if node.op_type != "Constant":
                self._run_node(node)
        return self.env[self.output[0].name]

    def _everything(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return every value that ONNX Runtime computes, as it computes it."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        names = [o for n in model.graph.node if n.op_type != "Constant" for o in n.output if o]
        odd = {n.output[0]: self.held[n.input[2]].dtype for n in model.graph.node if self._is_odd(n)}
        asked = [f"{n}_wide" if n in odd else n for n in names]
        wide = [helper.make_node("Cast", [n], [f"{n}_wide"], to=onnx.TensorProto.FLOAT) for n in odd]
        model.graph.node.extend(wide)
        model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in asked)
        found = session(model, "NONE").run(asked, {model.graph.input[0].name: x})
        return {n: a.astype(odd.get(n, a.dtype)) for n, a in zip(names, found, strict=True)}

    def _is_odd(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node makes numbers of a type that NumPy does not have."""
        return node.op_type == "QuantizeLinear" and self.held[node.input[2]].dtype.name in ODD

    # ----- Nodes -----

    def _run_node(self, node: onnx.NodeProto) -> None:
        kind, name = node.op_type, node.output[0]
        if kind == "QuantizeLinear":
            axis, span = self._attribute(node, "axis", 1), self.spans.get(node.input[0], ANYWHERE)
            self._settle(name, self.env[node.input[0]], *self._scale(node, 1), axis, span=span)
        elif kind == "DequantizeLinear":
            self.env[name] = self._operand(node, 0, self._attribute(node, "axis", 1))
            self.spans[name] = self.spans.get(node.input[0], ANYWHERE)
        elif kind == "DynamicQuantizeLinear":
            scale, zero = (self.seen[o] for o in node.output[1:])
            self.held |= {node.output[1]: scale, node.output[2]: zero}
            self._settle(name, self.env[node.input[0]], scale, zero, clips=False)
        elif kind in QLINEAR or kind == "QLinearConcat":
            self._run_qlinear(node)
        elif kind in ("ConvInteger", "MatMulInteger"):
            self._run_integer(node)
        elif kind in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat"):
            self._run_scaled(node, (2, 3, 4) if kind == "DynamicQuantizeMatMul" else (3, 5, 6))
        else:
            self._run_float(node)

    def _run_qlinear(self, node: onnx.NodeProto) -> None:
        if node.op_type == "QLinearConcat":
            inner, at, out = "Concat", range(2, len(node.input), 3), 0
        else:
            inner, at, out = QLINEAR[node.op_type]
        operands = [self._operand(node, i, AXIS.get((node.op_type, i), 1)) for i in at]
        if node.op_type == "QLinearWhere":
            operands = [self.held[node.input[0]], *operands]
        bias = {"QLinearConv": 8, "QGemm": 6}.get(node.op_type, 99)
        if bias < len(node.input) and node.input[bias]:
            steps = self.held[node.input[1]].astype(np.float64) * self.held[node.input[4]]
            operands.append(self.held[node.input[bias]] * steps)
        if self._attribute(node, "channels_last", 0):
            value = np.moveaxis(self._evaluate(inner, [np.moveaxis(operands[0], -1, 1)], node), 1, -1)
        elif node.op_type == "QLinearSoftmax" and self._attribute(node, "opset", 13) < 13:
            rows = operands[0].reshape(int(np.prod(operands[0].shape[: self._attribute(node, "axis", 1)])), -1)
            value = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
            value = value.reshape(operands[0].shape)
        else:
            value = self._evaluate(inner, operands, node)
        if out >= len(node.input):
            self.env[node.output[0]] = value
            return
        spans = [self.spans.get(node.input[i], ANYWHERE) for i in at]
        self._settle(node.output[0], value, *self._scale(node, out), span=self._span(inner, spans))

    def _run_integer(self, node: onnx.NodeProto) -> None:
        """Sums of steps: real numbers over what a step is worth."""
        left = self.env[node.input[0]] / self.scales[node.input[0]]
        zero = self.held[node.input[3]].astype(np.float64) if len(node.input) > 3 else np.zeros(())
        weight = self.held[node.input[1]].astype(np.float64)
        if zero.size > 1:
            zero = zero.reshape((-1,) + (1,) * (weight.ndim - 1)) if node.op_type == "ConvInteger" else zero
        kind = node.op_type.removesuffix("Integer")
        self.env[node.output[0]] = self._evaluate(kind, [left, weight - zero], node)
        self.scales[node.output[0]] = np.ones(())

    def _run_scaled(self, node: onnx.NodeProto, at: tuple[int, int, int]) -> None:
        """A product with weights whose scale, zero point and bias stand at the given places."""
        scale, zero, bias = (self.held[node.input[i]] for i in at)
        weight = decode(self.held[node.input[1]], scale, zero, -1)
        self.env[node.output[0]] = self.env[node.input[0]] @ weight + bias

    def _run_float(self, node: onnx.NodeProto) -> None:
        operands = [self.env.get(i, self.held.get(i)) for i in node.input if i]
        if all(i in self.held for i in node.input):
            self.held[node.output[0]] = self._evaluate(node.op_type, operands, node)
            return
        if node.op_type == "Cast":
            self.env[node.output[0]] = operands[0] / self.scales.get(node.input[0], 1.0)
            self.scales[node.output[0]] = np.ones(())
            return
        operands = [np.float64(o) if np.asarray(o).dtype.kind == "f" else o for o in operands]
        self.env[node.output[0]] = self._evaluate(node.op_type, operands, node)
        if node.input[0] in self.scales:
            self.scales[node.output[0]] = self.scales[node.input[0]]
        spans = [self.spans.get(i, ANYWHERE) for i in node.input]
        self.spans[node.output[0]] = self._span(node.op_type, spans)

    def _evaluate(self, kind: str, operands: Sequence[np.ndarray], node: onnx.NodeProto) -> np.ndarray:
        if kind == "MaxPool":
            return self._pool(operands[0], node)
        names = [f"x{i}" for i in range(len(operands))]
        made = helper.make_node(kind, names, ["y"])
        made.attribute.extend(a for a in node.attribute if a.name not in OWN)
        opset = next(o.version for o in self.model.opset_import if o.domain == "")
        graph = helper.make_graph(
            [made],
            "one",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(o.dtype), o.shape)
                for n, o in zip(names, operands, strict=True)
            ],
            [helper.make_empty_tensor_value_info("y")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        return onnx.reference.ReferenceEvaluator(model).run(["y"], dict(zip(names, operands, strict=True)))[0]

    def _pool(self, x: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
        """Take the maxima from where they were: of equal numbers, which quantisation makes many, the first."""
        name = node.output[0]
        if name not in self.picked:
            given = {a.name: list(a.ints) for a in node.attribute}
            rows, columns = (slice(None, None, s) for s in given.get("strides", [1, 1]))
            windows, places = (
                np.lib.stride_tricks.sliding_window_view(a, given["kernel_shape"], axis=(2, 3))[:, :, rows, columns]
                for a in (x, np.arange(x.size).reshape(x.shape))
            )
            flat = (*windows.shape[:4], -1)
            first = windows.reshape(flat).argmax(axis=-1)[..., None]
            self.picked[name] = np.take_along_axis(places.reshape(flat), first, axis=-1)[..., 0]
        return x.reshape(-1)[self.picked[name]]

    # ----- Quantisation -----

    def _scale(self, node: onnx.NodeProto, at: int) -> tuple[np.ndarray, np.ndarray | None]:
        zero = node.input[at + 1] if at + 1 < len(node.input) and node.input[at + 1] else None
        return self.held[node.input[at]], None if zero is None else self.held[zero]

    def _attribute(self, node: onnx.NodeProto, name: str, default: int) -> int:
        return next((a.i for a in node.attribute if a.name == name), default)

    def _operand(self, node: onnx.NodeProto, at: int, axis: int) -> np.ndarray:
        """Return the real numbers of a quantised operand."""
        name = node.input[at]
        scale, zero = self._scale(node, at + 1)
        if name in self.held:
            block = self._attribute(node, "block_size", 0)
            return decode(self.held[name], scale, zero, axis, block)
        made = self.scales.get(name)
        return self.env[name] if made is None else self.env[name] * (np.float64(scale) / made)

    def _settle(self, name, value, scale, zero, axis=1, *, clips=True, span=ANYWHERE) -> None:
        """Take the line through what the quantisation gave, and keep to it."""
        if name not in self.slopes:
            integers = self.seen[name]
            there = decode(integers, scale, zero, axis)
            numbers = integers.astype(np.float64)
            low, high = LIMITS[str(integers.dtype)]
            source = next((n.input[0] for n in self.model.graph.node if n.output[0] == name), "")
            ends = ANYWHERE
            inside = np.ones(numbers.shape, bool)
            if scale.size == 1:
                ends = tuple(decode(np.array(e, integers.dtype), scale, zero).item() for e in (low, high))
            if clips and scale.size == 1 and source == self.input[0].name:
                inside = (value >= ends[0] - scale / 2) & (value <= ends[1] + scale / 2)
            elif clips and scale.size > 1:
                inside = (numbers > low) & (numbers < high)
            elif clips:
                inside &= (numbers > low) | (span[0] >= ends[0] - scale / 2)
                inside &= (numbers < high) | (span[1] <= ends[1] + scale / 2)
            self.slopes[name] = (there, value, inside)
            self.spans[name] = ends
            self.scales[name] = np.float64(scale) if scale.size == 1 else None
        there, before, inside = self.slopes[name]
        self.env[name] = there + inside * (value - before)

    def _span(self, kind: str, spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Return what an operator's result surely lies between."""
        if kind in ("Sigmoid", "Softmax"):
            return 0.0, 1.0
        if kind == "Add":
            return sum(s[0] for s in spans), sum(s[1] for s in spans)
        if kind == "Mul":
            corners = [a * b for a in spans[0] for b in spans[-1]]
            return (min(corners), max(corners)) if np.all(np.isfinite(corners)) else ANYWHERE
        if kind == "Relu":
            return max(spans[0][0], 0.0), max(spans[0][1], 0.0)
        if kind in ("AveragePool", "GlobalAveragePool", "MaxPool", "Reshape", "Flatten", "Transpose"):
            return spans[0]
        if kind == "Concat":
            return min(s[0] for s in spans), max(s[1] for s in spans)
        return -np.inf, np.inf


def decode(integers, scale, zero, axis=1, block=0) -> np.ndarray:
    """Return (integers - zero) * scale in double."""
    numbers = np.asarray(integers).astype(np.float64)
    for i, parameter in enumerate((zero, scale)):
        if parameter is None:
            continue
        p = np.asarray(parameter).astype(np.float64)
        if block:
            p = np.repeat(p, block, axis=axis)
        elif p.size == 1:
            p = p.reshape(())
        else:
            p = p.reshape([-1 if a == axis % numbers.ndim else 1 for a in range(numbers.ndim)])
        numbers = numbers * p if i else numbers - p
    return numbers
