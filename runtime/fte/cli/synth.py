"""`fte synth`."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fte.cli import common
from fte.cli.common import (
    BackendOption,
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    TrustEnginesOption,
    VoiceOption,
    check_place,
    make_folder,
    progress_bar,
    read_stdin,
    read_text,
    say,
    voice_path,
)
from fte.cli.style import find_style, own_styles
from fte.errors import RequestError, import_fault

if TYPE_CHECKING:
    from fte.speech import Request, SpokenSpan
    from fte.synthesizer import Synthesizer

_LOUDNESS_MISSED = 0.1  # LU that are worth a word
_DOUBTS_SHOWN = 3
_SPEECH = "How it is spoken"
_SOUND = "What is written"


def synth(
    text: Annotated[str, typer.Argument(help="What to say; '-' or nothing reads standard input.")] = "-",
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The sound file (wav, flac, ogg, opus, mp3), '-' for a WAV stream on standard output; "
            "with --text-file a sound file for the whole text, or a folder for a wav a line.",
        ),
    ] = Path("out.wav"),
    voice: VoiceOption = "tiny",
    text_file: Annotated[
        Path | None, typer.Option(help="Text to speak: whole into the file OUT, or line by line into the folder OUT.")
    ] = None,
    from_mel: Annotated[Path | None, typer.Option(help="Vocode this mel (.npy) instead of speaking a text.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write 16-bit PCM to standard output while it is being made.")
    ] = False,
    speaker: Annotated[str, typer.Option(help="Name or id.", rich_help_panel=_SPEECH)] = "0",
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of z: 0 flat, 0.5 usual and the default (but for a style's own), 1 most varied.",
            rich_help_panel=_SPEECH,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same audio.", rich_help_panel=_SPEECH)] = 0,
    style: Annotated[
        str,
        typer.Option(
            help='A style file, or the voice\'s own by name and weight: "happy:0.7,sad:0.3".', rich_help_panel=_SPEECH
        ),
    ] = "",
    style_weight: Annotated[float, typer.Option(help="Scales the style; 0 is none.", rich_help_panel=_SPEECH)] = 1.0,
    style_tags: Annotated[
        bool,
        typer.Option(
            "--style-tags",
            help=r"Read \[happy]...\[/happy] in the text as the voice's own styles.",
            rich_help_panel=_SPEECH,
        ),
    ] = False,
    tail: Annotated[
        float | None,
        typer.Option(help="Draw the rendition at this radius from the style.", rich_help_panel=_SPEECH),
    ] = None,
    rhythm: Annotated[
        Path | None,
        typer.Option(help="A recording of the same text: its rhythm is imposed.", rich_help_panel=_SPEECH),
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(help="Pronunciations: a word and its ARPAbet a line.", rich_help_panel=_SPEECH)
    ] = None,
    guess_unknown: Annotated[
        bool,
        typer.Option(
            "--guess-unknown", help="Guess the ARPAbet of words that no dictionary has.", rich_help_panel=_SPEECH
        ),
    ] = False,
    retries: Annotated[
        int,
        typer.Option(help="Further attempts where the attention lost the text, 0 to 3.", rich_help_panel=_SPEECH),
    ] = 3,
    span_symbols: Annotated[
        int, typer.Option(help="Most symbols spoken in one go; longer texts are cut.", rich_help_panel=_SPEECH)
    ] = 120,
    pause: Annotated[float, typer.Option(help="Scales the pauses between spans.", rich_help_panel=_SPEECH)] = 1.0,
    gate_threshold: Annotated[
        float, typer.Option(help="Gate probability that ends an utterance.", rich_help_panel=_SPEECH)
    ] = 0.5,
    max_frames: Annotated[
        int | None,
        typer.Option(help="Ceiling on the mel frames of a span; by default from the text.", rich_help_panel=_SPEECH),
    ] = None,
    vocoder_sigma: Annotated[
        float, typer.Option(help="Standard deviation of the vocoder's noise.", rich_help_panel=_SPEECH)
    ] = 0.8,
    denoiser: Annotated[
        float,
        typer.Option(help="Strength of the denoiser; 0 for none, 0.01 to 0.1 is usual.", rich_help_panel=_SPEECH),
    ] = 0.0,
    rate: Annotated[
        int | None, typer.Option(help="Sample rate in Hz; the voice's by default.", rich_help_panel=_SOUND)
    ] = None,
    loudness: Annotated[
        float | None, typer.Option(help="Loudness in LUFS, such as -23 or -16.", rich_help_panel=_SOUND)
    ] = None,
    timings: Annotated[
        Path | None, typer.Option(help="When each word is spoken: .json, .srt or .TextGrid.", rich_help_panel=_SOUND)
    ] = None,
    save_mel: Annotated[Path | None, typer.Option(help="The mel as .npy, (T, 80).", rich_help_panel=_SOUND)] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of mel and attention (png, pdf, svg).", rich_help_panel=_SOUND)
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Beside each sound file, a .json that says how it was made.", rich_help_panel=_SOUND
        ),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Forget what a broken-off run of --text-file left.", rich_help_panel=_SOUND),
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    backend: BackendOption = "auto",
    trust_engines: TrustEnginesOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Speak a text, a book, every line of a file, or a mel."""
    from fte.sound import sound_format
    from fte.speech import PRIOR_SIGMA, Request
    from fte.synthesizer import Synthesizer

    outputs = _Outputs(out, rate, loudness, timings, save_mel, plot, as_json, quiet)
    to_stdout = raw or str(out) == "-"
    mode = _mode(text, text_file, from_mel, to_stdout, out)
    outputs.check(mode)
    lines = [] if mode == "mel" else _texts(mode, text, text_file)
    synthesizer = Synthesizer.load(
        voice_path(voice),
        device,
        precision,
        threads,
        backend=backend,
        trust_engines=trust_engines,
        lexicon=_lexicon(lexicon),
        guess_unknown=guess_unknown,
    )
    if mode != "stdout":
        name = Path("lines.wav") if mode == "lines" else out
        sound_format(name).check_rate(rate or sound_format(name).usual_rate(synthesizer.sample_rate))
    found = find_style(style, voice_path(voice), synthesizer.bundle.voice_hash) if style else None
    if sigma is None:
        sigma = PRIOR_SIGMA if found is None else found.sigma
    request = Request(
        text="",
        speaker=speaker,
        sigma=sigma,
        style=found,
        style_weight=style_weight,
        tail=tail,
        seed=seed,
        gate_threshold=gate_threshold,
        max_frames=max_frames,
        span_symbols=span_symbols,
        pause=pause,
        retries=retries,
        vocoder_sigma=vocoder_sigma,
        denoiser=denoiser,
    )
    if mode == "mel":
        assert from_mel is not None
        _vocode(synthesizer, request, from_mel, outputs)
        return
    requests = [
        dataclasses.replace(request, text=line, request=number if mode == "lines" else 0) for number, line in lines
    ]
    if rhythm is not None:
        requests = [_with_rhythm(synthesizer, each, rhythm) for each in requests]
    if style_tags:
        requests = [_with_tags(synthesizer, each, voice_path(voice)) for each in requests]
    for (number, _), each in zip(lines, requests, strict=True):
        _check_text(synthesizer, each, f"line {number} of {text_file}: " if mode == "lines" else "")
    if mode == "stdout":
        _stream(synthesizer, requests[0], rate, header=not raw)
    elif mode == "book":
        _speak_book(synthesizer, requests[0], outputs, restart=restart)
    else:
        for each in requests:
            path = out / f"{each.request:05d}.wav" if mode == "lines" else out
            _speak(synthesizer, each, dataclasses.replace(outputs, out=path), describe=each is requests[0])


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """What is written beside and about the sound, and how the sound is."""

    out: Path
    rate: int | None
    loudness: float | None
    timings: Path | None
    save_mel: Path | None
    plot: Path | None
    as_json: bool
    quiet: bool

    @property
    def sidecar(self) -> Path:
        return self.out.with_suffix(".json")

    def check(self, mode: str) -> None:
        """Refuse what could not be written, before anything is computed."""
        from fte.sound import check_loudness, sound_format
        from fte.timings import check_timings_name

        self._check_combination(mode)
        if mode == "lines":
            check_place(self.out, is_folder=True)
        elif mode != "stdout":
            sound_format(self.out)
            check_place(self.out)
        check_loudness(self.loudness)
        if self.timings is not None:
            check_timings_name(self.timings)
            check_place(self.timings)
        if self.save_mel is not None:
            if self.save_mel.suffix.lower() != ".npy":
                raise RequestError(f"cannot write {self.save_mel}: the name of a mel must end in .npy")
            check_place(self.save_mel)
        if self.plot is not None:
            _check_plot(self.plot)
        if self.as_json and self.timings == self.sidecar:
            raise RequestError(f"--json and --timings would both write {self.sidecar}: name the timings otherwise")

    def _check_combination(self, mode: str) -> None:
        """Name the options that a mode cannot serve."""
        given = {
            "--timings": self.timings is not None,
            "--save-mel": self.save_mel is not None,
            "--plot": self.plot is not None,
            "--json": self.as_json,
            "--loudness": self.loudness is not None,
        }
        without = {
            "one": [],
            "book": ["--save-mel", "--plot"],
            "lines": ["--timings", "--save-mel", "--plot"],
            "mel": ["--timings", "--save-mel", "--plot", "--json"],
            "stdout": list(given),
        }
        what = {"book": "a whole text file", "lines": "a file of lines", "mel": "a mel", "stdout": "standard output"}
        if wrong := [option for option in without[mode] if given[option]]:
            raise RequestError(f"{', '.join(wrong)} cannot be had for {what[mode]}: leave it out")


