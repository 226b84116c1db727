"""Real-time, expressive speech from Flowtron and WaveGlow checkpoints."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("flowtron-fte")
except PackageNotFoundError:  # a source tree on the path without an install
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from fte.speech import Chunk, Request, Speech
    from fte.synthesizer import Synthesizer

__all__ = ["Chunk", "Request", "Speech", "Synthesizer", "__version__"]


def __getattr__(name: str) -> Any:
    """The facade is imported when it is asked for: `import fte.bundle` alone stays light."""
    if name in ("Chunk", "Request", "Speech", "Synthesizer"):
        from fte import speech, synthesizer

        return getattr(synthesizer if name == "Synthesizer" else speech, name)
    raise AttributeError(f"module 'fte' has no attribute {name!r}")
