"""How far a computed array may lie from the reference: the one table that every parity test reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A value passes when ``|actual - expected| <= atol + rtol * |expected|``, as in numpy."""

    atol: float
    """In the unit of the values compared."""
    rtol: float = 0.0
    """As a fraction of the expected value."""


TOLERANCES: Mapping[tuple[str, str], Tolerance] = MappingProxyType(
    {
        # (stage, precision of its computation)
        ("mel_analysis", "fp32"): Tolerance(atol=1e-4),
        ("stft", "fp32"): Tolerance(atol=1e-5),
        ("bias_spectrum", "fp32"): Tolerance(atol=1e-5, rtol=1e-5),
        ("denoiser", "fp32"): Tolerance(atol=1e-5),
        ("encoder", "fp32"): Tolerance(atol=1e-4),
        ("mel", "fp32"): Tolerance(atol=1e-4),
        ("attention", "fp32"): Tolerance(atol=1e-4),
        ("posterior", "fp32"): Tolerance(atol=1e-4),
        ("audio", "fp32"): Tolerance(atol=1e-4),
        ("batch", "fp32"): Tolerance(atol=1e-5),  # a request alone and in a batch
        ("batch", "int8"): Tolerance(atol=5e-3),  # the same: a last bit may move a value to the next of 127 levels
        ("round_trip", "fp32"): Tolerance(atol=1e-3),  # mel -> z -> mel, audio -> z -> audio
        # measured on the golden models over 22 to 60 frames: mel 3.4e-3, attention 4e-4 (docs/log.md)
        ("mel", "int8"): Tolerance(atol=1e-2),
        ("attention", "int8"): Tolerance(atol=5e-3),
        # measured on the golden models: mel 1.5e-4 and 1.2e-3, attention 4.8e-5 and 4.3e-4
        ("mel", "fp16"): Tolerance(atol=5e-4),
        ("attention", "fp16"): Tolerance(atol=2e-4),
        ("mel", "bf16"): Tolerance(atol=4e-3),
        ("attention", "bf16"): Tolerance(atol=2e-3),
    }
)

LEAST_SNR_DB: Mapping[tuple[str, str], float] = MappingProxyType({("audio", "int8"): 40.0})
"""By stage and precision, where the whole signal counts: power of the reference over that of the error, in dB."""


def assert_close(actual: npt.ArrayLike, expected: npt.ArrayLike, stage: str, precision: str = "fp32") -> None:
    """Fail, with the largest error and its place, unless ``actual`` has the shape of ``expected`` and its values."""
    tolerance = TOLERANCES[stage, precision]
    got, want = np.asarray(actual), np.asarray(expected)
    assert got.shape == want.shape, f"{stage} ({precision}): shape {got.shape}, expected {want.shape}"
    if not want.size:
        return
    wide = np.complex128 if np.iscomplexobj(got) or np.iscomplexobj(want) else np.float64
    error = np.abs(got.astype(wide) - want.astype(wide))
    allowed = tolerance.atol + tolerance.rtol * np.abs(want.astype(wide))
    excess = np.where(np.isnan(error), np.inf, error - allowed)
    worst = np.unravel_index(int(np.argmax(excess)), got.shape)
    assert excess[worst] <= 0, (
        f"{stage} ({precision}): {np.count_nonzero(excess > 0)} of {got.size} values are off, "
        f"the largest error is {error[worst]:.3e} at {tuple(int(i) for i in worst)} "
        f"({got[worst]} instead of {want[worst]}); allowed: atol {tolerance.atol:g}, rtol {tolerance.rtol:g}"
    )
