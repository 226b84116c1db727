"""`fte synth`."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fte.cli import common, completion, stdout
from fte.cli.combinations import Mode, check_combination, check_vocoder, given_options
from fte.cli.common import (
    BackendOption,
    DeviceOption,
    PrecisionOption,
    ThreadsOption,
    TrustEnginesOption,
    VoiceOption,
    check_machine,
    check_package,
    check_place,
    check_precision,
    make_folder,
    progress_bar,
    read_stdin,
    read_text,
    say,
    voice_path,
)
from fte.cli.player import find_player, play
from fte.constants import SAMPLE_RATE
from fte.errors import InputError, RequestError
from fte.record import span_record
from fte.style.library import find_style, own_styles
from fte.text.screening import check_words, is_plain, is_plainly_speakable

if TYPE_CHECKING:
    from fte.speech import Request
    from fte.synthesizer import Synthesizer

_LOUDNESS_MISSED = 0.1  # LU that are worth a word
_DOUBTS_SHOWN = 3
_SPEECH = "How it is spoken"
_SOUND = "What is written"


def synth(
    context: typer.Context,
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
    to_player: Annotated[
        bool, typer.Option("--play", help="Play it while it is being made, through a player that is installed.")
    ] = False,
    speaker: Annotated[
        str, typer.Option(help="Name or id.", rich_help_panel=_SPEECH, autocompletion=completion.speakers)
    ] = "0",
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
            help='A style file, or the voice\'s own by name and weight: "happy:0.7,sad:0.3".',
            rich_help_panel=_SPEECH,
            autocompletion=completion.styles,
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
        Path | None,
        typer.Option(help="When each word is spoken: .json, .srt, .vtt or .TextGrid.", rich_help_panel=_SOUND),
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
    from fte.bundle import Bundle
    from fte.speech import PRIOR_SIGMA, Request
    from fte.synthesizer import Synthesizer

    given = given_options(context)
    mode = _mode(given, text_file, from_mel, out)
    check_combination(mode, given, context.params)
    outputs = _Outputs(out, rate, loudness, timings, save_mel, plot, as_json, quiet)
    outputs.check(mode)
    check_machine(device, backend, threads)
    request = Request(
        text="",
        speaker=speaker,
        sigma=PRIOR_SIGMA if sigma is None else sigma,
        style_weight=style_weight,
        seed=seed,
        gate_threshold=gate_threshold,
        max_frames=max_frames,
        span_symbols=span_symbols,
        pause=pause,
        retries=retries,
        vocoder_sigma=vocoder_sigma,
        denoiser=denoiser,
    )
    (request if style else dataclasses.replace(request, tail=tail)).check()  # the style's file is read later
    source = _Source(mode, text, text_file)
    own_words = _lexicon(lexicon)
    path = voice_path(voice)
    bundle = Bundle.open(path)
    check_precision(bundle, precision)
    check_vocoder(given, has_vocoder=bundle.manifest.waveglow is not None)
    outputs.check_rate(mode, bundle.manifest.audio.sample_rate)
    if style:
        found = find_style(style, path, bundle.voice_hash)
        spread = found.sigma if sigma is None else sigma
        request = dataclasses.replace(request, style=found, sigma=spread, tail=tail)
        request.check()
    synthesizer = Synthesizer.load(
        path,
        device,
        precision,
        threads,
        backend=backend,
        trust_engines=trust_engines,
        lexicon=own_words,
        guess_unknown=guess_unknown,
    )
    if from_mel is not None:
        _vocode(synthesizer, request, from_mel, outputs)
        return
    prepare = _Preparation(synthesizer, path, rhythm, style_tags)
    synthesizer.speaker_id(speaker)
    source.check(synthesizer, request, prepare)
    requests = source.requests(request, prepare)
    if mode == "stdout":
        _stream(synthesizer, next(requests), rate, header=not raw)
    elif mode == "play":
        _play(synthesizer, next(requests), outputs)
    elif mode == "book":
        _speak_book(synthesizer, next(requests), outputs, restart=restart)
    else:
        for count, each in enumerate(requests):
            target = out / f"{each.request:05d}.wav" if mode == "lines" else out
            _speak(synthesizer, each, dataclasses.replace(outputs, out=target), describe=not count)


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

        if mode == "lines":
            check_place(self.out, is_folder=True)
        elif mode == "stdout":
            stdout.check_sound()
        elif mode == "play":
            find_player(self.rate or SAMPLE_RATE)
        else:
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
        if self.as_json and mode != "lines":
            check_place(self.sidecar)

    def check_rate(self, mode: Mode, of_the_voice: int) -> None:
        """Refuse a sample rate that the sound cannot have; ``of_the_voice`` in Hz."""
        from fte.sound import Resampler, sound_format

        if mode in ("stdout", "play"):
            Resampler(of_the_voice, self.rate or of_the_voice)
            return
        kind = sound_format(Path("lines.wav") if mode == "lines" else self.out)
        kind.check_rate(self.rate or kind.usual_rate(of_the_voice))


def _mode(given: Collection[str], text_file: Path | None, from_mel: Path | None, out: Path) -> Mode:
    """What is to be done; raises RequestError where two sources or two ways out were given."""
    sources = {"a text": "text", "--text-file": "text_file", "--from-mel": "from_mel"}
    _one_of([shown for shown, name in sources.items() if name in given])
    _one_of([shown for shown, name in {"--raw": "raw", "--play": "to_player"}.items() if name in given])
    to_stdout = "raw" in given or str(out) == "-"
    if from_mel is not None and to_stdout:
        raise RequestError("--from-mel cannot be streamed to standard output: name a file with -o")
    if from_mel is not None and "to_player" in given:
        raise RequestError("--from-mel cannot be played while it is being made: name a file with -o")
    if "to_player" in given:
        return "play"
    if to_stdout:
        return "stdout"
    if from_mel is not None:
        return "mel"
    if text_file is None:
        return "one"
    from fte.sound import FORMATS

    return "book" if out.suffix.lower() in {kind.suffix for kind in FORMATS} else "lines"


def _one_of(given: Sequence[str]) -> None:
    if len(given) > 1:
        raise RequestError(f"{' and '.join(given)} were given: leave one of them out")


class _Source:
    """The texts to speak, one after the other."""

    def __init__(self, mode: Mode, text: str, text_file: Path | None) -> None:
        """Read them. Raises RequestError where there is nothing to read."""
        self._file, self._by_line = text_file, mode == "lines"
        self._whole: Request | None = None
        if mode == "mel":
            self._content = ""
        elif text_file is None:
            self._content = read_stdin() if text == "-" else text
        else:
            self._content = read_text(text_file)
        if self._by_line and not self._content.strip():
            raise InputError(f"{text_file} has no text: give a file with something to say on each line")

    def _lines(self) -> Iterator[tuple[int, str]]:
        """The texts with their line numbers, from 1; number 0 is a text as a whole."""
        if not self._by_line:
            yield 0, self._content
            return
        for number, line in enumerate(self._content.splitlines(), 1):
            if line.strip():
                yield number, line

    def requests(self, common: "Request", prepare: "_Preparation") -> Iterator["Request"]:
        """The requests, each made when its turn comes."""
        if self._whole is not None:
            yield self._whole
            return
        for number, line in self._lines():
            with self._blamed_on(number):
                request = prepare(dataclasses.replace(common, text=line, request=number))
            yield request

    def check(self, synthesizer: "Synthesizer", common: "Request", prepare: "_Preparation") -> None:
        """Refuse a text before it is spoken, so that the last line of a file cannot fail after the first.

        Whole texts would take minutes to read; what can fail in them is read alone (`fte.text.screening`).
        """
        for number, line in self._lines():
            if self._by_line and is_plain(line) and not prepare.must_be_whole(line):
                continue
            with self._blamed_on(number):
                request = dataclasses.replace(common, text=line, request=number)
                request.check()
                if not self._by_line:
                    request = self._whole = prepare(request)
                if prepare.must_be_whole(line) or not is_plainly_speakable(line):
                    synthesizer.plan(prepare(request) if self._by_line else request)
                else:
                    check_words(request.text, synthesizer.transcript)

    @contextlib.contextmanager
    def _blamed_on(self, number: int) -> Iterator[None]:
        """Say of what is wrong with a text in which line it stands."""
        try:
            yield
        except RequestError as error:
            if self._file is None:
                raise
            where = f"line {number} of {self._file}: " if self._by_line else f"{self._file}: "
            raise InputError(f"{where}{error}") from error


def _lexicon(path: Path | None) -> Any:
    if path is None:
        return None
    from fte.text import read_lexicon

    try:
        return read_lexicon(path)
    except RequestError as error:
        raise InputError(str(error)) from error


@dataclasses.dataclass
class _Preparation:
    """What is added to a request when its text is known: the rhythm of a recording, the styles that tags name."""

    synthesizer: "Synthesizer"
    bundle_path: Path
    rhythm: Path | None
    style_tags: bool

    def must_be_whole(self, text: str) -> bool:
        """Whether the text must be spoken in one go, which its plan alone tells."""
        return self.rhythm is not None or (self.style_tags and "[" in text)

    def __call__(self, request: "Request") -> "Request":
        if self.rhythm is not None:
            request = self._with_rhythm(request, self.rhythm)
        return self._with_tags(request) if self.style_tags else request

    @cached_property
    def _recording(self) -> Any:
        """The recording's samples, and their rate."""
        from fte.audio import read_audio

        assert self.rhythm is not None
        return read_audio(self.rhythm)

    def _with_rhythm(self, request: "Request", recording: Path) -> "Request":
        """The request with the attention of a recording of its text."""
        voice = self.synthesizer
        samples, rate = self._recording
        found = voice.posterior(samples, rate, request.text, voice.speaker_id(request.speaker))
        if found.unaligned:
            say(f"{recording.name} does not seem to say the text: {found.unaligned}", "yellow")
        return dataclasses.replace(request, rhythm=found.attention)

    def _with_tags(self, request: "Request") -> "Request":
        """The request with its tags read as a ramp over words; without tags as it is."""
        from fte.style.ramps import parse_styled_text, ramp_over_words, styled_words
        from fte.style.style import Style

        voice, path = self.synthesizer, self.bundle_path
        plain, marked = parse_styled_text(request.text, own_styles(path))
        if not marked:
            return request
        words = styled_words(plain, marked, lambda part: len(voice.transcript(part).words))
        styles = {part.name: find_style(part.name, path, voice.bundle.voice_hash) for part in words}
        base = request.style if isinstance(request.style, Style) else None
        return dataclasses.replace(request, text=plain, style=ramp_over_words(words, styles, base))


