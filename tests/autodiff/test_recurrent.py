"""RNN, GRU and LSTM where ONNX's own evaluator cannot follow: lengths, layouts, other activations."""

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal.autodiff import vjp
from onnxsal.errors import MissingRule

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
T, N, K, H = 5, 3, 4, 2


def differentiated(op_type, *, attributes="", lengths=False, layout=0, d=1, wrt=("x", "w", "r"), body="", kind="float"):
    G = GATES[op_type] * H
    X, Y = (f"{N},t,{K}", f"{N},t,{d},{H}") if layout else (f"t,n,{K}", f"t,{d},n,{H}")
    S = f"n,{d},{H}" if layout else f"{d},n,{H}"
    n, n_name = (f", int32[{N}] n", "n") if lengths else ("", '""')
    if lengths:
        X, Y, S = (v.replace("n", str(N)) for v in (X, Y, S))
    text = (
        f"({kind}[{X}] x, {kind}[{d},{G},{K}] w, {kind}[{d},{G},{H}] r, {kind}[{d},{2 * G}] b, {kind}[{S}] h0{n}) "
        f"=> ({kind}[{Y}] y, {kind}[{S}] h) "
        f"{{ {body or f'y, h = {op_type}<hidden_size={H}{attributes}>(x, w, r, b, {n_name}, h0)'} }}"
    )
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}')
    result = ir.to_proto(vjp(model, of=["y", "h"], wrt=wrt))
    onnx.checker.check_model(result, full_check=True)
    return result


def feeds(op_type, rng, d=1):
    G = GATES[op_type] * H
    shapes = {"x": (T, N, K), "w": (d, G, K), "r": (d, G, H), "b": (d, 2 * G), "h0": (d, N, H)}
    shapes |= {"cotangent_y": (T, d, N, H), "cotangent_h": (d, N, H)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def run(model, given, names):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, given)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op_type", GATES)
def test_each_sample_is_differentiated_within_its_own_length(op_type, direction, rng):
    d = 2 if direction == "bidirectional" else 1
    attributes = f',direction="{direction}"'
    together = feeds(op_type, rng, d)
    lengths = np.array([5, 2, 3], np.int32)
    padded = differentiated(op_type, attributes=attributes, lengths=True, d=d, wrt=("x", "w", "h0"))
    of_x, of_w, of_h = run(padded, together | {"n": lengths}, ["grad_x", "grad_w", "grad_h0"])
    alone = differentiated(op_type, attributes=attributes, d=d, wrt=("x", "w", "h0"))
    total = 0
    for i, length in enumerate(lengths):
        one = {
            k: v if k in "wrb" else v[:, :, i : i + 1] if k == "cotangent_y" else v[:, i : i + 1]
            for k, v in together.items()
        }
        one |= {k: one[k][:length] for k in ("x", "cotangent_y")}
        x, w, h = run(alone, one, ["grad_x", "grad_w", "grad_h0"])
        assert_allclose(of_x[:length, i : i + 1], x, rtol=1e-4, atol=1e-6)
        assert_allclose(of_h[:, i : i + 1], h, rtol=1e-4, atol=1e-6)
        assert not of_x[length:, i].any()
        total = total + w
    assert_allclose(of_w, total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op_type", GATES)
def test_layout_of_batch_first_is_the_other_transposed(op_type, rng):
    # ONNX Runtime's CPU kernels refuse layout=1, so ONNX's evaluator runs both.
    attributes = ',direction="bidirectional"'
    given = {k: v.astype(np.float64) for k, v in feeds(op_type, rng, 2).items()}
    swapped = given | {k: given[k].swapaxes(0, 1) for k in ("x", "h0", "cotangent_h")}
    swapped["cotangent_y"] = given["cotangent_y"].transpose(2, 0, 1, 3)
    names = ["grad_x", "grad_h0", "grad_r"]
    found = []
    for layout, values in enumerate((given, swapped)):
        text = attributes + f",layout={layout}"
        model = differentiated(op_type, attributes=text, layout=layout, d=2, wrt=("x", "h0", "r"), kind="double")
        found.append(onnx.reference.ReferenceEvaluator(model).run(names, values))
    (x, h, r), (other_x, other_h, other_r) = found
    assert_allclose(other_x.swapaxes(0, 1), x)
    assert_allclose(other_h.swapaxes(0, 1), h)
    assert_allclose(other_r, r)


@pytest.mark.parametrize("function", ["Relu", "Sigmoid", "Tanh"])
def test_rnn_with_other_activations_equals_its_steps_written_out(function, rng):
    steps = "".join(
        f"x{t} = Gather(x, t{t}) a{t} = Gemm<transB=1>(x{t}, w2, bw) c{t} = Gemm<transB=1>(h{t}, r2, br) "
        f"s{t} = Add(a{t}, c{t}) h{t + 1} = {function}(s{t}) y{t} = Unsqueeze(h{t + 1}, axes) "
        for t in range(T)
    )
    constants = "".join(f"t{t} = Constant<value_int={t}>() " for t in range(T))
    body = (
        f"{constants} zero = Constant<value_ints=[0]>() axes = Constant<value_ints=[0,1]>() "
        f"w2 = Squeeze(w, zero) r2 = Squeeze(r, zero) b1 = Squeeze(b, zero) bw, br = Split<num_outputs=2>(b1) "
        f"h0_ = Squeeze(h0, zero) h00 = Identity(h0_) {steps.replace('(h0,', '(h00,')} "
        f"y = Concat<axis=0>({', '.join(f'y{t}' for t in range(T))}) h = Unsqueeze(h{T}, zero)"
    )
    given, names = feeds("RNN", rng), ["y", "grad_x", "grad_w", "grad_r"]
    as_operator = run(differentiated("RNN", attributes=f',activations=["{function}"]'), given, names)
    written_out = run(differentiated("RNN", body=body), given, names)
    for found, expected in zip(as_operator, written_out, strict=True):
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op_type", "attributes", "what"),
    [
        ("RNN", ',activations=["Elu"]', "Elu"),
        ("GRU", ",clip=3.0", r"clip=3\.0"),
        ("LSTM", ",input_forget=1", "input_forget=1"),
    ],
)
def test_what_is_not_covered_is_a_clear_error(op_type, attributes, what):
    with pytest.raises(
        MissingRule, match=rf"no vjp rule for {op_type} \(node '.*'\) with {what}: Tanh, Sigmoid and Relu"
    ):
        differentiated(op_type, attributes=attributes)
