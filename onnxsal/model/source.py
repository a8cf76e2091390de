"""Read a model file: its hash, and what its header says.

The signature is all that a compiled explanation needs of the model, so it is kept in the cache by the
file's hash, and then neither onnx nor onnx_ir is imported.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxsal.errors import ModelError, OnnxsalError, UnsupportedModel
from onnxsal.model.card import InputInfo

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

PROTOBUF_LIMIT = 2_000_000_000
"""Bytes of weights that one ONNX file can hold; Protobuf ends at 2 GiB, and the graph takes some of it."""

# Raised whenever something else is read of a header, so that old entries are not found.
FORMAT = 2

_CHUNK = 1 << 20
# First bytes of files that people take for ONNX, and what they are.
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint or a Keras model: convert it (see converters/)"),
    (b"\x80\x02", "a Python pickle, perhaps a PyTorch checkpoint: convert it (see converters/)"),
    (b"\x89HDF", "an HDF5 file, perhaps a Keras model: convert it with tf2onnx"),
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself: run `git lfs pull`"),
    (b"<!DOCTYPE", "a web page: the download went wrong"),
    (b"<html", "a web page: the download went wrong"),
    (b"ORTM", "an ORT-format model: explain the .onnx file it was made from"),
)


@dataclass(frozen=True)
class Signature:
    """What a model's header says.

    Attributes:
        inputs: The inputs, without initializers.
        outputs: The outputs.
        metadata: `metadata_props`.
        opset: Version of `ai.onnx`.
        ir_version: IR version.
        domains: Operator domains of its nodes; `ai.onnx` is "".
        op_types: The operators, sorted, as `domain::Type`.
        producer: Name and version.
        external: Files beside the model that hold weights, relative to its folder.
        nodes: Number of nodes of the main graph.
        normalises: Whether the graph itself scales the image before anything else.
    """

    inputs: tuple[InputInfo, ...]
    outputs: tuple[InputInfo, ...]
    metadata: dict[str, str]
    opset: int
    ir_version: int
    domains: tuple[str, ...]
    op_types: tuple[str, ...]
    producer: str
    external: tuple[str, ...]
    nodes: int
    normalises: bool

    def to_json(self) -> dict[str, Any]:
        """Return the signature as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Signature":
        """Return the signature that `to_json` wrote."""
        infos = {k: tuple(_info(i) for i in found[k]) for k in ("inputs", "outputs")}
        tuples = {k: tuple(found[k]) for k in ("domains", "op_types", "external")}
        return cls(**(found | infos | tuples))


def _info(found: dict[str, Any]) -> InputInfo:
    shape = found["shape"]
    return InputInfo(found["name"], found["dtype"], None if shape is None else tuple(shape))


class Source:
    """A model as it was given: a file, or bytes.

    Attributes:
        path: The file; None for a model in memory.
        data: The serialised model, if it was given so; None for a file.
        sha256: Of all its bytes, external weights included.
        signature: What its header says.
    """

    def __init__(
        self, path: Path | None, data: bytes | None, known: Callable[[str], Any], keep: Callable[[str, Any], None]
    ) -> None:
        """Hash and read a model.

        Args:
            path: The file; None if `data` is given.
            data: The serialised model; None if `path` is given.
            known: Returns a kept signature, as JSON, by name; None if there is none.
            keep: Keeps a signature.
        """
        self.path = path
        self.data = data
        name = path.name if path else "the model"
        head = hashlib.sha256()
        for chunk in _chunks(path, data):
            head.update(chunk)
        entry = f"{head.hexdigest()}.signature-{FORMAT}.json"
        found = known(entry)
        if found is None:
            with self.blamed():
                self.signature = read_signature(self._parse(name))
                keep(entry, self.signature.to_json())
        else:
            self.signature = Signature.from_json(found)
        self.sha256 = self._hash_external(head)

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """Within it, an unexpected failure on a file that is not valid ONNX becomes a `ModelError`.

        ONNX's checker is asked only then, as it also refuses files that ONNX Runtime runs.
        """
        try:
            yield
        except OnnxsalError:
            raise
        except Exception:
            self._check()
            raise

    def _check(self) -> None:
        import onnx

        try:
            onnx.checker.check_model(str(self.path) if self.data is None else self.data)
        except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
            name = self.path.name if self.path else "the model"
            raise ModelError(f"{name} is not valid ONNX, perhaps damaged: {str(error).splitlines()[0]}") from error

    def _parse(self, name: str) -> "onnx.ModelProto":
        import onnx
        from google.protobuf.message import DecodeError

        data = self.data if self.data is not None else b"".join(_chunks(self.path, None))
        _check_format(data, name)
        try:
            proto = onnx.load_model_from_string(data)
        except DecodeError as error:
            raise ModelError(
                f"{name} is not a complete ONNX file: it cannot be parsed; it may be truncated, or something else"
            ) from error
        if not proto.opset_import or not proto.graph.output:
            raise ModelError(
                f"{name} is not an ONNX model: it has no {'graph outputs' if proto.opset_import else 'opset'}"
            )
        return proto

    def _hash_external(self, head: "hashlib._Hash") -> str:
        for location in self.signature.external:
            path = self.external_path(location)
            for chunk in _chunks(path, None):
                head.update(chunk)
        return head.hexdigest()

    def external_path(self, location: str) -> Path:
        """Return where external weights lie, which must be in the model's folder."""
        if self.path is None:
            raise ModelError(
                f"the model keeps weights in {location!r} beside its file: load it by its path, not from memory"
            )
        folder = self.path.parent.resolve()
        path = (folder / location).resolve()
        if not path.is_relative_to(folder):
            raise ModelError(
                f"{self.path.name} names weights outside its own folder, {location!r}: not followed; put them "
                f"beside the model"
            )
        if not path.is_file():
            raise ModelError(
                f"{self.path.name} keeps its weights in {location!r}, which is missing from {self.path.parent}: "
                f"copy it there"
            )
        return path

    @property
    def external_bytes(self) -> int:
        """How large the files of weights beside the model are."""
        return sum(self.external_path(location).stat().st_size for location in self.signature.external)

    def load_ir(self) -> "ir.Model":
        """Return the graph, external weights mapped into memory.

        Raises:
            ModelError: A file of external weights is too short.
            UnsupportedModel: The graph has values that only classical machine learning uses.
        """
        import onnx
        import onnx_ir as ir

        from onnxsal.graph.order import put_in_order

        name = self.path.name if self.path else "the model"
        try:
            if self.path is not None:
                model = ir.load(self.path)
                _check_external_sizes(model, name)
            else:
                assert self.data is not None
                model = ir.from_proto(onnx.load_model_from_string(self.data))
        except ir.serde.SerdeError as error:
            ml = [t for t in self.signature.op_types if t.startswith("ai.onnx.ml::")]
            what = (
                f"is a classical machine-learning model ({', '.join(t.split('::')[1] for t in ml)})"
                if ml
                else "cannot be read"
            )
            raise UnsupportedModel(
                f"{name} {what}, which has no gradients: only black-box methods can explain it"
            ) from error
        put_in_order(model)
        return model

    def runnable(self) -> Path | bytes:
        """Return what a session loads."""
        if self.path is not None:
            return self.path
        assert self.data is not None
        return self.data