def _check_plot(plot: Path) -> None:
    """Refuse a picture that could not be drawn before anything is computed."""
    from fte.plot import FORMATS

    if plot.suffix.lower() not in FORMATS:
        raise RequestError(f"cannot draw {plot}: the name of a picture must end in one of {', '.join(FORMATS)}")
    check_package("matplotlib.figure", "--plot", "install flowtron-fte[plot] or leave the picture out")
    check_place(plot)


def _speak(synthesizer: "Synthesizer", request: "Request", outputs: _Outputs, *, describe: bool) -> None:
    """Speak one text, write all that was asked for, and say what was done."""
    from fte.melfile import save_mel
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
    records = list(map(span_record, speech.spans))
    if outputs.as_json:
        _write_sidecar(synthesizer, request, outputs, written, records)
    if not outputs.quiet:
        if describe:
            _describe(synthesizer)
        _report(outputs, written, speech.seconds, elapsed)
        _report_health(records)


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
            records = speech.records()
            if outputs.as_json:
                _write_sidecar(synthesizer, request, outputs, written, records)
            seconds, spans, resumed = len(speech.samples) / speech.sample_rate, speech.spans, speech.resumed_at
    if outputs.quiet:
        return
    _describe(synthesizer)
    if resumed:
        say(f"went on after {resumed} of {spans} spans, which an earlier run had spoken")
    _report(outputs, written, seconds, elapsed)
    _report_health(records, even_untrained=False)


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

    with synthesizer.stream(request) as stream:
        chunks = (chunk.samples for chunk in stream if len(chunk.samples))
        for data in pcm_chunks(chunks, synthesizer.sample_rate, rate=rate, header=header):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _play(synthesizer: "Synthesizer", request: "Request", outputs: _Outputs) -> None:
    """Play the sound as it is being made."""
    from fte.sound import pcm_chunks

    rate = outputs.rate or synthesizer.sample_rate
    if not outputs.quiet:
        _describe(synthesizer)
    records: list[dict[str, Any]] = []

    def samples() -> Iterator[Any]:
        for chunk in stream:
            if chunk.span is not None:
                records.append(span_record(chunk.span))
            if len(chunk.samples):
                yield chunk.samples

    with synthesizer.stream(request) as stream:
        play(find_player(rate), pcm_chunks(samples(), synthesizer.sample_rate, rate=rate))
    if not outputs.quiet:
        _report_health(records)


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


