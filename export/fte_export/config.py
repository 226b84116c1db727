"""What the public repositories' config.json says of a voice beside its sizes: how it hears and how it reads.

Every field is followed, compared with the tensors, known to say nothing of inference, or refused by its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fte.bundle import AudioFormat, TextOptions
from fte.constants import FFT_SIZE, HOP
from fte.errors import CheckpointError
from fte_export.budget import shown

_SECTIONS = ("data_config", "model_config", "waveglow_config")
_OF_THE_RUN = ("train_config", "dist_config")
"""Sections that say nothing of inference."""
_SIZES = {
    *("n_speakers", "n_speaker_dim", "n_text", "n_text_dim", "n_flows", "n_mel_channels"),
    *(
        "n_attn_channels",
        "n_hidden",
        "n_lstm_layers",
        "use_gate_layer",
        "use_cumm_attention",
        "dummy_speaker_embedding",
    ),
    *("n_group", "n_early_every", "n_early_size", "WN_config"),
}
"""Compared with the tensors, or followed, where the checkpoint is read."""
_WN_SIZES = {"n_layers", "n_channels", "kernel_size"}
_OF_THE_MIXTURE = {"mel_encoder_n_hidden", "n_components", "mean_scale", "fixed_gaussian"}
"""Of the mixture prior, which inference does not use."""
_OF_TRAINING = {
    *("training_files", "validation_files", "segment_length", "randomize", "seed"),
    *("use_attn_prior", "attn_prior_threshold", "prior_cache_path", "betab_scaling_factor"),
}
"""Which recordings are read, and how attention is guided while training."""
_CLEANERS = {"flowtron_cleaners": False, "english_cleaners": True}
"""Cleaners that the front end stands for, and whether they leave nothing but lower case."""
_DICTIONARIES = ("cmudict", "cmudict_dictionary", "cmudict-0.7b")
_LEAST_RATE, _MOST_RATE = 4_000, 192_000
_WAV_SCALE = 32_768
"""What makes 16-bit samples floats from -1 to 1."""


@dataclass(frozen=True, slots=True)
class VoiceFormat:
    """What a configuration says that no tensor shows."""

    audio: AudioFormat = field(default_factory=AudioFormat)
    text: TextOptions = field(default_factory=TextOptions)


def read_format(config: Mapping[str, Any], where: str, n_mels: int) -> VoiceFormat:
    """How a voice of ``n_mels`` channels hears and reads by its configuration, a whole one or a section alone.

    ``where`` names the configuration in errors.

    Raises CheckpointError that names every field that cannot be followed.
    """
    faults: list[str] = []
    data, models = _sections(config, faults)
    fields = _Fields(data, faults)
    found = VoiceFormat(_audio(fields), _text(fields))
    known_of_models = _SIZES | _OF_THE_MIXTURE
    fields.only("n_mel_channels", n_mels)
    known_of_data = fields.asked | _OF_TRAINING
    if any(model is data for model in models):
        known_of_models = known_of_data = known_of_models | known_of_data
    for section, known in ((data, known_of_data), *((model, known_of_models) for model in models)):
        faults += [f"{_shown(key)} is unknown" for key in section if key not in known]
    if faults:
        raise CheckpointError(
            f"{where} describes a voice that cannot be exported as it is: {'; '.join(dict.fromkeys(faults))}: "
            "take out only what changes neither mels nor text"
        )
    return found


def _sections(config: Mapping[str, Any], faults: list[str]) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """What is said of the data, and of each model; all of it is both where there are no sections."""
    if not any(name in config for name in (*_SECTIONS, *_OF_THE_RUN)):
        return config, [config, _object(config, "WN_config", _WN_SIZES, faults)]
    faults += [f"{_shown(key)} is unknown" for key in config if key not in (*_SECTIONS, *_OF_THE_RUN)]
    data, flowtron, waveglow = (_object(config, name, None, faults) for name in _SECTIONS)
    _object(waveglow, "WN_config", _WN_SIZES, faults)
    return data, [flowtron, waveglow]


def _object(parent: Mapping[str, Any], name: str, known: set[str] | None, faults: list[str]) -> Mapping[str, Any]:
    """The object under a name, empty where it is none; its keys are to be among the known ones."""
    part = parent.get(name, {})
    if not isinstance(part, Mapping):
        faults.append(f"{name} is {_shown(part)} and should be an object")
        return {}
    if known is not None:
        faults += [f"{name}.{_shown(key)} is unknown" for key in part if key not in known]
        return {}
    return part


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a section, each asked for once."""

    data: Mapping[str, Any]
    faults: list[str]
    asked: set[str] = field(default_factory=set)

    def get(self, name: str, default: Any, takes: Callable[[Any], bool], supported: str) -> Any:
        """The value of a field, or ``default`` where it is not there or not ``supported``, which is a fault."""
        self.asked.add(name)
        value = self.data.get(name, default)
        if takes(value):
            return value
        self.faults.append(f"{name} is {_shown(value)} where {supported} is supported")
        return default

    def only(self, name: str, value: int) -> None:
        self.get(name, value, lambda given: _is_number(given) and given == value, f"{value} alone")


def _audio(fields: _Fields) -> AudioFormat:
    usual = AudioFormat()
    rate = fields.get(
        "sampling_rate",
        usual.sample_rate,
        lambda given: type(given) is int and _LEAST_RATE <= given <= _MOST_RATE,
        f"a whole number from {_LEAST_RATE} to {_MOST_RATE} Hz",
    )
    fields.only("filter_length", FFT_SIZE)
    fields.only("win_length", FFT_SIZE)
    fields.only("hop_length", HOP)
    fields.only("max_wav_value", _WAV_SCALE)
    low = fields.get(
        "mel_fmin", usual.mel_fmin, lambda given: _is_number(given) and 0 <= given < rate / 2, f"0 to {rate / 2:g} Hz"
    )
    high = fields.get(
        "mel_fmax",
        usual.mel_fmax,
        lambda given: given is None or (_is_number(given) and low < given <= rate / 2),
        f"a frequency above mel_fmin, at most {rate / 2:g} Hz (half the sampling rate),",
    )
    # None is librosa's word for all there is.
    return AudioFormat(sample_rate=rate, mel_fmin=float(low), mel_fmax=rate / 2 if high is None else float(high))


def _text(fields: _Fields) -> TextOptions:
    cleaners = fields.get(
        "text_cleaners",
        ["flowtron_cleaners"],
        lambda given: isinstance(given, list) and given in [[name] for name in _CLEANERS],
        f"one of {' and '.join(_CLEANERS)}",
    )
    share = fields.get("p_arpabet", 1, lambda given: _is_number(given) and 0 <= given <= 1, "a probability from 0 to 1")
    ambiguous = fields.get("keep_ambiguous", False, lambda given: isinstance(given, bool), "true or false")
    for name, known, what in (
        ("cmudict_path", _DICTIONARIES, "a file named cmudict_dictionary, CMUdict,"),
        ("heteronyms_path", ("heteronyms",), "a file named heteronyms, the public list,"),
    ):
        fields.get(name, known[0], lambda given, known=known: _file_name(given) in known, what)  # type: ignore[misc]
    return TextOptions(arpabet=share > 0, keep_ambiguous=ambiguous, lowercase=_CLEANERS[cleaners[0]])


def _file_name(path: object) -> str:
    """Of a path without its folder and a .txt."""
    return PurePosixPath(path).name.removesuffix(".txt") if isinstance(path, str) else ""


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _shown(value: object) -> str:
    return shown(value if isinstance(value, str) and value.isidentifier() else repr(value))
