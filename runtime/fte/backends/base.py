"""What every backend offers: graphs loaded from files, run on named arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Graph(Protocol):
    """A loaded graph."""

    @property
    def input_names(self) -> Sequence[str]: ...

    @property
    def output_names(self) -> Sequence[str]: ...

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Compute the named outputs, in that order. The arrays returned are the caller's own."""
        ...


class Backend(Protocol):
    """A way to run graphs on a device."""

    @property
    def description(self) -> str:
        """The device and library in words, for people."""
        ...

    def load(self, path: Path) -> Graph:
        """Load the graph at ``path``. Raises BackendError when it cannot be run here."""
        ...
