"""WaveGlow in chunks: joints, context, noise and the round trip through its forward pass."""

import dataclasses

import numpy as np
import pytest

from conftest import GOLDEN
from fte.errors import BundleError, RequestError
from fte.synthesizer import Synthesizer
from fte.vocoder import OVERLAP_FRAMES, Vocoder, exact_overlap
from fte_export.checkpoint import read_waveglow
from fte_export.pipeline import write_voice
from fte_export.random_voice import PUBLISHED_WAVEGLOW, TINY_FLOWTRON, random_voice
from tolerances import assert_close


@pytest.fixture(scope="module")
def mel(golden) -> np.ndarray:
    """A second of speech (T, M)."""
    return np.ascontiguousarray(golden("mel_spectrogram")["mel"].T)


def snr_db(actual, expected) -> float:
    return 10 * np.log10(np.square(expected).sum() / np.square(actual - expected).sum())


def test_chunks_with_the_receptive_field_as_context_are_the_whole(tiny, mel):
    overlap = exact_overlap(tiny.vocoder.sizes)
    whole = tiny.vocode(mel, chunk=len(mel))
    assert_close(tiny.vocode(mel, chunk=7, overlap=overlap), whole, "audio")


def test_one_frame_less_context_is_not_the_whole(tiny, mel):
    """The receptive field is what exact_overlap says, not less."""
    overlap = exact_overlap(tiny.vocoder.sizes)
    whole = tiny.vocode(mel, chunk=len(mel))
    assert np.abs(tiny.vocode(mel, chunk=7, overlap=overlap - 3) - whole).max() > 1e-6


def test_the_published_size_needs_96_frames_for_exactness():
    assert exact_overlap(PUBLISHED_WAVEGLOW) == 96  # 12 x 255 groups of 8 samples, reference figure


@pytest.fixture(scope="module")
def deep(tmp_path_factory) -> Synthesizer:
    """A voice whose WaveGlow has the published depth, and so its receptive field, but few channels."""
    sizes = dataclasses.replace(PUBLISHED_WAVEGLOW, n_channels=32)
    path = tmp_path_factory.mktemp("voices") / "deep"
    write_voice(random_voice("deep", TINY_FLOWTRON, sizes), path)
    return Synthesizer.load(path, device="cpu", precision="fp32")


def test_default_chunks_are_within_50_db_of_the_whole(deep, mel):
    whole = deep.vocode(mel, chunk=len(mel))
    chunked = deep.vocode(mel, chunk=20, overlap=OVERLAP_FRAMES)
    assert 50 < snr_db(chunked, whole) < np.inf


def test_without_overlap_the_joints_are_heard(deep, mel):
    """What the overlap is for: chunks that touch are far from the whole."""
    whole = deep.vocode(mel, chunk=len(mel))
    assert snr_db(deep.vocode(mel, chunk=20, overlap=0), whole) < 40


def test_chunks_are_the_same_however_the_frames_arrive(tiny, mel):
    vocoder = tiny.vocoder
    rows = vocoder.noise_rows(seed=3, request=0)
    whole = vocoder.vocode(mel, rows, sigma=0.8, chunk=16)
    for sizes in ([1] * len(mel), [5, 40, 2, 40]):
        blocks = np.split(mel, np.cumsum(sizes)[:-1])
        streamed = np.concatenate(list(vocoder.stream(blocks, rows, sigma=0.8, chunk=16)))
        np.testing.assert_array_equal(streamed, whole)


def test_the_first_chunk_comes_before_the_last_frame_is_known(tiny, mel):
    vocoder = tiny.vocoder
    taken = []

    def frames():
        for i, row in enumerate(mel):
            taken.append(i)
            yield row[None]

    stream = vocoder.stream(frames(), vocoder.noise_rows(0, 0), sigma=0.8, chunk=16, overlap=4)
    first = next(stream)
    assert len(first) == 16 * vocoder.hop
    assert len(taken) == 20


def test_noise_given_and_noise_drawn_are_the_same_channel(tiny, mel):
    drawn = tiny.vocode(mel, seed=9, request=4, sigma=0.7)
    rows = tiny.vocoder.noise_rows(9, 4)(0, len(mel))
    given = tiny.vocode(mel, noise=rows.reshape(-1, tiny.vocoder.sizes.n_group), sigma=0.7)
    np.testing.assert_array_equal(drawn, given)


def test_sigma_zero_takes_no_noise(tiny, mel):
    np.testing.assert_array_equal(tiny.vocode(mel, sigma=0, seed=1), tiny.vocode(mel, sigma=0, seed=2))


def test_the_denoiser_takes_out_the_bias(tiny, mel):
    """Most of the hum that a silent mel gives is gone at a strength of 1 (not all: its spectrum is not constant)."""
    silence = np.zeros((40, 80), np.float32)
    hum = tiny.vocode(silence, sigma=0)
    assert np.square(tiny.vocode(silence, sigma=0, denoiser=1.0)).mean() < 0.2 * np.square(hum).mean()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": -1}, "sigma is -1"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"chunk": 0}, "chunk 0"),
        ({"overlap": -1}, "overlap -1"),
        ({"noise": np.zeros((3, 8), np.float32)}, "noise has shape (3, 8)"),
        ({"denoiser": -0.1}, "denoiser"),
    ],
)
def test_what_does_not_fit_is_refused(options, says, tiny, mel):
    with pytest.raises(RequestError) as error:
        tiny.vocode(mel, **options)
    assert says in str(error.value)