def _mode(text: str, text_file: Path | None, from_mel: Path | None, to_stdout: bool, out: Path) -> str:
    """ "one", "book", "lines", "mel" or "stdout"; raises RequestError where two sources were given."""
    sources = {"a text": text != "-", "--text-file": text_file is not None, "--from-mel": from_mel is not None}
    if len(given := [name for name, is_given in sources.items() if is_given]) > 1:
        raise RequestError(f"{' and '.join(given)} were given: leave one of them out")
    if from_mel is not None and to_stdout:
        raise RequestError("--from-mel cannot be streamed to standard output: name a file with -o")
    if to_stdout:
        return "stdout"
    if from_mel is not None:
        return "mel"
    if text_file is None:
        return "one"
    from fte.sound import FORMATS

    return "book" if out.suffix.lower() in {kind.suffix for kind in FORMATS} else "lines"


def _texts(mode: str, text: str, text_file: Path | None) -> list[tuple[int, str]]:
    """The texts to speak with their line numbers, from 1."""
    if text_file is None:
        return [(1, read_stdin() if text == "-" else text)]
    content = read_text(text_file)
    if mode != "lines":
        return [(1, content)]
    numbered = [(i, line) for i, line in enumerate(content.splitlines(), 1) if line.strip()]
    if not numbered:
        raise RequestError(f"{text_file} has no text: give a file with something to say on each line")
    return numbered


