"""Constants of the published Flowtron and WaveGlow models, and the limits on every input.

Audio constants are those the models were trained with (public configuration files of Flowtron and WaveGlow).
"""

from dataclasses import dataclass

SAMPLE_RATE = 22_050
"""Hz."""
FFT_SIZE = 1024
"""Samples in one analysis window."""
HOP = 256
"""Samples between two mel frames."""
N_MELS = 80
"""Mel channels of the published models."""
MEL_FMIN = 0.0
"""Lower edge of the mel bands, Hz."""
MEL_FMAX = 8_000.0
"""Upper edge of the mel bands, Hz."""
LOG_FLOOR = 1e-5
"""Magnitudes below this are raised to it before the logarithm."""

FRAME_SECONDS = HOP / SAMPLE_RATE
"""Duration of one mel frame, seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on every input; a request past one of them is refused with an error that names it."""

    request_characters: int = 4_000_000
    """Characters of text in one request: three long novels."""
    text_characters: int = 10_000
    """Characters of text spoken in one go."""
    symbols: int = 1_000
    """Symbol ids in one utterance."""
    frames: int = 10_000
    """Mel frames in one utterance."""
    latent: float = 100.0
    """Magnitude of z and of a style's numbers: those of speech lie within 10."""
    mel: float = 100.0
    """Magnitude of a mel value, in natural logarithms: those of sound lie from -12 to 5."""
    batch: int = 64
    """Utterances in one call."""
    checkpoint_bytes: int = 8 << 30
    """Size of a checkpoint file, bytes."""
    manifest_bytes: int = 16 << 20
    """Size of a bundle's manifest, bytes."""


LIMITS = Limits()
