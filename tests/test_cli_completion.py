"""What the shell is offered, through the protocol that its script speaks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = [sys.executable, "-c", "import sys; sys.argv[0] = 'fte'; from fte.cli import main; main()"]


@pytest.fixture
def desk(tiny_path, tmp_path, monkeypatch) -> Path:
    """A folder with a voice that has two styles, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_path, "ljs")
    Path("ljs/styles").mkdir()
    for name in ("happy", "sad"):
        Path(f"ljs/styles/{name}.safetensors").touch()
    Path("lambs").mkdir()
    return tmp_path


def offered(shell: str, line: str) -> list[str]:
    """The completions of the last word of a command line."""
    words = line.split(" ")
    environment = os.environ | {"_FTE_COMPLETE": f"complete_{shell}", "XDG_CACHE_HOME": "cache"}
    if shell == "bash":
        environment |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        environment |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(MAIN, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()  # the answer to no completion is an empty line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fte synth --voice l", ["ljs"]),
        ("fte synth --voice ", ["tiny", "ljs"]),
        ("fte synth --voice ../{here}/l", ["../{here}/ljs"]),
        ("fte info l", ["ljs"]),
        ("fte synth --voice ljs --style ", ["happy", "sad"]),
        ("fte synth --voice ljs --style happy:0.7,s", ["happy:0.7,sad"]),
        ("fte synth --voice ljs --precision ", ["auto", "fp32", "int8"]),
        ("fte synth --voice nowhere --precision f", ["fp32", "fp16"]),
        ("fte synth --voice ljs --speaker speaker_1", ["speaker_1"]),
        ("fte synth --backend onnxruntime-", ["onnxruntime-graphs", "onnxruntime-tensorrt"]),
        ("fte bench --device c", ["cpu", "cuda"]),
        ("fte style ex", ["extract"]),
        ("fte synth --lou", ["--loudness"]),
    ],
)
def test_bash_is_offered_what_fits(desk, line, expected):
    here = desk.name
    assert offered("bash", line.format(here=here)) == [value.format(here=here) for value in expected]


def test_zsh_and_fish_are_offered_the_same(desk):
    assert offered("fish", "fte synth --voice ljs --style h") == ["happy"]
    answer = " ".join(offered("zsh", "fte synth --voice ljs --style h"))
    assert '"happy"' in answer and "sad" not in answer


def test_nothing_is_offered_where_files_are_wanted(desk):
    assert offered("bash", "fte synth --plot p") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_names_the_protocol(shell):
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell is named instead
    done = subprocess.run([*MAIN, "--show-completion", shell], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and f"_FTE_COMPLETE=complete_{shell}" in done.stdout


def test_a_bash_that_sources_the_script_completes(desk):
    """The whole way: the script is read by a bash, which runs the completion function it defines."""
    folder = desk / "bin"
    folder.mkdir()
    program = folder / "fte"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from fte.cli import main; main()" "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    script = """
    eval "$(fte --show-completion bash)"
    COMP_WORDS=(fte synth --voice ljs --style h); COMP_CWORD=5
    _fte_completion fte
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["happy"], done.stderr
