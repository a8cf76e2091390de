"""Graphs beyond 2 GB, which share the weights of the model they were made of.

ONNX Runtime follows no file outside a graph's own folder, not by a link either, but takes weights that are
handed to it. So a graph is kept without its large weights, and says where in the model's files each lies;
when it is opened these are mapped into memory. Nothing is copied, and the model may have moved meanwhile.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxsal.model.source import PROTOBUF_LIMIT, Source
from onnxsal.session import Session
from onnxsal.session.lending import Weights

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

SMALL = 1024  # bytes; what is smaller stays inside
BEYOND = 1 << 40  # bytes; no such file ends behind that
PLACES = "onnxsal.weights"
"""Key of the metadata: file, relative to the model's folder, and offset, by name of initializer."""


def weight_bytes(model: "ir.Model") -> int:
    """Return how much room the weights take."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def own_bytes(model: "ir.Model") -> int:
    """Return how much room the weights take that a file of this graph has to hold itself."""
    import onnx_ir as ir

    total = weight_bytes(model)
    if total < PROTOBUF_LIMIT:
        return total
    held = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
    return sum(t.nbytes for t in held if not isinstance(t, ir.ExternalTensor))


def save_model(model: "ir.Model", path: Path, name: str | None = None) -> None:
    """Write a model in one file; beyond 2 GB without the weights that lie in files of their own.

    Args:
        model: The model.
        path: Where to write it.
        name: What the file will be called in the end, if not what it is called now.
    """
    import onnx_ir as ir

    if weight_bytes(model) < PROTOBUF_LIMIT:
        ir.save(ir.external_data.load_to_model(model), path)
    elif own_bytes(model) < PROTOBUF_LIMIT:
        path.write_bytes(_without_weights(model, name or path.name).SerializeToString())
    else:
        ir.save(model, path, external_data=f"{path.name}.data")


def _without_weights(model: "ir.Model", name: str) -> "onnx.ModelProto":
    """Return the model with a note of where its large weights lie, in a file of that name."""
    import onnx_ir as ir

    proto: onnx.ModelProto = ir.to_proto(model)
    places = {}
    for tensor in proto.graph.initializer:
        held = model.graph.initializers[tensor.name].const_value
        if not isinstance(held, ir.ExternalTensor):
            continue
        del tensor.external_data[:]
        if held.nbytes <= SMALL or held.dtype.bitwidth < 8:
            tensor.ClearField("data_location")
            tensor.raw_data = held.tobytes()
            continue
        places[tensor.name] = [str(held.location), held.offset or 0]
        # Any file that is there, since ONNX Runtime looks for it; where it cannot read anything else by mistake.
        tensor.external_data.add(key="location", value=name)
        tensor.external_data.add(key="offset", value=str(BEYOND))
    proto.metadata_props.add(key=PLACES, value=json.dumps(places))
    return proto


def open_model(source: Source, providers: list[str]) -> Session:
    """Open the model itself."""
    return Session(source.runnable(), providers, packed=source.external_bytes < PROTOBUF_LIMIT)


def open_session(path: Path, source: Source, providers: list[str], threads: int | None = None) -> Session:
    """Open a graph that `save_model` wrote, of the model in `source`."""
    if source.external_bytes < PROTOBUF_LIMIT:
        return Session(path, providers, threads=threads)
    return Session(path, providers, threads=threads, weights=_weights(path, source))


def _weights(path: Path, source: Source) -> Weights:
    """Map the weights that a graph was written without into memory; with each its ONNX type."""
    import onnx

    proto = onnx.load(path, load_external_data=False)
    places = json.loads(next((p.value for p in proto.metadata_props if p.key == PLACES), "{}"))
    found: dict[str, tuple[np.ndarray[Any, Any], int]] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in places:
            location, offset = places[tensor.name]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            file, shape = source.external_path(location), tuple(tensor.dims)
            found[tensor.name] = (np.memmap(file, dtype, "r", offset=offset, shape=shape), tensor.data_type)
    return found
