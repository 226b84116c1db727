"""Fixtures shared by all tests."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fte.backends import OnnxRuntimeBackend
from fte.bundle import Bundle
from fte.style.library import STYLES
from fte.style.style import Style, save_style
from fte.synthesizer import Synthesizer
from fte_export.checkpoint import read_flowtron, read_waveglow
from fte_export.pipeline import write_voice
from fte_export.random_voice import TINY_FLOWTRON, random_flowtron, tiny_voice
from fte_export.writer import Voice
from styles import style_of

GOLDEN = Path(__file__).parent / "data" / "golden"
"""What the public implementations compute; see the README there."""


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """A function that gives the arrays of ``tests/data/golden/{name}.npz`` by name."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def backend() -> OnnxRuntimeBackend:
    """ONNX Runtime on the CPU."""
    return OnnxRuntimeBackend("cpu")


@pytest.fixture(scope="session")
def golden_bundle(tmp_path_factory: pytest.TempPathFactory, golden) -> Callable[[str], Bundle]:
    """A function that exports the golden Flowtron ``name`` (with no vocoder) in fp32 and int8, once."""
    made: dict[str, Bundle] = {}

    def export(name: str) -> Bundle:
        if name not in made:
            config = json.loads(str(golden(name)["config"]))
            flowtron = read_flowtron(GOLDEN / f"{name}.pt", config=config)
            path = tmp_path_factory.mktemp("golden") / name
            write_voice(Voice(name, flowtron, None, ("anna", "bert", "carla")), path)
            made[name] = Bundle.open(path)
        return made[name]

    return export


@pytest.fixture(scope="session")
def waveglow_bundle(tmp_path_factory: pytest.TempPathFactory, golden) -> Callable[[str], Bundle]:
    """A function that exports the golden WaveGlow ``name`` beside a tiny random Flowtron of as many mel channels."""
    made: dict[str, Bundle] = {}

    def export(name: str) -> Bundle:
        if name not in made:
            config = json.loads(str(golden(name)["config"]))
            waveglow = read_waveglow(GOLDEN / f"{name}.pt", config=config)
            flowtron = random_flowtron(dataclasses.replace(TINY_FLOWTRON, n_mels=waveglow.sizes.n_mels))
            path = tmp_path_factory.mktemp("golden") / name
            write_voice(Voice(name, flowtron, waveglow, ("anna", "bert", "carla")), path)
            made[name] = Bundle.open(path)
        return made[name]

    return export


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny voice's bundle."""
    path = tmp_path_factory.mktemp("voices") / "tiny"
    write_voice(tiny_voice(), path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Synthesizer:
    """The tiny voice in fp32 on the CPU."""
    return Synthesizer.load(tiny_path, device="cpu", precision="fp32")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run small graphs on one thread: several wait for each other, for seconds where other programs run as well."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_styles(tiny: Synthesizer) -> Iterator[dict[str, Style]]:
    """Two styles in the folder of the tiny voice."""
    folder = tiny.bundle.path / STYLES
    folder.mkdir()
    styles = {"happy": style_of(tiny), "sad": style_of(tiny, "sad", mean=np.full(80, -0.3, np.float32))}
    for name, style in styles.items():
        save_style(folder / f"{name}.safetensors", style)
    yield styles
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
