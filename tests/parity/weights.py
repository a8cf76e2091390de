"""Weights made from a name and a shape, so that no file has to carry them.

Philox's raw stream is the same on every numpy and every machine (numpy promises it for
bit generators, not for its distributions), so a frozen reference and the test that reads
it meet in the very same weights.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def uniform(name: str, shape: tuple[int, ...]) -> Floats:
    """Return float32 in [-1, 1), a function of `name` and `shape` alone."""
    key = hashlib.sha256(f"{name} {list(shape)}".encode()).digest()[:16]
    bits = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(int(np.prod(shape)))
    # 24 bits are what a float32 holds exactly.
    fractions = (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**23)
    return (fractions - np.float32(1)).reshape(shape)


def weight(name: str, shape: tuple[int, ...], gain: float) -> Floats:
    """Return a weight of about the size that training leaves.

    Args:
        name: The parameter's name in the torch module, such as `layer1.0.bn1.running_var`.
        shape: Its shape.
        gain: What every kernel's standard deviation is multiplied by; 1 keeps the variance
            of a layer followed by a ReLU.
    """
    u = uniform(name, shape)
    if name.endswith("running_var"):
        return 1 + np.float32(0.4) * u
    if name.endswith("layer_scale"):
        return np.float32(0.5) + np.float32(0.2) * u
    if name.endswith(("bias", "running_mean")):
        return np.float32(0.1) * u
    if len(shape) == 1:
        return 1 + np.float32(0.3) * u
    # A uniform value in [-1, 1) has variance 1/3; He et al. 2015 (arXiv:1502.01852) ask for 2/fan_in.
    fan_in = int(np.prod(shape[1:]))
    return np.float32(gain * np.sqrt(6 / fan_in)) * u
