"""`fte synth`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fte.cli.common import (
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    VoiceOption,
    check_place,
    make_folder,
    read_stdin,
    read_text,
    say,
    voice_path,
)
from fte.errors import RequestError


def synth(
    text: Annotated[str, typer.Argument(help="What to say; '-' or nothing reads standard input.")] = "-",
    out: Annotated[Path, typer.Option("--out", "-o", help="The wav; with --text-file a folder.")] = Path("out.wav"),
    voice: VoiceOption = "tiny",
    text_file: Annotated[Path | None, typer.Option(help="A file; each line becomes a wav in the folder OUT.")] = None,
    speaker: Annotated[str, typer.Option(help="Name or id.")] = "0",
    sigma: Annotated[float, typer.Option(help="Standard deviation of z: 0 flat, 0.5 usual, 1 most varied.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Same seed, same audio.")] = 0,
    vocoder_sigma: Annotated[float, typer.Option(help="Standard deviation of the vocoder's noise.")] = 0.8,
    denoiser: Annotated[float, typer.Option(help="Strength of the denoiser; 0 for none, 0.01 to 0.1 is usual.")] = 0.0,
    gate_threshold: Annotated[float, typer.Option(help="Gate probability that ends an utterance.")] = 0.5,
    max_frames: Annotated[int | None, typer.Option(help="Ceiling on mel frames; by default from the text.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of mel and attention (png, pdf, svg).")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Speak a text, or every line of a file."""
    from fte.synthesizer import Request, Synthesizer

    lines = _lines(text, text_file)
    check_place(out, is_folder=text_file is not None)
    if plot is not None:
        _check_plot(plot, text_file)
    synthesizer = Synthesizer.load(voice_path(voice), device, precision, threads)
    synthesizer.speaker_id(speaker)
    for number, line in lines:
        _check_text(synthesizer, line, "" if text_file is None else f"line {number} of {text_file}: ")
    for index, (number, line) in enumerate(lines):
        path = out if text_file is None else out / f"{number:05d}.wav"
        request = Request(
            text=line,
            speaker=speaker,
            sigma=sigma,
            seed=seed,
            request=0 if text_file is None else number,
            gate_threshold=gate_threshold,
            max_frames=max_frames,
            vocoder_sigma=vocoder_sigma,
            denoiser=denoiser,
        )
        _speak(synthesizer, request, path, plot, describe=not quiet and index == 0, quiet=quiet)


def _check_text(synthesizer: Any, text: str, where: str) -> None:
    """Refuse a text before anything is computed, so that the last line of a file cannot fail after the first."""
    try:
        synthesizer.text_ids(text)
    except RequestError as error:
        raise RequestError(f"{where}{error}") from error


def _check_plot(plot: Path, text_file: Path | None) -> None:
    """Refuse a picture that could not be drawn before anything is computed."""
    from fte.plot import FORMATS

    if text_file is not None:
        raise RequestError("--plot draws one utterance: leave it out with --text-file")
    if plot.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {plot}: the name of a picture must end in one of {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401  (now, so that its absence is no surprise after the work is done)
    except ImportError as error:
        raise RequestError("--plot needs matplotlib: install flowtron-fte[plot] or leave the picture out") from error
    check_place(plot)


def _speak(synthesizer: Any, request: Any, path: Path, plot: Path | None, *, describe: bool, quiet: bool) -> None:
    """Synthesize one request, write its wav and, if asked for, its picture, and say what was done."""
    import time

    from fte.audio import write_wav

    started = time.perf_counter()
    speech = synthesizer.synthesize_batch([request])[0]
    elapsed = time.perf_counter() - started
    if plot is not None:
        from fte.plot import plot_utterance

        title = request.text if len(request.text) <= 100 else f"{request.text[:97]}..."
        frame_seconds = synthesizer.manifest.audio.hop / synthesizer.sample_rate
        plot_utterance(plot, speech.mel, speech.attention, speech.gate, speech.symbols, title, frame_seconds)
    make_folder(path.parent)
    write_wav(path, speech.samples, speech.sample_rate)
    if describe:
        say(f"voice: {synthesizer.description}")
        if synthesizer.manifest.warning:
            say(synthesizer.manifest.warning, "yellow")
    if not quiet:
        ended = "cut at the ceiling on frames" if speech.reached_ceiling else "ended by its gate"
        say(f"{path}: {speech.seconds:.2f} s of audio in {elapsed:.2f} s, {len(speech.mel)} frames, {ended}")


def _lines(text: str, text_file: Path | None) -> list[tuple[int, str]]:
    """The texts to speak with their line numbers, from 1."""
    if text_file is None:
        return [(1, read_stdin() if text == "-" else text)]
    if text != "-":
        raise RequestError("a text and --text-file were given: leave one of them out")
    numbered = [(i, line) for i, line in enumerate(read_text(text_file).splitlines(), 1) if line.strip()]
    if not numbered:
        raise RequestError(f"{text_file} has no text: give a file with something to say on each line")
    return numbered
