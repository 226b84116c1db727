"""What a configuration says of a voice is followed through everything that speaks, or refused by its name."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fte import Synthesizer
from fte.audio import mel_spectrogram
from fte.bundle import AudioFormat, Bundle, TextOptions
from fte.errors import CheckpointError
from fte.sound import write_sound
from fte.style.posterior import analysed
from fte.text import TextFrontend
from fte_export.config import VoiceFormat, read_format
from fte_export.pipeline import ExportOptions, export_voice
from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW
from public_format import save_flowtron, save_waveglow

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLIC: dict[str, Any] = {
    "train_config": {"output_directory": "/outdir", "epochs": 10000000, "sigma": 1.0},
    "data_config": {
        "training_files": "filelists/ljs_audiopaths_text_sid_train_filelist.txt",
        "validation_files": "filelists/ljs_audiopaths_text_sid_val_filelist.txt",
        "text_cleaners": ["flowtron_cleaners"],
        "p_arpabet": 0.5,
        "cmudict_path": "data/cmudict_dictionary",
        "sampling_rate": 22050,
        "filter_length": 1024,
        "hop_length": 256,
        "win_length": 1024,
        "mel_fmin": 0.0,
        "mel_fmax": 8000.0,
        "max_wav_value": 32768.0,
        "use_attn_prior": True,
        "attn_prior_threshold": 0.0,
        "prior_cache_path": "/attention_prior_cache",
        "betab_scaling_factor": 1.0,
        "keep_ambiguous": False,
    },
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321"},
    "model_config": {"n_flows": 2, "n_components": 0, "mean_scale": 0.0, "dummy_speaker_embedding": False},
}
"""As the public Flowtron has it, but for sizes."""


def with_data(**changes: object) -> dict[str, Any]:
    config = copy.deepcopy(PUBLIC)
    config["data_config"] |= changes
    return config


def test_the_public_configuration_is_the_published_format():
    assert read_format(PUBLIC, "c.json", 80) == VoiceFormat(AudioFormat(), TextOptions())


@pytest.mark.parametrize(
    ("changes", "audio", "text"),
    [
        ({"sampling_rate": 16_000}, AudioFormat(sample_rate=16_000), TextOptions()),
        ({"mel_fmin": 40, "mel_fmax": 7600.0}, AudioFormat(mel_fmin=40.0, mel_fmax=7600.0), TextOptions()),
        ({"mel_fmax": None}, AudioFormat(mel_fmax=11_025.0), TextOptions()),
        ({"p_arpabet": 0.0}, AudioFormat(), TextOptions(arpabet=False)),
        ({"p_arpabet": 1}, AudioFormat(), TextOptions(arpabet=True)),
        ({"keep_ambiguous": True}, AudioFormat(), TextOptions(keep_ambiguous=True)),
        ({"text_cleaners": ["english_cleaners"]}, AudioFormat(), TextOptions(lowercase=True)),
    ],
)
def test_what_can_be_followed_is(changes, audio, text):
    assert read_format(with_data(**changes), "c.json", 80) == VoiceFormat(audio, text)
    assert read_format(with_data(**changes)["data_config"], "c.json", 80) == VoiceFormat(audio, text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hop_length": 200}, "hop_length is 200 where 256 alone is supported"),
        ({"win_length": 800}, "win_length is 800 where 1024 alone is supported"),
        ({"filter_length": 2048}, "filter_length is 2048 where 1024 alone is supported"),
        ({"max_wav_value": 1.0}, "max_wav_value is 1.0 where 32768 alone is supported"),
        ({"n_mel_channels": 100}, "n_mel_channels is 100 where 80 alone is supported"),
        ({"sampling_rate": "16k"}, "sampling_rate is '16k' where a whole number from 4000 to 192000 Hz is supported"),
        ({"sampling_rate": True}, "sampling_rate is True where"),
        ({"sampling_rate": 8_000}, r"mel_fmax is 8000.0 where .* at most 4000 Hz \(half the sampling rate\)"),
        ({"mel_fmin": -1}, "mel_fmin is -1 where"),
        ({"mel_fmax": 0.0}, "mel_fmax is 0.0 where"),
        ({"p_arpabet": 2}, "p_arpabet is 2 where a probability from 0 to 1 is supported"),
        ({"p_arpabet": float("nan")}, "p_arpabet is nan where"),
        (
            {"text_cleaners": ["basic_cleaners"]},
            r"text_cleaners is \['basic_cleaners'\] where one of flowtron_cleaners",
        ),
        ({"text_cleaners": [["x"]]}, "text_cleaners is "),
        ({"cmudict_path": "german/lexicon.txt"}, "cmudict_path is 'german/lexicon.txt' where a file named cmudict"),
        ({"keep_ambiguous": 3}, "keep_ambiguous is 3 where true or false is supported"),
        ({"preemphasis": 0.97}, "preemphasis is unknown"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(changes, says):
    with pytest.raises(CheckpointError, match=f"^c.json describes a voice that cannot be exported as it is: {says}"):
        read_format(with_data(**changes), "c.json", 80)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (PUBLIC | {"vocoder": {}}, "vocoder is unknown"),
        (PUBLIC | {"data_config": []}, r"data_config is \[\] and should be an object"),
        (PUBLIC | {"model_config": {"n_flows": 2, "n_experts": 8}}, "n_experts is unknown"),
        (PUBLIC | {"waveglow_config": {"n_flows": 2, "WN_config": {"dilation": 8}}}, "WN_config.dilation is unknown"),
        ({"n_flows": 2, "hop_length": 300}, "hop_length is 300 where"),
    ],
)
def test_sections_and_models_are_checked_as_well(config, says):
    with pytest.raises(CheckpointError, match=says):
        read_format(config, "c.json", 80)


def test_all_faults_come_at_once():
    with pytest.raises(CheckpointError, match=r"win_length is 800 .*hop_length is 200 .*p_arpabet is 2"):
        read_format(with_data(p_arpabet=2, hop_length=200, win_length=800), "c.json", 80)


@pytest.fixture(scope="module")
def wideband(tmp_path_factory) -> Path:
    """A voice of 16 kHz with bands from 50 to 7600 Hz that reads lower-case letters alone."""
    folder = tmp_path_factory.mktemp("config")
    audio = {"sampling_rate": 16_000, "mel_fmin": 50.0, "mel_fmax": 7600.0}
    config = with_data(**audio, p_arpabet=0, text_cleaners=["english_cleaners"])
    (folder / "config.json").write_text(json.dumps(config))
    options = ExportOptions(
        save_flowtron(folder / "flowtron.pt", TINY_FLOWTRON),
        save_waveglow(folder / "waveglow.pt", TINY_WAVEGLOW),
        config=folder / "config.json",
        precisions=("fp32",),
        verify=False,
    )
    export_voice(options, folder / "voice", lambda _what, _done: None)
    return folder / "voice"


def test_the_bundle_says_what_the_configuration_says(wideband):
    manifest = Bundle.open(wideband).manifest
    assert manifest.audio == AudioFormat(sample_rate=16_000, mel_fmin=50.0, mel_fmax=7600.0)
    assert manifest.text == TextOptions(arpabet=False, lowercase=True)


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
def test_it_speaks_at_its_rate_and_reads_letters(wideband, tmp_path, backend):
    if backend == "native":
        pytest.importorskip("fte._native", reason="the native engine was not built: no C++17 compiler")
    voice = Synthesizer.load(wideband, "cpu", backend=backend)
    speech = voice.synthesize("NASA's Streets.", seed=1, max_frames=20)
    assert (speech.sample_rate, len(speech.samples)) == (16_000, 20 * 256)
    assert write_sound(tmp_path / "a.wav", speech.samples, speech.sample_rate).sample_rate == 16_000
    assert "".join(voice.transcript("NASA's Streets.").symbols) == "nasa's streets."


def test_references_are_heard_in_its_bands(wideband):
    """A tone of 3 kHz at 48 kHz stands in the same band as one that was drawn up at the voice's rate."""
    voice = Synthesizer.load(wideband, "cpu")
    time = np.arange(48_000) / 48_000
    tone = (0.3 * np.sin(2 * np.pi * 3_000 * time)).astype(np.float32)
    mel = analysed(tone, 48_000, 80, voice.manifest.audio)
    own = mel_spectrogram(
        tone[:16_000] * 0 + 0.3 * np.sin(2 * np.pi * 3_000 * np.arange(16_000) / 16_000),
        fmin=50.0,
        fmax=7600.0,
        sample_rate=16_000,
    )
    assert mel[30].argmax() == own[30].argmax()
    assert voice.posterior(tone, 48_000, "Hello there.").z.shape[1] == 80


def test_a_configuration_that_cannot_be_followed_writes_nothing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(with_data(hop_length=200)))
    flowtron = save_flowtron(tmp_path / "flowtron.pt", TINY_FLOWTRON)
    options = ExportOptions(flowtron, config=tmp_path / "config.json", verify=False)
    with pytest.raises(CheckpointError, match="hop_length is 200"):
        export_voice(options, tmp_path / "voice", lambda _what, _done: None)
    assert not (tmp_path / "voice").exists()


@pytest.mark.parametrize(
    ("arpabet", "text", "expected"),
    [
        (False, "NASA and the U.S. Streets {HH AY1}", "nasa and the u s streets {HH AY1}"),
        (False, "At 5 Streets", "at five streets"),
        (True, "The Read Streets", "the read {S T R IY1 T S}"),
    ],
)
def test_a_front_end_of_lower_case(arpabet, text, expected):
    frontend = TextFrontend(arpabet=arpabet, lowercase=True)
    assert frontend.transcribe(text) == expected
    stages = frontend.stages(text)
    assert stages.transcript == frontend.transcript(text)
    assert stages.steps[-1][0] == "lower case"
