"""Backends run graphs; none knows speech."""

from fte.backends.base import Backend, Graph
from fte.backends.onnxruntime import OnnxRuntimeBackend

__all__ = ["Backend", "Graph", "OnnxRuntimeBackend"]
