"""Which options of `fte synth` do nothing together: they are refused by name, in one table."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from fte.errors import RequestError

Mode = Literal["one", "book", "lines", "mel", "stdout", "play"]
"""A text to a file, a text file to one file, its lines to a folder, a mel to a file, a text to a pipe or a player."""

WHAT: Mapping[Mode, str] = {
    "one": "a text",
    "book": "a whole text file",
    "lines": "a file of lines",
    "mel": "a mel",
    "stdout": "standard output",
    "play": "a player",
}

_HOW_IT_IS_SPOKEN = (
    "speaker",
    "sigma",
    "style",
    "style_weight",
    "style_tags",
    "tail",
    "rhythm",
    "lexicon",
    "guess_unknown",
    "retries",
    "span_symbols",
    "pause",
    "gate_threshold",
    "max_frames",
)
_OF_A_FILE = ("out", "timings", "save_mel", "plot", "as_json", "loudness", "restart")

USELESS: Mapping[Mode, Collection[str]] = {
    "one": ("restart",),
    "book": ("save_mel", "plot"),
    "lines": ("timings", "save_mel", "plot", "restart"),
    "mel": (*_HOW_IT_IS_SPOKEN, "timings", "save_mel", "plot", "as_json", "restart"),
    "stdout": _OF_A_FILE,
    "play": _OF_A_FILE,
}
"""The options, by the names of their parameters, that a mode cannot serve."""

SETTLED_BY_RHYTHM = ("retries", "gate_threshold", "max_frames", "pause")
"""What has no say where the rhythm of a recording is imposed: it is one utterance, as long as the recording."""
GRIFFIN_LIM_LACKS = ("vocoder_sigma", "denoiser")
"""What a voice without a vocoder cannot serve."""

_FLAGS = {"out": "-o", "as_json": "--json"}


def given_options(context: Any) -> frozenset[str]:
    """The names of the parameters that the user gave, of typer's context of a command."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if getattr(source, "name", "DEFAULT") != "DEFAULT")


def check_combination(mode: Mode, given: Collection[str], values: Mapping[str, Any]) -> None:
    """Refuse options that do nothing beside the others. Raises RequestError.

    given: the names of the parameters that the user gave; values: of all.
    """
    useless = [name for name in USELESS[mode] if name in given]
    if mode == "stdout" and str(values["out"]) == "-":
        useless = [name for name in useless if name != "out"]
    _refuse(useless, f"for {WHAT[mode]}")
    if "rhythm" in given:
        _refuse([name for name in SETTLED_BY_RHYTHM if name in given], "with --rhythm, which settles the length")
    if "style_weight" in given and "style" not in given and "style_tags" not in given:
        raise RequestError("--style-weight scales a style, and none was given: give --style with it, or leave it out")
    if "trust_engines" in given and values["backend"] != "tensorrt":
        raise RequestError("--trust-engines is for engines: give --backend tensorrt with it, or leave it out")
    if "threads" in given and values["backend"] == "tensorrt":
        _refuse(["threads"], "with --backend tensorrt, which runs on a GPU")


def check_vocoder(given: Collection[str], *, has_vocoder: bool) -> None:
    """Refuse the vocoder's options where the voice has none. Raises RequestError."""
    if not has_vocoder:
        _refuse([name for name in GRIFFIN_LIM_LACKS if name in given], "with a voice that has no vocoder")


def flag(name: str) -> str:
    """An option as it is typed, of its parameter's name."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _refuse(names: Collection[str], where: str) -> None:
    if names:
        raise RequestError(f"{', '.join(map(flag, names))} cannot be had {where}: leave it out")
