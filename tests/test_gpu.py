"""The backends on a real GPU, held against fp32 on the CPU."""

import dataclasses

import numpy as np
import pytest

from fte.backends import BACKENDS
from fte.backends.engines import EngineStore, Profile
from fte.backends.trt_library import find_library
from fte.bundle import Bundle
from fte.errors import BackendError, RequestError
from fte.synthesizer import Synthesizer
from fte_export.pipeline import write_voice
from fte_export.random_voice import tiny_voice
from fte_export.to_tensorrt import BuildOptions, build_engines
from test_decoder import threshold_that_stops_differently, utterances, with_guidance
from test_golden import snr_db
from tolerances import assert_close

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "tiny"
    write_voice(dataclasses.replace(tiny_voice(), blocks=(8, 16)), folder, ("fp32", "fp16", "bf16"))
    return folder


@pytest.fixture(scope="module")
def reference(path):
    return Synthesizer.load(path, "cpu", "fp32")


@pytest.fixture(scope="module")
def on_gpu(path, tmp_path_factory):
    """A function: backend and precision -> the voice on the GPU, or a skip that says why not."""
    folder = tmp_path_factory.mktemp("engines")

    def load(name, precision):
        try:
            if name != "tensorrt":
                return Synthesizer.load(path, "cuda", precision, backend=name)
            options = BuildOptions(precision, 8, Profile((1, 8), 64, 256), guided=True)
            list(build_engines(Bundle.open(path), options, find_library(), EngineStore(folder), lambda *_: None))
            return Synthesizer.load(path, "cuda", precision, backend=name, trust_engines=folder)
        except (BackendError, RequestError) as error:
            pytest.skip(str(error))

    return load


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", [name for name in BACKENDS[1:] if name != "native"])
class TestOnTheGpu:
    @pytest.mark.parametrize("kind", ["plain", "gates", "guided"])
    def test_decoding(self, name, precision, kind, on_gpu, reference):
        voice = on_gpu(name, precision)
        batch = utterances(3)
        if kind == "gates":
            batch = threshold_that_stops_differently(reference.decoder, batch)
        elif kind == "guided":
            batch = with_guidance(batch, 2)
        for _ in range(3):  # as it is, then captured, then replayed
            for ours, expected in zip(voice.decoder.decode(batch), reference.decoder.decode(batch), strict=True):
                assert_close(ours.mel, expected.mel, "mel", precision)
                for a, b in zip(ours.attention, expected.attention, strict=True):
                    assert_close(a, b, "attention", precision)

    def test_vocoding(self, name, precision, on_gpu, reference):
        voice = on_gpu(name, precision)
        mel = reference.decoder.decode(utterances(1))[0].mel
        expected = reference.vocode(mel)
        for _ in range(3):
            assert snr_db(voice.vocode(mel), expected) > {"fp32": 80, "fp16": 50, "bf16": 35}[precision]

    def test_speaking(self, name, precision, on_gpu, reference):
        voice = on_gpu(name, precision)
        options = {"seed": 3, "max_frames": 60, "retries": 0}
        speech = voice.synthesize("Hello there.", **options)
        expected = reference.synthesize("Hello there.", **options)
        assert speech.samples.shape == expected.samples.shape
        assert np.isfinite(speech.samples).all()
