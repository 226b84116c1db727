"""Real-time, expressive speech from Flowtron and WaveGlow checkpoints."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("flowtron-fte")
except PackageNotFoundError:  # a source tree on the path without an install
    __version__ = "0+unknown"

__all__ = ["__version__"]