def _report_health(records: Iterable[dict[str, Any]], *, even_untrained: bool = True) -> None:
    """Say which utterances are doubtful and what was tried: the first few, by their numbers and words.

    even_untrained: also say so of those whose attention follows no text, which are all of such a voice.
    """
    count = 0
    for number, record in enumerate(records, 1):
        message = _doubt(record)
        if message is None or (record["verdict"] == "unaligned" and not even_untrained):
            continue
        count += 1
        if count <= _DOUBTS_SHOWN:
            say(f"utterance {number}, {_shortened(record['text'])!r}: {message}", "yellow")
    if count > _DOUBTS_SHOWN:
        say(f"and {count - _DOUBTS_SHOWN} more: the verdicts in the .json file of --json tell which", "yellow")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _doubt(record: dict[str, Any]) -> str | None:
    """What is doubtful about an utterance, of its record; None where nothing is."""
    verdict, attempts = record["verdict"], record["attempts"]
    if verdict == "unaligned":
        return "the attention follows no text, so nobody can tell when a word is spoken"
    if verdict != "ok":
        tried = f" (best of {len(attempts)} attempts)" if len(attempts) > 1 else ""
        return f"{verdict}{tried}, {'; '.join(record['faults'])}"
    if len(attempts) > 1:
        before = ", ".join(attempt["verdict"] for attempt in attempts[:-1])
        return f"attempt {len(attempts)} was healthy, after {before}"
    return None
