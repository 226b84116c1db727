"""Make the voice of the engine's tests: a few kilobytes of random weights, and what ONNX Runtime makes of it.

    python engine/tests/make_voice.py engine/tests/data

voice/ is a bundle without its graphs, which the engine does not read; expected.f32 has the samples of `IDS`, and
expected_style.f32 those that the native backend makes of them in a style of several frames.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from fte import noise
from fte.backends import Backend, OnnxRuntimeBackend
from fte.backends.native import NativeBackend
from fte.bundle import Bundle, FlowtronSizes, WaveglowSizes
from fte.decoder import Decoder, Utterance
from fte.style.style import repeated
from fte.vocoder import Vocoder
from fte_export.pipeline import write_voice
from fte_export.random_voice import random_flowtron, random_waveglow
from fte_export.writer import Voice

FLOWTRON = FlowtronSizes(
    n_speakers=2,
    n_speaker_dim=4,
    n_text=12,
    n_text_dim=8,
    n_flows=2,
    n_mels=8,
    n_attention=12,
    n_hidden=12,
    n_lstm_layers=2,
    has_gate=True,
    cumulative_attention=False,
    dummy_speaker=False,
)
WAVEGLOW = WaveglowSizes(
    n_mels=8,
    n_flows=3,
    n_group=8,
    n_early_every=2,
    n_early_size=2,
    n_layers=2,
    n_channels=12,
    kernel_size=3,
    upsample_kernel=32,
    upsample_stride=16,
)
IDS = [1, 5, 2, 11, 0, 7, 3]
FRAMES, SEED, SPEAKER, SIGMA, VOCODER_SIGMA = 40, 5, 1, 0.5, 0.8


def style_rows() -> np.ndarray:
    """The mean of z in a style of three frames, (3, M); capi_test.cpp has the same."""
    rows, columns = np.mgrid[0:3, 0 : FLOWTRON.n_mels]
    return ((rows * FLOWTRON.n_mels + columns) % 7 / 4 - 0.75).astype(np.float32)


def speak(bundle: Bundle, backend: Backend, style: np.ndarray) -> np.ndarray:
    """The samples of IDS in fp32, with a style that is repeated in time."""
    rows = noise.normal((FRAMES, FLOWTRON.n_mels), seed=SEED, request=0, stream="prior")[::-1]
    z = np.float32(SIGMA) * rows + repeated(style, FRAMES)
    utterance = Utterance(np.array(IDS, np.int64), z, speaker=SPEAKER, gate_threshold=2.0)
    (decoded,) = Decoder(bundle, backend, "fp32").decode([utterance])
    vocoder = Vocoder(bundle, backend, "fp32")
    noise_rows = vocoder.noise_rows(SEED, 0)
    return vocoder.vocode(decoded.mel, noise_rows, sigma=VOCODER_SIGMA, chunk=20, overlap=20)


def main(folder: Path) -> None:
    flowtron, waveglow = random_flowtron(FLOWTRON, 3), random_waveglow(WAVEGLOW, 3)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "voice"
        write_voice(Voice("engine test", flowtron, waveglow, ("anna", "bert")), path, ("fp32", "int8", "fp16", "bf16"))
        bundle = Bundle.open(path)
        voice = folder / "voice"
        voice.mkdir(parents=True, exist_ok=True)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["graphs"] = {}
        manifest["files"] = {n: e for n, e in manifest["files"].items() if e["role"] == "engine"}
        (voice / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        for name in manifest["files"]:
            (voice / name).write_bytes((path / name).read_bytes())
        samples = speak(bundle, OnnxRuntimeBackend("cpu", 1), np.zeros((1, FLOWTRON.n_mels), np.float32))
        (folder / "expected.f32").write_bytes(samples.astype("<f4").tobytes())
        styled = speak(bundle, NativeBackend(1), style_rows())
        (folder / "expected_style.f32").write_bytes(styled.astype("<f4").tobytes())
        print(f"{len(samples)} samples, peak {np.abs(samples).max():.3f}; {dataclasses.asdict(WAVEGLOW)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
