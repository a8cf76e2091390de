"""The methods again, slow and close to their papers, for one small network.

conv 3x3 → ReLU → max-pool 2x2 → conv 3x3 → ReLU → global average → linear. Everything is written with
loops or plain sums from the formulas; nothing of onnxsal is used.
"""

from dataclasses import dataclass

import numpy as np
import onnx

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N,3,12,12] image) => (float[N,4] logits)
{
  c1 = Conv<pads=[1,1,1,1]>(image, w1, b1)
  a1 = Relu(c1)
  p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a1)
  c2 = Conv<pads=[1,1,1,1]>(p1, w2, b2)
  a2 = Relu(c2)
  pooled = GlobalAveragePool(a2)
  flat = Flatten(pooled)
  logits = Gemm<transB=1>(flat, w3, b3)
}
"""


WEIGHTS = {"w1": (5, 3, 3, 3), "b1": (5,), "w2": (6, 5, 3, 3), "b2": (6,), "w3": (4, 6), "b3": (4,)}


@dataclass
class Small:
    """The network and its weights."""

    model: onnx.ModelProto
    w: dict[str, np.ndarray]


def small_network(seed: int = 0) -> Small:
    """Return the network with random weights."""
    rng = np.random.default_rng(seed)
    model = onnx.parser.parse_model(TEXT)
    w = {n: (rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for n, s in WEIGHTS.items()}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in w.items())
    onnx.checker.check_model(model, full_check=True)
    return Small(model, w)


def conv(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate (C, H, W) with (O, C, 3, 3), zeros around."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    out = np.empty((len(w), *x.shape[1:]))
    for o in range(len(w)):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                out[o, i, j] = np.sum(w[o] * padded[:, i : i + 3, j : j + 3]) + b[o]
    return out


def conv_transposed(g: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Send each output's value back through the filter that made it."""
    padded = np.zeros((w.shape[1], g.shape[1] + 2, g.shape[2] + 2))
    for o in range(len(w)):
        for i in range(g.shape[1]):
            for j in range(g.shape[2]):
                padded[:, i : i + 3, j : j + 3] += g[o, i, j] * w[o]
    return padded[:, 1:-1, 1:-1]


def pool(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maxima of 2x2 windows, and the switches: where each was, 0 to 3."""
    c, h, w = x.shape
    windows = x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 2, 4).reshape(c, h // 2, w // 2, 4)
    return windows.max(-1), windows.argmax(-1)


def unpool(g: np.ndarray, switches: np.ndarray) -> np.ndarray:
    """Put each value where the switch says, zeros elsewhere."""
    c, h, w = g.shape
    windows = np.zeros((c, h, w, 4))
    for index in np.ndindex(c, h, w):
        windows[(*index, switches[index])] = g[index]
    return windows.reshape(c, h, w, 2, 2).transpose(0, 1, 3, 2, 4).reshape(c, 2 * h, 2 * w)


def forward(net: Small, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return all activations for one image (3, 12, 12)."""
    c1 = conv(x, net.w["w1"], net.w["b1"])
    a1 = np.maximum(c1, 0)
    p1, switches = pool(a1)
    c2 = conv(p1, net.w["w2"], net.w["b2"])
    a2 = np.maximum(c2, 0)
    logits = net.w["w3"] @ a2.mean((1, 2)) + net.w["b3"]
    return {"c1": c1, "a1": a1, "p1": p1, "switches": switches, "c2": c2, "a2": a2, "logits": logits}


def back_to_layer(net: Small, target: int, size: tuple[int, int]) -> np.ndarray:
    """Return what the target's logit sends to the last feature map: its weights, spread by the average."""
    weights = net.w["w3"][target].astype(np.float64)
    return np.repeat(weights, size[0] * size[1]).reshape(-1, *size) / (size[0] * size[1])


def rectify(rule: str, g: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Send `g` back through a ReLU: Springenberg et al. 2015, figure 1 b."""
    if rule == "deconvnet":
        return np.where(g > 0, g, 0)
    if rule == "guided":
        return np.where((g > 0) & (before > 0), g, 0)
    return np.where(before > 0, g, 0)


def back_to_image(net: Small, x: np.ndarray, target: int, rule: str) -> np.ndarray:
    """Return the gradient (3, 12, 12) of a logit under a rule for rectifiers."""
    f = forward(net, x)
    g = back_to_layer(net, target, f["a2"].shape[1:])
    g = conv_transposed(rectify(rule, g, f["c2"]), net.w["w2"])
    g = rectify(rule, unpool(g, f["switches"]), f["c1"])
    return conv_transposed(g, net.w["w1"])


def grad_cam(net: Small, x: np.ndarray, target: int) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2."""
    f = forward(net, x)
    alpha = back_to_layer(net, target, f["a2"].shape[1:]).mean((1, 2))
    return np.maximum(sum(a * m for a, m in zip(alpha, f["a2"], strict=True)), 0)


def odam(net: Small, x: np.ndarray, target: int) -> np.ndarray:
    """Zhao and Chan 2023, equation 5: activation times gradient, place by place, summed over channels."""
    f = forward(net, x)
    return np.maximum((back_to_layer(net, target, f["a2"].shape[1:]) * f["a2"]).sum(axis=0), 0)


def cam(net: Small, x: np.ndarray, target: int) -> np.ndarray:
    """Zhou et al. 2016, equation 2."""
    f = forward(net, x)
    return sum(w * m for w, m in zip(net.w["w3"][target], f["a2"], strict=True))


def enlarge(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate bilinearly between pixel centres; beyond the outermost centres repeat them."""
    out = np.empty(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * heat.shape[0] / size[0] - 0.5, 0), heat.shape[0] - 1)
            x = min(max((j + 0.5) * heat.shape[1] / size[1] - 0.5, 0), heat.shape[1] - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, heat.shape[0] - 1), min(x0 + 1, heat.shape[1] - 1)
            top = heat[y0, x0] * (1 - (x - x0)) + heat[y0, x1] * (x - x0)
            low = heat[y1, x0] * (1 - (x - x0)) + heat[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + low * (y - y0)
    return out
