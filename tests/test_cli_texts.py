"""`fte synth` of many texts: none is read before its turn, and doubtful utterances are named."""

from pathlib import Path

import pytest

from test_cli import run  # noqa: F401  (a fixture)

TEXT = "Kids are talking by the door. Never again!"


def test_the_first_of_many_lines_is_spoken_before_the_last_is_read(run, tiny_path, monkeypatch):  # noqa: F811
    """The front end has read the first line alone, and of the others only what looks as if it could not be spoken."""
    from fte.text import TextFrontend

    class FirstIsSpokenError(Exception):
        pass

    read: list[str] = []
    transcript = TextFrontend.transcript
    monkeypatch.setattr(TextFrontend, "transcript", lambda self, text: read.append(text) or transcript(self, text))

    def spoken(*_: object, **__: object) -> None:
        raise FirstIsSpokenError

    monkeypatch.setattr("fte.cli.synth._speak", spoken)
    Path("lines.txt").write_text("".join(f"Kids talk by door {i}.\n" for i in range(20_000)) + "5\n" + "x" * 50)
    with pytest.raises(FirstIsSpokenError):
        run("synth", "--voice", tiny_path, "--text-file", "lines.txt", "-o", "lines")
    assert read == ["x" * 50]


@pytest.mark.parametrize("arguments", [["-o", "book.wav"], ["-o", "lines"]])
def test_doubtful_utterances_are_named_with_their_words(run, tiny_path, monkeypatch, arguments):  # noqa: F811
    """As if the attention had skipped words of the second sentence, which no random voice can be made to do."""
    from fte.health import Fault, Health

    sick = Health("skipped", (Fault("skipped", 0, 0, 0, 5, "2 words were skipped: never, again"),))
    well = Health("ok", ())
    verdict = lambda span: sick if span.text == "Never again!" else well  # noqa: E731
    monkeypatch.setattr("fte.speech.SpokenSpan.health", property(verdict))
    Path("book.txt").write_text(f"{TEXT}\nAnother one is here.", "utf-8")
    done = run("synth", "--voice", tiny_path, "--max-frames", "20", "--text-file", "book.txt", *arguments)
    assert done.status == 0
    told = [line for line in done.err.splitlines() if line.startswith("utterance")]
    assert told == ["utterance 2, 'Never again!': skipped, 2 words were skipped: never, again"]
