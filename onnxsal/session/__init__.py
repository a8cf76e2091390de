"""ONNX Runtime: which build and provider, sessions, batches, room for them, and compiled graphs kept on disk."""

from onnxsal.session.cache import Cache
from onnxsal.session.machine import find_room
from onnxsal.session.run import Session
from onnxsal.session.runtime import resolve_providers, runtime_version

__all__ = ["Cache", "Session", "find_room", "resolve_providers", "runtime_version"]
