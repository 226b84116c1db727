"""Every example in the README and in docs/ runs as it stands."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fte_export.random_voice import TINY_FLOWTRON, TINY_WAVEGLOW
from public_format import save_flowtron, save_waveglow

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_NOTE = r"(?P<note><!-- not run: [^\n]*-->\n)?"
_BLOCK = re.compile(_NOTE + r"^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One example."""

    language: str
    code: str
    skipped: bool


def blocks(document: Path) -> list[Block]:
    """The examples of a document in order; those below a comment "not run: why" are marked."""
    text = document.read_text("utf-8")
    return [Block(m["language"], m["code"], m["note"] is not None) for m in _BLOCK.finditer(text)]


@pytest.fixture
def desk(tmp_path, tiny_path, monkeypatch) -> Path:
    """A folder with what the examples name, and a cache that has the tiny voice."""
    import fte

    save_flowtron(tmp_path / "flowtron_ljs.pt", TINY_FLOWTRON)
    save_waveglow(tmp_path / "waveglow_256channels_universal_v5.pt", TINY_WAVEGLOW)
    (tmp_path / "lines.txt").write_text("One line.\nAnother line.\n", "utf-8")
    (tmp_path / "book.txt").write_text("It was a book.\n\nIt had two paragraphs, and an end.\n", "utf-8")
    shutil.copytree(ROOT / "tests" / "data" / "ravdess_like", tmp_path / "recordings")
    (tmp_path / "words.txt").write_text("flowtron F L OW1 T R AA2 N\n", "utf-8")
    cached = tmp_path / "cache" / "fte" / f"tiny-{re.sub(r'[^0-9A-Za-z.]', '_', fte.__version__)}"
    shutil.copytree(tiny_path, cached)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_examples_run(document, desk, tiny_path):
    found = blocks(document)
    if document.name != "README.md":  # which makes the voice itself
        shutil.copytree(tiny_path, desk / "ljs")
    namespace: dict[str, object] = {}
    for block in found:
        if block.skipped:
            continue
        if block.language == "python":
            exec(compile(block.code, document.name, "exec"), namespace)
        else:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], capture_output=True, text=True)
            assert done.returncode == 0, f"{block.code}\n{done.stderr}"


def test_few_examples_are_not_run():
    """An example that needs the network, a sound card or hours says so; the others must run."""
    texts = [document.read_text("utf-8") for document in DOCUMENTS]
    reasons = {reason for text in texts for reason in re.findall(r"<!-- not run: ([^>]*) -->", text)}
    assert reasons <= {
        "no sound card",
        "continuous integration runs it",
        "needs more recordings than these examples have",
        "needs a GPU",
        "takes hours",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_the_generated_pages_hold_the_docstrings(tmp_path):
    subprocess.run([sys.executable, "-m", "pdoc", "-o", str(tmp_path), "fte.synthesizer", "fte.speech"], check=True)
    page = (tmp_path / "fte" / "synthesizer.html").read_text("utf-8")
    assert "Speak a text while it is being computed" in page
    assert "first_chunk" in (tmp_path / "fte" / "speech.html").read_text("utf-8")
