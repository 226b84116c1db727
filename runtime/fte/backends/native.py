"""The native engine: C++ kernels of our own for Flowtron and WaveGlow on a CPU, read from the bundle's engine weights.

It computes what the graphs of the same roles compute, with the same names and shapes, in one process and on one team of
threads. A flow always runs in blocks of frames, its state kept by the engine. Shapes: B utterances, N symbols, T or K
frames, M mel channels, A attention channels.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fte.backends.base import Array, Graph, Loop, Usage
from fte.bundle import Bundle, FlowtronSizes
from fte.errors import BackendError, BundleError, import_fault

if TYPE_CHECKING:
    from fte import _native

BLOCK_FRAMES = 8
"""Frames of a block: a tenth of a second of sound, which two CPU cores decode in some ten milliseconds."""
_FLOW = re.compile(r"flow_([0-9]+)(_guided)?(_block_[0-9]+)?")


class NativeBackend:
    """Runs a bundle's models with the native engine.

    threads: of the team that does the work; None takes every core the process may use. instructions: of the CPU
    ("AVX-512 VNNI", "AVX2", "portable"), by default the best it has.
    Raises BackendError where the engine was not built.
    """

    device = "cpu"
    symbol_multiple = 1
    exact_in_company = True

    def __init__(self, threads: int | None = None, instructions: str = "") -> None:
        self._library = import_native()
        most = self._library.most_threads
        if threads is not None and not 1 <= threads <= most:
            raise BackendError(f"threads is {threads}: choose a number from 1 to {most}")
        self.threads = threads or min(len(os.sched_getaffinity(0)), most)
        self._instructions = instructions
        self._engines: dict[tuple[str, str], _native.Engine] = {}

    @property
    def description(self) -> str:
        instructions = self._instructions or self._library.instructions()
        return f"native engine on cpu, {instructions}, {self.threads} threads"

    def usage(self) -> Usage | None:
        return None

    def blocks(self, bundle: Bundle, precision: str) -> int:
        return BLOCK_FRAMES

    def check(self, bundle: Bundle, precision: str) -> None:
        bundle.engine_file(precision)

    def open(self, bundle: Bundle, precision: str, role: str) -> Graph:
        if role == "posterior":
            raise BackendError("the native engine does not extract styles: choose backend 'onnxruntime' for that")
        if role == "vocoder" and bundle.manifest.waveglow is None:
            raise BundleError(f"{bundle.path} has no vocoder: it was exported without it")
        engine = self._engine(bundle, precision)
        sizes = bundle.manifest.flowtron
        if role == "encoder":
            return _Encoder(engine, sizes)
        if role == "vocoder":
            return _Vocoder(engine)
        flow = _FLOW.fullmatch(role)
        if flow is None or int(flow[1]) >= sizes.n_flows:
            raise BundleError(f"{bundle.path} has no {role}: it was exported without it")
        return _Flow(self._library, engine, sizes, int(flow[1]))

    def _engine(self, bundle: Bundle, precision: str) -> "_native.Engine":
        key = str(bundle.path), precision
        if key not in self._engines:
            bundle.engine_file(precision)  # checks its hash
            self._engines[key] = _call(
                self._library.Engine, str(bundle.path), precision, self.threads, self._instructions
            )
        return self._engines[key]


class _Encoder:
    """text_ids, text_lengths, speaker_ids -> memory (B, N, D); of each flow keys (B, A, N) and values (B, N, A)."""

    def __init__(self, engine: "_native.Engine", sizes: FlowtronSizes) -> None:
        self._engine, self._sizes = engine, sizes
        self.input_names = ["text_ids", "text_lengths", "speaker_ids"]
        self.output_names = ["memory", *(f"{name}_{k}" for k in range(sizes.n_flows) for name in ("keys", "values"))]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        ids, sizes = inputs["text_ids"], self._sizes
        memory = np.zeros((*ids.shape, sizes.n_text_dim + sizes.n_speaker_dim), np.float32)
        found = {name: np.zeros((*ids.shape, sizes.n_attention), np.float32) for name in outputs if name != "memory"}
        for b, length in enumerate(inputs["text_lengths"]):
            rows = memory[b, :length]
            _call(self._engine.encode, np.ascontiguousarray(ids[b, :length]), int(inputs["speaker_ids"][b]), rows)
            for name, out in found.items():
                kind, flow = name.split("_")
                _call(self._engine.project, int(flow), kind == "keys", rows, out[b, :length])
        found["memory"] = memory
        return [found[name].transpose(0, 2, 1) if name.startswith("keys") else found[name] for name in outputs]

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        raise BackendError("the encoder is no graph of frames")


class _Vocoder:
    """mel (B, T, M) and noise (B, G, group) -> audio (B, samples)."""

    input_names = ("mel", "noise")
    output_names = ("audio",)

    def __init__(self, engine: "_native.Engine") -> None:
        self._engine = engine

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        mel, noise = (np.ascontiguousarray(inputs[name], np.float32) for name in ("mel", "noise"))
        audio = np.empty((len(mel), noise.shape[1] * noise.shape[2]), np.float32)
        for b in range(len(mel)):
            _call(self._engine.vocode, mel[b], noise[b], audio[b])
        return [audio for _ in outputs]

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        raise BackendError("the vocoder is no graph of frames")


class _Flow:
    """A flow, plain or guided: what it is given decides."""

    def __init__(self, library: Any, engine: "_native.Engine", sizes: FlowtronSizes, flow: int) -> None:
        self._library, self._engine, self._sizes, self._flow = library, engine, sizes, flow
        self.has_gate = sizes.has_gate and flow == sizes.n_flows - 1
        self.input_names = ["z", "keys", "values", "temperature", "remaining"]
        self.output_names = ["mel", "attention", *(["gate"] if self.has_gate else [])]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        raise BackendError("the native engine runs a flow in blocks of frames, as a loop")

    def loop(self, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> Loop:
        parts = range(0, len(inputs["values"]), self._library.most_batch)
        return _FlowLoop([self._part(slice(i, i + self._library.most_batch), frames, inputs, timed) for i in parts])

    def _part(self, rows: slice, frames: int, inputs: Mapping[str, Array], timed: Mapping[str, Array]) -> "_PartOfLoop":
        """A loop over some utterances, as many as the engine decodes at once at most."""

        def given(name: str, kind: type = np.float32) -> Array | None:
            return np.ascontiguousarray(inputs[name][rows], kind) if name in inputs else None

        keys, memory, threshold = inputs.get("keys"), inputs.get("memory"), given("gate_threshold")
        remaining = np.ascontiguousarray(inputs["remaining"][rows, 0], np.int32)
        flow = _call(
            self._library.Flow,
            self._engine,
            self._flow,
            keys=None if keys is None else np.ascontiguousarray(keys[rows].transpose(0, 2, 1)),
            values=given("values"),
            memory=None if memory is None else np.ascontiguousarray(memory[rows].transpose(0, 2, 1)),
            texts=np.ascontiguousarray(inputs["text_mask"][rows].sum(axis=1), np.int32),
            frames=remaining,
            temperatures=np.ascontiguousarray(inputs["temperature"][rows, 0]),
            thresholds=np.full(len(remaining), np.inf, np.float32) if threshold is None else threshold[:, 0].copy(),
            imposed=None if "is_imposed" not in inputs else given("is_imposed", np.uint8)[:, 0].copy(),  # type: ignore[index]
        )
        return _PartOfLoop(flow, frames, {name: array[:, rows] for name, array in timed.items()}, inputs, self.has_gate)


class _PartOfLoop:
    """A flow over at most as many utterances as the engine decodes at once."""

    def __init__(
        self, flow: "_native.Flow", frames: int, timed: Mapping[str, Array], inputs: Mapping[str, Array], gate: bool
    ) -> None:
        self._flow, self._frames, self._timed, self._gate = flow, frames, timed, gate
        self._symbols = inputs["values"].shape[1]
        self._start = 0

    def next(self) -> dict[str, Array]:
        """The next frames; past the last of ``timed`` they are zeros."""
        k = self._frames
        now = {name: _filled(array[self._start : self._start + k], k) for name, array in self._timed.items()}
        self._start += k
        batch, mels = now["z"].shape[1:]
        found = {
            "mel": np.empty((k, batch, mels), np.float32),
            "attention": np.empty((k, batch, self._symbols), np.float32),
        }
        if self._gate:
            found["gate"] = np.empty((k, batch), np.float32)
        _call(
            self._flow.run,
            now["z"],
            now.get("prior"),
            now.get("imposed"),
            found["mel"],
            found["attention"],
            found.get("gate"),
        )
        return found


def _filled(rows: Array, count: int) -> Array:
    """rows (k, ...) as a contiguous (count, ...), zeros at the end."""
    if len(rows) == count:
        return np.ascontiguousarray(rows)
    filled = np.zeros((count, *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    return filled


class _FlowLoop:
    """Blocks are computed when they are collected: there is no device to work meanwhile."""

    def __init__(self, parts: list[_PartOfLoop]) -> None:
        self._parts = parts

    def launch(self) -> None:
        """Nothing: a block is computed when it is collected."""

    def collect(self) -> Mapping[str, Array]:
        parts = [part.next() for part in self._parts]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}

    def close(self) -> None:
        self._parts = []


def import_native() -> Any:
    """The engine's module. Raises BackendError where it was not built."""
    try:
        import fte._native as _native
    except ImportError as error:
        missing = (
            "the native engine is not part of this installation: install flowtron-fte where a C++17 compiler (GCC or "
            "Clang) is found and FTE_ENGINE is not OFF"
        )
        raise BackendError(import_fault(error, ["fte._native"], missing)) from error
    return _native


def _call(function: Any, *arguments: Any, **named: Any) -> Any:
    """Call the engine; its faults as ours."""
    try:
        return function(*arguments, **named)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise BackendError(f"the native engine failed: {error}") from error