def _check_external_sizes(model: "ir.Model", name: str) -> None:
    import onnx_ir as ir

    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                end, size = (tensor.offset or 0) + tensor.nbytes, Path(tensor.path).stat().st_size
                if end > size:
                    raise ModelError(
                        f"{name} looks for weights up to byte {end} of {tensor.location!r}, which has {size}: it is "
                        f"truncated; copy it again"
                    )


def _chunks(path: Path | None, data: bytes | None) -> Iterator[bytes]:
    if data is not None:
        yield data
        return
    assert path is not None
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error


def _check_format(data: bytes, name: str) -> None:
    if not data:
        raise ModelError(f"{name} is not an ONNX file: it is empty")
    for magic, meaning in _OTHER_FORMATS:
        if data.startswith(magic):
            raise ModelError(f"{name} is not an ONNX file: it is {meaning}")
    if data[4:8] == b"TFL3":
        raise ModelError(f"{name} is not an ONNX file: it is a TensorFlow Lite model: convert it with tf2onnx --tflite")


# ----- The header -----


def read_signature(proto: "onnx.ModelProto") -> Signature:
    """Read the header of a parsed model. Weights are not touched."""
    graph = proto.graph
    weights = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    opsets = {o.domain or "ai.onnx": o.version for o in proto.opset_import}
    inputs = tuple(_read_info(v) for v in graph.input if v.name not in weights)
    functions = {(f.domain, f.name) for f in proto.functions}
    nodes = [n for n in _all_nodes(proto) if (n.domain, n.op_type) not in functions]
    return Signature(
        inputs=inputs,
        outputs=tuple(_read_info(v) for v in graph.output),
        metadata={_text(p.key): _text(p.value) for p in proto.metadata_props},
        opset=opsets.get("ai.onnx", 0),
        ir_version=proto.ir_version,
        domains=tuple(sorted({_domain(n.domain) for n in nodes})),
        op_types=tuple(sorted({f"{_domain(n.domain) or 'ai.onnx'}::{n.op_type}" for n in nodes})),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        external=tuple(sorted(set(_external_files(proto)))),
        nodes=len(graph.node),
        normalises=_normalises(graph, {i.name for i in inputs}),
    )


def _text(value: str | bytes) -> str:
    """Return text that Protobuf hands out as bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _read_info(value: "onnx.ValueInfoProto") -> InputInfo:
    import onnx

    if not value.type.HasField("tensor_type"):
        return InputInfo(value.name, value.type.WhichOneof("value") or "unknown", None)
    tensor = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = "unknown"
    if not tensor.HasField("shape"):
        return InputInfo(value.name, dtype, None)
    return InputInfo(value.name, dtype, tuple(_read_dim(d) for d in tensor.shape.dim))


def _read_dim(dim: "onnx.TensorShapeProto.Dimension") -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _all_nodes(proto: "onnx.ModelProto") -> Iterator["onnx.NodeProto"]:
    stack = [*proto.graph.node, *(n for f in proto.functions for n in f.node)]
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            stack += [*attribute.g.node, *(n for g in attribute.graphs for n in g.node)]


def _external_files(proto: "onnx.ModelProto") -> Iterator[str]:
    import onnx

    tensors = [*proto.graph.initializer]
    for node in _all_nodes(proto):
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors, *attribute.g.initializer]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield next((e.value for e in tensor.external_data if e.key == "location"), "")


def _normalises(graph: "onnx.GraphProto", inputs: set[str]) -> bool:
    """Tell whether an image input is scaled or shifted by a constant first thing."""
    passing = set(inputs)
    for node in graph.node[:12]:
        if passing.intersection(node.input):
            if node.op_type in ("Sub", "Div", "Mul", "Add", "BatchNormalization"):
                return True
            if node.op_type in ("Cast", "Transpose", "Identity", "Unsqueeze", "Squeeze"):
                passing.update(node.output)
    return False