def _lexicon(path: Path | None) -> Any:
    if path is None:
        return None
    from fte.text import read_lexicon

    return read_lexicon(path)


def _with_rhythm(synthesizer: "Synthesizer", request: "Request", recording: Path) -> "Request":
    """The request with the attention of a recording of its text."""
    from fte.audio import read_audio

    samples, sample_rate = read_audio(recording)
    found = synthesizer.posterior(samples, sample_rate, request.text, synthesizer.speaker_id(request.speaker))
    if found.unaligned:
        say(f"{recording.name} does not seem to say the text: {found.unaligned}", "yellow")
    return dataclasses.replace(request, rhythm=found.attention)


def _with_tags(synthesizer: "Synthesizer", request: "Request", bundle_path: Path) -> "Request":
    """The request with its tags read as a ramp over words; without tags as it is."""
    from fte.style.ramps import parse_styled_text, ramp_over_words, styled_words
    from fte.style.style import Style

    known = own_styles(bundle_path)
    plain, marked = parse_styled_text(request.text, known)
    if not marked:
        return request
    words = styled_words(plain, marked, lambda part: len(synthesizer.transcript(part).words))
    styles = {part.name: find_style(part.name, bundle_path, synthesizer.bundle.voice_hash) for part in words}
    base = request.style if isinstance(request.style, Style) else None
    return dataclasses.replace(request, text=plain, style=ramp_over_words(words, styles, base))


