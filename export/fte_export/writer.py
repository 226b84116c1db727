"""Writes a voice bundle: graphs, weight files, manifest, all hashed and renamed into place at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

import fte
from fte.bundle import (
    ENGINE_ROLE,
    MANIFEST,
    FileEntry,
    FlowtronSizes,
    Manifest,
    Source,
    WaveglowSizes,
    roles_of,
    sha256_of,
)
from fte.text import SYMBOLS
from fte_export.checkpoint import Checkpoint
from fte_export.config import VoiceFormat
from fte_export.graphs.builder import NARROW, Precision, WeightFile
from fte_export.graphs.flowtron import encoder_graph, flow_arrays, flow_block_graph, flow_graph, posterior_graph
from fte_export.graphs.waveglow import vocoder_graph
from fte_export.graphs.waveglow_chunk import chunk_vocoder_graph

FP32_ONLY = {"encoder": ("int8",), "posterior": ("int8", "fp16", "bf16")}
"""Roles that run once per utterance or reference, and the precisions that share their fp32 graph: they gain nothing."""


@dataclass(frozen=True)
class Voice:
    """What a bundle is made of."""

    name: str
    flowtron: Checkpoint
    waveglow: Checkpoint | None
    speakers: tuple[str, ...]
    warning: str = ""
    format: VoiceFormat = field(default_factory=VoiceFormat)
    """How the voice hears and reads."""
    blocks: tuple[int, ...] = ()
    """Frames of the graphs that compute several frames at once (K); there are none in int8."""

    @property
    def flowtron_sizes(self) -> FlowtronSizes:
        assert isinstance(self.flowtron.sizes, FlowtronSizes)
        return self.flowtron.sizes

    @property
    def waveglow_sizes(self) -> WaveglowSizes | None:
        if self.waveglow is None:
            return None
        assert isinstance(self.waveglow.sizes, WaveglowSizes)
        return self.waveglow.sizes


def precision_of(role: str, precision: Precision) -> Precision:
    """The precision in which ``role`` is written when a bundle is asked for ``precision``."""
    return "fp32" if precision in FP32_ONLY.get(role, ()) else precision


def graph_file(role: str, precision: Precision) -> str:
    """File name of a graph."""
    return f"{role}.{precision_of(role, precision)}.onnx"


def write_graphs(voice: Voice, precisions: Sequence[Precision], folder: Path) -> Iterator[tuple[str, FileEntry]]:
    """Write every graph of the bundle into ``folder``; yield each file's name and entry as it is done."""
    models = ["encoder", "posterior", *(f"flow_{k}" for k in range(voice.flowtron_sizes.n_flows))]
    models += ["vocoder"] if voice.waveglow else []
    for model in models:
        for precision in dict.fromkeys(precision_of(model, p) for p in precisions):
            weights = WeightFile(f"{model}.{precision}.bin")
            for role, graph in _graphs(voice, model, precision, weights):
                path = folder / graph_file(role, precision)
                onnx.save(graph, path)
                yield path.name, file_entry(path, role, precision)
            yield weights.name, file_entry(weights.write(folder), f"weights_{model}", precision)


def _graphs(
    voice: Voice, model: str, precision: Precision, weights: WeightFile
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The graphs of one model, which share its weight file, by role."""
    arrays, sizes = voice.flowtron.arrays, voice.flowtron_sizes
    if model == "encoder":
        yield model, encoder_graph(arrays, sizes, weights, precision)
    elif model == "posterior":
        yield model, posterior_graph(arrays, sizes, weights)
    elif model == "vocoder":
        assert voice.waveglow is not None and voice.waveglow_sizes is not None
        make = chunk_vocoder_graph if precision in NARROW else vocoder_graph
        yield model, make(voice.waveglow.arrays, voice.waveglow_sizes, weights, precision)
    else:
        flow = int(model.removeprefix("flow_"))
        joined = flow_arrays(arrays, sizes, flow)
        for guided in (False, True):
            role = f"{model}_guided" if guided else model
            yield role, flow_graph(joined, sizes, flow, weights, precision, guided=guided)
            for frames in blocks_of(voice, precision):
                graph = flow_block_graph(joined, sizes, flow, frames, weights, precision, guided=guided)
                yield f"{role}_block_{frames}", graph


def blocks_of(voice: Voice, precision: Precision) -> tuple[int, ...]:
    """The block lengths that a voice has in a precision."""
    return () if precision == "int8" else voice.blocks


def graph_roles(voice: Voice, precision: Precision) -> list[str]:
    """The graphs that a voice has in a precision."""
    roles = roles_of(voice.flowtron_sizes, voice.waveglow_sizes)
    flows = [role for role in roles if role.startswith("flow_")]
    return roles + [f"{role}_block_{frames}" for role in flows for frames in blocks_of(voice, precision)]


def file_entry(path: Path, role: str, precision: Precision) -> FileEntry:
    """What the manifest says of a file that is written."""
    return FileEntry(role, precision, sha256_of(path), path.stat().st_size)


def make_manifest(voice: Voice, precisions: Sequence[Precision], files: dict[str, FileEntry]) -> Manifest:
    """The manifest of a bundle whose files are written."""
    sources = {"flowtron": Source(voice.flowtron.source_name, voice.flowtron.sha256)}
    if voice.waveglow:
        sources["waveglow"] = Source(voice.waveglow.source_name, voice.waveglow.sha256)
    audio = voice.format.audio
    if voice.waveglow_sizes:
        audio = replace(audio, hop=voice.waveglow_sizes.upsample_stride)
    return Manifest(
        name=voice.name,
        flowtron=voice.flowtron_sizes,
        waveglow=voice.waveglow_sizes,
        symbols=_symbols(voice.flowtron_sizes.n_text),
        speakers=voice.speakers,
        sources=sources,
        graphs={p: {role: graph_file(role, p) for role in graph_roles(voice, p)} for p in precisions},
        files=files,
        engine={entry.precision: name for name, entry in files.items() if entry.role == ENGINE_ROLE},
        audio=audio,
        text=voice.format.text,
        warning=voice.warning,
        exporter=f"fte {fte.__version__}",
    )


def _symbols(n_text: int) -> tuple[str, ...]:
    """The public symbols; a model with another number of them gets placeholders, and only takes ids."""
    return SYMBOLS if n_text == len(SYMBOLS) else tuple(f"id{i}" for i in range(n_text))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json` into ``folder``."""
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