@pytest.mark.parametrize("bad", [np.zeros((4, 79)), np.zeros((0, 80)), np.zeros(80), np.full((4, 80), np.inf)])
def test_a_mel_that_does_not_fit_is_refused(bad, tiny):
    with pytest.raises(RequestError, match="mel has"):
        tiny.vocode(bad.astype(np.float32))


def test_a_voice_without_waveglow_has_no_vocoder(golden_bundle, backend):
    with pytest.raises(BundleError, match="has no vocoder"):
        Vocoder(golden_bundle("flowtron_two_flows"), backend, "fp32")


def test_a_voice_without_waveglow_speaks_through_griffin_lim(golden_bundle, backend, mel):
    voice = Synthesizer(golden_bundle("flowtron_two_flows"), backend, "fp32")
    samples = voice.vocode(mel)
    assert len(samples) == len(mel) * 256
    assert np.abs(samples).max() > 0.01


# --- audio -> z -> audio: the forward pass, written here after the paper --------------------------------------------


def convolve(x, weight, bias, dilation=1):
    """x (C, G), weight (O, C, taps), 'same' padding."""
    taps = weight.shape[2]
    pad = dilation * (taps // 2)
    padded = np.pad(x, ((0, 0), (pad, pad)))
    views = [padded[:, j * dilation : j * dilation + x.shape[1]] for j in range(taps)]
    return sum(weight[:, :, j] @ view for j, view in enumerate(views)) + bias[:, None]


def upsampled(arrays, sizes, mel):
    """mel (T, M) -> conditioning (M * group, G)."""
    weight, stride = arrays["upsample.weight"].astype(np.float64), sizes.upsample_stride
    out = np.zeros((sizes.n_mels, len(mel) * stride + sizes.upsample_kernel))
    for t, frame in enumerate(mel):
        out[:, t * stride : t * stride + sizes.upsample_kernel] += np.einsum("i,iok->ok", frame, weight)
    out = out[:, : len(mel) * stride] + arrays["upsample.bias"][:, None]
    groups = out.reshape(sizes.n_mels, -1, sizes.n_group)
    return groups.transpose(0, 2, 1).reshape(sizes.n_mels * sizes.n_group, -1)


def wn(arrays, sizes, key, x, condition):
    n = sizes.n_channels
    x = convolve(x, arrays[f"{key}.start.weight"], arrays[f"{key}.start.bias"])
    conditions = convolve(condition, arrays[f"{key}.cond_layer.weight"], arrays[f"{key}.cond_layer.bias"])
    total = 0
    for i in range(sizes.n_layers):
        acts = convolve(x, arrays[f"{key}.in_layers.{i}.weight"], arrays[f"{key}.in_layers.{i}.bias"], 2**i)
        acts = acts + conditions[2 * n * i : 2 * n * (i + 1)]
        acts = np.tanh(acts[:n]) / (1 + np.exp(-acts[n:]))
        out = convolve(acts, arrays[f"{key}.res_skip_layers.{i}.weight"], arrays[f"{key}.res_skip_layers.{i}.bias"])
        if i < sizes.n_layers - 1:
            x, out = x + out[:n], out[n:]
        total = total + out
    return convolve(total, arrays[f"{key}.end.weight"], arrays[f"{key}.end.bias"])


def forward(arrays, sizes, mel, samples):
    """samples (T * hop) -> z (G, group), channels in the order in which inference uses them."""
    audio = samples.reshape(-1, sizes.n_group).T
    condition = upsampled(arrays, sizes, mel)
    early = []
    for k in range(sizes.n_flows):
        if k and k % sizes.n_early_every == 0:
            early.append(audio[: sizes.n_early_size])
            audio = audio[sizes.n_early_size :]
        audio = arrays[f"convinv.{k}.weight"].astype(np.float64) @ audio
        half = len(audio) // 2
        b, s = np.split(wn(arrays, sizes, f"WN.{k}", audio[:half], condition), 2)
        audio = np.concatenate([audio[:half], np.exp(s) * audio[half:] + b])
    return np.concatenate([audio, *reversed(early)]).T


@pytest.mark.parametrize("name", ["waveglow_tiny", "waveglow_small_flows"])
def test_a_recording_goes_to_z_and_back(name, golden, waveglow_bundle, backend):
    checkpoint = read_waveglow(GOLDEN / f"{name}.pt")
    speech = golden("mel_spectrogram")
    frames = 24
    mel = np.ascontiguousarray(speech["mel"].T[:frames, : checkpoint.sizes.n_mels])
    samples = speech["audio"][: frames * 256]
    z = forward(checkpoint.arrays, checkpoint.sizes, mel, samples.astype(np.float64))
    voice = Synthesizer(waveglow_bundle(name), backend, "fp32")
    back = voice.vocode(mel, noise=z.astype(np.float32), sigma=1.0)
    assert_close(back, samples, "round_trip")
