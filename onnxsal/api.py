"""The story on one screen: load a model, explain an image.

    model.onnx ─ load ─▶ Model ──┐
    "class:281" ───────▶ Target ─┼─ method.build ─▶ explainer graph ─ session ─▶ run ─┐
    photo.jpg ─ image ─▶ x ──────┘                                                    ▼
                     picture ◀─ render ─ Explanation ◀─ heatmap ─ attribution ◀───────┘

`load` reads the file's header (`model/source.py`) and the card (`model/card/`). `Model.explain`
(`explanation/loaded.py`) reads the image (`image/`), the target (`targets.py`) and the method
(`methods/`); builds the explainer graph (`methods/explainer.py`, with `autodiff/`) unless it is in the
cache; runs it (`session/`); and maps what comes out back to the photo.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxsal.errors import ModelError
from onnxsal.explanation import Explanation, Model
from onnxsal.explanation.array_sources import of_file, of_function, takes_arrays
from onnxsal.explanation.arrays import ArrayModel
from onnxsal.model.card import Card, resolve_card
from onnxsal.model.card.files import read_card
from onnxsal.model.network import Network
from onnxsal.model.source import Source
from onnxsal.model.unbatched import OnePhoto, takes_one_photo
from onnxsal.session import Cache

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def load(
    source: "str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model | Callable[[Any], Any]",
    *,
    card: Card | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    providers: str | Sequence[str] | None = None,
) -> Any:
    """Load an ONNX model: a `Model`, or an `ArrayModel` if what it takes is no image.

    Which of the two only the file tells, so that type checkers are told neither.

    Args:
        source: A path, the bytes of a file, a model in memory; or a Python function that maps samples (n, ...) to
            scores (n, K), which black-box methods explain.
        card: What the file does not say: a card, a mapping with its fields, or the path of a TOML file.
            What it leaves out is looked for beside and in the file, and guessed last.
        providers: ONNX Runtime's execution providers, `cuda` or `CUDAExecutionProvider`; None is the CPU.

    Raises:
        ModelError: The file is missing, truncated, not ONNX, or lacks its external weights.
        UnsupportedModel: No input takes an image.
        CardError: The card says something that cannot be.
    """
    if callable(source):
        return of_function(source, _labels(card))
    path, data = _as_path_or_bytes(source)
    cache = Cache()
    read = Source(path, data, cache.read_json, cache.add_json)
    read = OnePhoto(read) if takes_one_photo(read) else read
    signature = read.signature
    if takes_arrays(read):
        return of_file(read, providers, _labels(card))
    facts = {"normalises": signature.normalises, "producer": signature.producer}
    with read.blamed():
        resolved = resolve_card(signature.inputs, signature.outputs, signature.metadata, path, card, facts=facts)
    return Model(Network(read, resolved), providers, cache)


def explain(
    model: "str | os.PathLike[str] | Model",
    image: Any,
    method: str = "grad-cam",
    target: str | int | None = None,
    layer: str | None = None,
    **settings: Any,
) -> "Explanation | list[Explanation]":
    """Load a model and explain an image in one call; see `load` and `Model.explain`."""
    loaded = model if isinstance(model, Model | ArrayModel) else load(model)
    settings |= {} if layer is None else {"layer": layer}
    explained: Explanation | list[Explanation] = loaded.explain(image, method, target, **settings)
    return explained


def _labels(card: Any) -> Sequence[str] | None:
    """Return the labels that a card says, which is all that a model of arrays has use for."""
    if card is None or isinstance(card, str | os.PathLike):
        return None if card is None else read_card(card, where=f"card {Path(card).name}").labels
    return card.labels if isinstance(card, Card) else card.get("labels")


def _as_path_or_bytes(source: Any) -> tuple[Path | None, bytes | None]:
    """Return where the model is: in a file, or in memory."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            raise ModelError(f"{path} is a folder: give the .onnx file in it")
        if not path.exists():
            raise ModelError(f"there is no file {path}")
        return path, None
    if isinstance(source, bytes | bytearray | memoryview):
        return None, bytes(source)
    if hasattr(source, "SerializeToString"):
        return None, source.SerializeToString()
    if hasattr(source, "graph") and hasattr(source, "opset_imports"):
        import onnx_ir as ir

        return None, ir.to_proto(ir.external_data.load_to_model(source.clone())).SerializeToString()
    raise ModelError(f"a model is a path, bytes, an onnx.ModelProto or an onnx_ir.Model, not {type(source).__name__}")
