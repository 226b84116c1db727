"""`fte text`."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fte.bundle import Bundle, TextOptions
from fte.cli import completion
from fte.cli.common import out_console, read_stdin, voice_path
from fte.errors import RequestError
from fte.text import SYMBOLS, Stages, TextFrontend, read_lexicon

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def text(
    text: Annotated[str, typer.Argument(help="What would be said; '-' or nothing reads standard input.")] = "-",
    lexicon: Annotated[
        Path | None, typer.Option(help="Your own pronunciations: a word and its ARPAbet a line.")
    ] = None,
    guess_unknown: Annotated[
        bool, typer.Option("--guess-unknown", help="Pronounce words outside the dictionary by their spelling.")
    ] = False,
    keep_ambiguous: Annotated[
        bool, typer.Option("--keep-ambiguous", help="Words with several pronunciations take the first.")
    ] = False,
    no_arpabet: Annotated[bool, typer.Option("--no-arpabet", help="Words stay letters.")] = False,
    voice: Annotated[
        str | None,
        typer.Option(
            "--voice",
            "-v",
            metavar="VOICE",
            help="Read as this voice does: a bundle's folder, or 'tiny'.",
            autocompletion=completion.voices,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every stage as JSON.")] = False,
) -> None:
    """Show what becomes of a text on its way to the model, without speaking it."""
    options = TextOptions() if voice is None else _options(voice)
    frontend = TextFrontend(
        arpabet=options.arpabet and not no_arpabet,
        keep_ambiguous=options.keep_ambiguous or keep_ambiguous,
        lexicon={} if lexicon is None else read_lexicon(lexicon),
        guess_unknown=guess_unknown,
        lowercase=options.lowercase,
    )
    given = read_stdin() if text == "-" else text
    stages = frontend.stages(given)
    if as_json:
        typer.echo(json.dumps(_document(given, stages), ensure_ascii=False, indent=2))
    else:
        _print_stages(given, stages)


def _options(voice: str) -> TextOptions:
    manifest = Bundle.open(voice_path(voice)).manifest
    if tuple(manifest.symbols) != SYMBOLS:
        raise RequestError(f"the voice {voice} was not trained with the public symbols: no text can be read for it")
    return manifest.text


def _document(given: str, stages: Stages) -> dict[str, Any]:
    transcript = stages.transcript
    spoken = [piece for piece in stages.pieces if piece.source is not None]
    return {
        "text": given,
        "steps": [{"step": name, "text": after} for name, after in stages.steps],
        "cleaned": stages.cleaned,
        "words": [
            {"text": word.text, "start": word.start, "stop": word.stop, "phones": piece.phones, "source": piece.source}
            for word, piece in zip(transcript.words, spoken, strict=True)
        ],
        "symbols": transcript.symbols,
        "ids": transcript.ids,
    }


def _print_stages(given: str, stages: Stages) -> None:
    steps = Table("step", "text", box=None, pad_edge=False)
    for name, after in (("given", _CONTROL.sub(" ", given)), *stages.steps):
        steps.add_row(name, after)
    words = Table("word", "spoken as", "because of", box=None, pad_edge=False)
    for piece in stages.pieces:
        if piece.source is not None:
            words.add_row(piece.text, piece.spoken, piece.source)
    out_console.print(steps, "", words, "", f"{len(stages.transcript.symbols)} symbols", sep="\n")
