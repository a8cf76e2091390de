"""Try whether a model that was exported for one image at a time can take several."""

import tempfile
from pathlib import Path

import numpy as np

from onnxsal.errors import OnnxsalError
from onnxsal.explanation.sharing import open_session, save_model
from onnxsal.model.batch import make_batch_dynamic, rows_agree
from onnxsal.model.network import Network
from onnxsal.session import Session

ROWS = 3


def batch_agrees(network: Network, single: Session, providers: list[str]) -> bool:
    """Tell whether the model with its batch made dynamic gives each row what it gives it alone.

    A patched Reshape can run and mix rows up, so random rows are compared; any failure is a no, and
    images are then run one by one.
    """
    if len(network.signature.inputs) != 1:
        return False
    batched = make_batch_dynamic(network.graph())
    if batched is None:
        return False
    image = network.card.image
    x = _random_rows(
        image.dtype,
        [d if isinstance(d, int) else s for d, s in zip(single.inputs[image.name], _shape(network), strict=True)],
    )
    try:
        with tempfile.TemporaryDirectory(prefix="onnxsal-") as folder:
            path = Path(folder) / "batched.onnx"
            save_model(batched.clone(), path)
            session = open_session(path, network.source, providers)
            return rows_agree(
                lambda rows: list(session.run({image.name: rows}).values()),
                lambda row: list(single.run({image.name: row}).values()),
                x,
                rtol=1e-3,
            )
    except (OnnxsalError, ValueError):
        return False


def _shape(network: Network) -> list[int]:
    height, width = network.card.card.size or (224, 224)
    channels = {"GRAY": 1, "RGBA": 4, "BGRA": 4}.get(network.card.card.channels or "RGB", 3)
    shape = [1, height, width]
    shape.insert(network.card.card.channel_axis, channels)
    return shape


def _random_rows(dtype: str, shape: list[int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    rng = np.random.default_rng(0)
    rows = [ROWS, *shape[1:]]
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 127, rows).astype(dtype)
    return rng.standard_normal(rows).astype(dtype)
