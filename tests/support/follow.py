"""Models in ONNX's text form, followed from the image on."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import canonicalise, opset_of
from onnxsal.model.grid import Grid, Layer, fold


def canonical(text: str, *, opset: int = 21, ir_version: int = 10, domains: str = "") -> ir.Model:
    """Return the model of `(inputs) => (outputs) <constants> { nodes }` in canonical form.

    Constants without a value are weights: random numbers.
    """
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}{domains}]> agraph {text}')
    made = {name for node in model.graph.node for name in node.output}
    rng = np.random.default_rng(0)
    for info in [v for v in model.graph.value_info if v.name not in made]:
        kind = info.type.tensor_type
        array = rng.standard_normal([d.dim_value for d in kind.shape.dim])
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(dtype), info.name))
        model.graph.value_info.remove(info)
    return canonicalise(ir.from_proto(model))


def follow(text: str, layout: str = "NCHW", size: tuple[int, int] | None = None, **settings) -> tuple[Grid, ir.Model]:
    model = canonical(text, **settings)
    return Grid.of(model, str(model.graph.inputs[0].name), layout, size), model


def layer(text: str, name: str = "y", layout: str = "NCHW", size: tuple[int, int] | None = None) -> Layer | None:
    """Return what is found of the value `name`."""
    return follow(text, layout, size)[0].layer(name)


def run(model: ir.Model, feeds: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
    """Run in ONNX Runtime, without optimisation."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model)
    proto.ir_version = max(proto.ir_version, 4)  # up to 3 the runtime wants constants listed as inputs
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, feeds)


def run_folded(text: str, names: list[str], x: np.ndarray, layout: str = "NCHW") -> list[np.ndarray]:
    """Return the layers, folded by the runtime to (N, C, h, w)."""
    grid, model = follow(text, layout)
    op = Op(model.graph, opset_of(model), 10)
    for name in names:
        found = grid.layer(name)
        assert found is not None, f"{name} is no layer"
        folded = fold(op, grid.value(name), found)
        output = ir.Value(name=f"folded_{name}", type=folded.type, shape=folded.shape)
        model.graph.append(ir.Node("", "Identity", [folded], outputs=[output]))
        model.graph.outputs.append(output)
    return run(model, {str(model.graph.inputs[0].name): x}, [f"folded_{name}" for name in names])


def pixel_numbers(samples: int, channels: int, height: int, width: int) -> np.ndarray:
    """Return an image (N, C, H, W) in which each number stands once."""
    return np.arange(samples * channels * height * width, dtype=np.float32).reshape(samples, channels, height, width)