def _check_text(synthesizer: "Synthesizer", request: "Request", where: str) -> None:
    """Refuse a text before anything is computed, so that the last line of a file cannot fail after the first."""
    try:
        synthesizer.plan(request)
    except RequestError as error:
        raise RequestError(f"{where}{error}") from error


def _check_plot(plot: Path) -> None:
    """Refuse a picture that could not be drawn before anything is computed."""
    from fte.plot import FORMATS

    if plot.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {plot}: the name of a picture must end in one of {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401  (now, so that its absence is no surprise after the work is done)
    except ImportError as error:
        missing = "--plot needs matplotlib: install flowtron-fte[plot] or leave the picture out"
        raise RequestError(import_fault(error, ["matplotlib"], missing)) from error
    check_place(plot)


def _speak(synthesizer: "Synthesizer", request: "Request", outputs: _Outputs, *, describe: bool) -> None:
    """Speak one text, write all that was asked for, and say what was done."""
    from fte.melfile import save_mel
    from fte.record import span_record
    from fte.sound import write_sound
    from fte.timings import write_timings

    started = time.perf_counter()
    speech = synthesizer.synthesize_batch([request])[0]
    elapsed = time.perf_counter() - started
    make_folder(outputs.out.parent)
    written = write_sound(outputs.out, speech.samples, speech.sample_rate, rate=outputs.rate, loudness=outputs.loudness)
    if outputs.plot is not None:
        from fte.plot import plot_utterance

        title = request.text if len(request.text) <= 100 else f"{request.text[:97]}..."
        frame_seconds = synthesizer.hop / synthesizer.sample_rate
        plot_utterance(outputs.plot, speech.mel, speech.attention, speech.gate, speech.symbols, title, frame_seconds)
    if outputs.save_mel is not None:
        save_mel(outputs.save_mel, speech.mel)
    if outputs.timings is not None:
        write_timings(outputs.timings, speech.timings)
    if outputs.as_json:
        _write_sidecar(synthesizer, request, outputs, written, map(span_record, speech.spans))
    if not outputs.quiet:
        if describe:
            _describe(synthesizer)
        _report(outputs, written, speech.seconds, elapsed)
        _report_health(speech.spans)


def _speak_book(synthesizer: "Synthesizer", request: "Request", outputs: _Outputs, *, restart: bool) -> None:
    """Speak a long text in bounded memory, going on where an earlier run was broken off."""
    from fte.longform import speak_long
    from fte.sound import write_sound
    from fte.timings import write_timings

    common.on_interruption = "run the same command again to go on from there"
    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("speaking", total=None)
        progress = lambda done, spans: bar.update(task, completed=done, total=spans)  # noqa: E731
        with speak_long(synthesizer, request, outputs.out, restart=restart, progress=progress) as speech:
            elapsed = time.perf_counter() - started
            bar.update(task, description="writing")
            written = write_sound(
                outputs.out, speech.samples, speech.sample_rate, rate=outputs.rate, loudness=outputs.loudness
            )
            if outputs.timings is not None:
                write_timings(outputs.timings, speech.timings())
            if outputs.as_json:
                _write_sidecar(synthesizer, request, outputs, written, speech.records())
            seconds, spans, resumed = len(speech.samples) / speech.sample_rate, speech.spans, speech.resumed_at
            unhealthy = sum(record["verdict"] not in ("ok", "unaligned") for record in speech.records())
    if outputs.quiet:
        return
    _describe(synthesizer)
    if resumed:
        say(f"went on after {resumed} of {spans} spans, which an earlier run had spoken")
    _report(outputs, written, seconds, elapsed)
    if unhealthy:
        say(f"{unhealthy} utterances are doubtful: the verdicts in the .json file of --json tell which", "yellow")


def _vocode(synthesizer: "Synthesizer", request: "Request", mel_file: Path, outputs: _Outputs) -> None:
    """The vocoder alone: a mel from a file to a sound file."""
    from fte.melfile import load_mel
    from fte.sound import write_sound

    mel = load_mel(mel_file, synthesizer.manifest.flowtron.n_mels)
    started = time.perf_counter()
    samples = synthesizer.vocode(mel, sigma=request.vocoder_sigma, seed=request.seed, denoiser=request.denoiser)
    elapsed = time.perf_counter() - started
    written = write_sound(outputs.out, samples, synthesizer.sample_rate, rate=outputs.rate, loudness=outputs.loudness)
    if not outputs.quiet:
        _describe(synthesizer)
        _report(outputs, written, len(samples) / synthesizer.sample_rate, elapsed)


def _stream(synthesizer: "Synthesizer", request: "Request", rate: int | None, *, header: bool) -> None:
    """16-bit PCM, or a WAV of unknown length, on standard output as it is being made."""
    from fte.sound import pcm_chunks

    if sys.stdout is None or sys.stdout.isatty():
        raise RequestError("standard output is a terminal: pipe the sound into a player or a file")
    with synthesizer.stream(request) as stream:
        chunks = (chunk.samples for chunk in stream if len(chunk.samples))
        try:
            for data in pcm_chunks(chunks, synthesizer.sample_rate, rate=rate, header=header):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes when it ends
            raise RequestError("the reader of the sound went away before its end") from error


def _write_sidecar(
    synthesizer: "Synthesizer", request: "Request", outputs: _Outputs, written: Any, spans: Iterable[dict[str, Any]]
) -> None:
    from fte.files import atomic_file
    from fte.record import speech_record

    sound = {"file": outputs.out.name, **dataclasses.asdict(written)}
    record = speech_record(synthesizer, request, list(spans), sound)
    with atomic_file(outputs.sidecar) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _describe(synthesizer: "Synthesizer") -> None:
    say(f"voice: {synthesizer.description}")
    if synthesizer.manifest.warning:
        say(synthesizer.manifest.warning, "yellow")


def _report(outputs: _Outputs, written: Any, seconds: float, elapsed: float) -> None:
    gain = f", {written.gain:+.1f} dB to {written.loudness:.1f} LUFS" if written.loudness is not None else ""
    held = f", peaks limited by up to {written.limited:.1f} dB" if written.limited else ""
    say(f"{outputs.out}: {seconds:.2f} s of audio in {elapsed:.2f} s{gain}{held}")
    if written.clipped:
        say(f"{written.clipped} samples were too loud and were clipped: give --loudness", "yellow")
    if outputs.loudness is None:
        return
    if written.loudness is None:
        say(f"{outputs.loudness:g} LUFS were not reached: all of it is silent", "yellow")
    elif (miss := outputs.loudness - written.loudness) > _LOUDNESS_MISSED:
        say(f"{outputs.loudness:g} LUFS were missed by {miss:.1f} LU: the peaks allow no more gain", "yellow")


def _report_health(spans: Iterable["SpokenSpan"]) -> None:
    """Say which utterances are doubtful and what was tried: the first few."""
    messages = list(_doubts(spans))
    for message in messages[:_DOUBTS_SHOWN]:
        say(message, "yellow")
    if len(messages) > _DOUBTS_SHOWN:
        say(f"and {len(messages) - _DOUBTS_SHOWN} more: --json tells all", "yellow")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _doubts(spans: Iterable["SpokenSpan"]) -> Iterator[str]:
    for span in spans:
        if span.health.verdict == "unaligned":
            yield f"{_shortened(span.text)!r}: the attention follows no text, so nobody can tell when a word is spoken"
        elif not span.health.ok:
            faults = "; ".join(fault.message for fault in span.health.faults)
            tried = f" (best of {len(span.attempts)} attempts)" if len(span.attempts) > 1 else ""
            yield f"{_shortened(span.text)!r} {span.health.verdict}{tried}: {faults}"
        elif len(span.attempts) > 1:
            before = ", ".join(attempt.verdict for attempt in span.attempts[:-1])
            yield f"{_shortened(span.text)!r}: attempt {len(span.attempts)} was healthy, after {before}"
