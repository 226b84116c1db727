"""`fte text` shows each stage and speaks nothing."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fte.cli.text import text
from fte.errors import RequestError
from fte.text import TextFrontend

app = typer.Typer()
app.command()(text)


def run(*arguments: str, stdin: str | None = None) -> str:
    """Standard output of the command; its errors are raised."""
    return CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False).output


def rows(output: str) -> list[tuple[str, ...]]:
    """The lines' cells: what two or more spaces part."""
    return [tuple(cell.strip() for cell in line.split("  ") if cell.strip()) for line in output.splitlines() if line]


def test_every_stage_is_shown():
    assert rows(run("The streets: 5 km")) == [
        ("step", "text"),
        ("given", "The streets: 5 km"),
        ("units", "The streets: 5 kilometers"),
        ("cardinals", "The streets: five kilometers"),
        ("word", "spoken as", "because of"),
        ("The", "The", "ambiguous"),
        ("streets", "{S T R IY1 T S}", "dictionary"),
        ("five", "{F AY1 V}", "dictionary"),
        ("kilometers", "kilometers", "ambiguous"),
        ("26 symbols",),
    ]


def test_json_holds_what_the_front_end_gives():
    document = json.loads(run("Ünited in 5", "--json"))
    transcript = TextFrontend().transcript("Ünited in 5")
    assert document["steps"] == [
        {"step": "characters", "text": "United in 5"},
        {"step": "cardinals", "text": "United in five"},
    ]
    assert document["words"][2] == {
        "text": "five",
        "start": transcript.words[2].start,
        "stop": transcript.words[2].stop,
        "phones": "F AY1 V",
        "source": "dictionary",
    }
    assert document["ids"] == list(transcript.ids)


@pytest.mark.parametrize(
    ("option", "spoken"),
    [
        ("--keep-ambiguous", {"the": "DH AH0", "streets": "S T R IY1 T S"}),
        ("--no-arpabet", {"the": None, "streets": None}),
    ],
)
def test_options_change_the_reading(option, spoken):
    words = json.loads(run("the streets", option, "--json"))["words"]
    assert {word["text"]: word["phones"] for word in words} == spoken


def test_unknown_words_are_guessed_where_asked(monkeypatch):
    monkeypatch.setattr("fte.text.g2p.guess", lambda word: "Z AY1")
    (word,) = json.loads(run("xylofrob", "--guess-unknown", "--json"))["words"]
    assert (word["phones"], word["source"]) == ("Z AY1", "guessed")


def test_a_lexicon_is_used(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("read R EH1 D", "utf-8")
    (word,) = json.loads(run("read", "--lexicon", str(path), "--json"))["words"]
    assert (word["phones"], word["source"]) == ("R EH1 D", "lexicon")


def test_standard_input_is_read():
    assert json.loads(run("-", "--json", stdin="Hello.\n"))["cleaned"] == "Hello."


def test_a_voice_reads_as_it_was_trained(tiny_path):
    assert json.loads(run("streets", "--voice", str(tiny_path), "--json"))["words"][0]["source"] == "dictionary"


def test_nothing_to_say_is_an_error():
    with pytest.raises(RequestError, match="can be pronounced"):
        run("...")


def test_a_terminal_gets_no_control_characters():
    assert "\x1b" not in run("a\x1b[31mb")


def test_the_page_on_text_shows_the_true_output():
    page = (Path(__file__).parents[1] / "docs" / "text.md").read_text("utf-8")
    command, shown = re.findall(r'```bash\nfte text "(.*)"\n```\n\n```\n(.*?)```', page, re.DOTALL)[0]
    assert [line.rstrip() for line in run(command).splitlines()] == shown.splitlines()
