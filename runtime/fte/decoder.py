"""The autoregressive loop: text and z to mel frames, for a batch whose utterances each have their own everything.

Legend: B utterances, N symbols, T frames, M mel channels, S recurrent state.

At inference the flows run from the last to the first. Flow k reads its frames forward in time when k is even, and
backward, each utterance from its own end, when k is odd. The first flow to run may have a gate that ends an utterance;
the last to run is always flow 0, forward in time, so its frames come out in playing order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fte.backends.base import Array, Backend, Float32, Graph, Int64
from fte.bundle import Bundle, FlowtronSizes
from fte.constants import LIMITS
from fte.errors import RequestError

NEVER = 2.0
"""A gate threshold that no gate reaches."""


@dataclass(frozen=True)
class Utterance:
    """One utterance to decode; `check_utterance` holds it against a voice."""

    text_ids: Int64
    """(N)."""
    z: Float32
    """(T, M) in playing order; T is the ceiling where a gate may stop earlier."""
    speaker: int = 0
    gate_threshold: float = 0.5
    """The utterance ends at the first frame whose gate exceeds it; above 1 never."""
    temperature: float = 1.0
    """Divides the attention's scores."""
    attention: tuple[Float32, ...] | None = None
    """Attention imposed on each flow k instead of the computed: (T, N) in playing order."""
    attention_prior: Float32 | None = None
    """(T, N) in playing order."""


@dataclass(frozen=True)
class Decoded:
    """What decoding one utterance gives; everything in playing order."""

    mel: Float32
    """(T, M) log magnitudes."""
    attention: tuple[Float32, ...]
    """Of each flow k: (T, N)."""
    gate: Float32 | None
    """(T) probability that the utterance ends here in the order of the flow that has the gate, or None without one."""


@dataclass(frozen=True)
class Frame:
    """One frame of the last flow, for those utterances of the batch that still speak."""

    index: int
    """Position in playing order."""
    rows: Int64
    """Which utterances: (b)."""
    mel: Float32
    """(b, M)."""


@dataclass
class Traces:
    """Mel, attention and gate of each utterance, filled while frames are drawn from `Decoder.stream`."""

    mel: list[Float32] = field(default_factory=list)
    """[utterance]: (T, M) in playing order."""
    attention: list[list[Float32]] = field(default_factory=list)
    """[flow k][utterance]: (T, N) in playing order."""
    gate: list[Float32] | None = None


class Decoder:
    """Runs a bundle's encoder and flow steps."""

    def __init__(self, bundle: Bundle, backend: Backend, precision: str) -> None:
        self.sizes: FlowtronSizes = bundle.manifest.flowtron
        self._bundle, self._backend, self._precision = bundle, backend, precision
        self._graphs: dict[str, Graph] = {}

    def graph(self, role: str) -> Graph:
        """The graph of ``role``, loaded on first use: guided graphs take memory that few need."""
        if role not in self._graphs:
            self._graphs[role] = self._backend.load(self._bundle.graph(self._precision, role))
        return self._graphs[role]

    def load(self) -> None:
        """Load the graphs of plain decoding now, so that the first request does not wait for them."""
        for role in ["encoder", *(f"flow_{k}" for k in range(self.sizes.n_flows))]:
            self.graph(role)

    def encoder_output(self, utterances: Sequence[Utterance]) -> Float32:
        """Memory (B, N, text + speaker channels): the encoder's output with the speaker's vector at every symbol."""
        (memory,) = self.graph("encoder").run(["memory"], _encoder_inputs(utterances))
        return memory

    def decode(self, utterances: Sequence[Utterance]) -> list[Decoded]:
        """Decode a batch to the end. Raises RequestError for an utterance the voice cannot take."""
        traces = Traces()
        for _ in self.stream(utterances, traces):
            pass
        return [
            Decoded(
                traces.mel[row],
                tuple(flow[row] for flow in traces.attention),
                None if traces.gate is None else traces.gate[row],
            )
            for row in range(len(utterances))
        ]

    def stream(self, utterances: Sequence[Utterance], traces: Traces | None = None) -> Iterator[Frame]:
        """Yield the frames of the batch in playing order as they are made; closing the generator stops the work.

        ``traces``, when given, is filled with mel, attention and gate: complete when the generator is exhausted.
        """
        if not 1 <= len(utterances) <= LIMITS.batch:
            raise RequestError(f"the batch has {len(utterances)} utterances: give 1 to {LIMITS.batch}")
        for utterance in utterances:
            check_utterance(utterance, self.sizes)
        encoded = self._encode(utterances)
        jobs = [_Job(u.z, u.attention_prior, u.attention) for u in utterances]
        traces = traces if traces is not None else Traces()
        traces.attention = [[] for _ in range(self.sizes.n_flows)]
        for k in reversed(range(1, self.sizes.n_flows)):
            run = _FlowRun(self, k, utterances, jobs, encoded)
            for _ in run.steps():
                pass
            jobs = [job.after(mel, k) for job, mel in zip(jobs, run.finish(traces), strict=True)]
        run = _FlowRun(self, 0, utterances, jobs, encoded)
        for index, (rows, mel) in enumerate(run.steps()):
            yield Frame(index, rows, mel)
        traces.mel = run.finish(traces)

    def _encode(self, utterances: Sequence[Utterance]) -> dict[str, Array]:
        """What the flow steps read of a padded batch: the encoder's outputs, symbols last, and ``text_mask`` (B, N)."""
        inputs = _encoder_inputs(utterances)
        graph = self.graph("encoder")
        names = [name for name in graph.output_names if name != "memory" or self.sizes.cumulative_attention]
        outputs = dict(zip(names, graph.run(names, inputs), strict=True))
        if self.sizes.cumulative_attention:
            outputs["memory"] = np.ascontiguousarray(outputs["memory"].transpose(0, 2, 1))
        mask = np.arange(inputs["text_ids"].shape[1]) < inputs["text_lengths"][:, None]
        return {"text_mask": mask.astype(np.float32), **outputs}


@dataclass(frozen=True)
class _Job:
    """What a flow reads of one utterance, in playing order; all rows belong to the same frames."""

    residual: Float32
    """(T, M): z, then the output of the flow before."""
    prior: Float32 | None
    """(T, N)."""
    imposed: tuple[Float32, ...] | None
    """Of every flow (T, N)."""

    def after(self, mel: Float32, flow: int) -> "_Job":
        """The job for the next flow, once ``flow`` gave mel (T', M).

        A gate may have made T' smaller than T: the frames kept are the last ones if the flow ran backward.
        """
        keep = slice(len(self.residual) - len(mel), None) if _is_backward(flow) else slice(len(mel))
        prior = None if self.prior is None else self.prior[keep]
        imposed = None if self.imposed is None else tuple(rows[keep] for rows in self.imposed)
        return _Job(mel, prior, imposed)


def _is_backward(flow: int) -> bool:
    return flow % 2 == 1


class _FlowRun:
    """One flow over one batch: the state that lives from its first frame to its last."""

    def __init__(
        self,
        decoder: Decoder,
        flow: int,
        utterances: Sequence[Utterance],
        jobs: Sequence[_Job],
        encoded: dict[str, Array],
    ) -> None:
        sizes = decoder.sizes
        self._flow, self._utterances = flow, utterances
        self._order = slice(None, None, -1) if _is_backward(flow) else slice(None)
        self._has_gate = sizes.has_gate and flow == sizes.n_flows - 1
        self._lengths = np.array([len(job.residual) for job in jobs])
        self._thresholds = np.array([u.gate_threshold for u in utterances])
        symbols = encoded["text_mask"].shape[1]
        guided = any(job.prior is not None or job.imposed is not None for job in jobs)
        self._graph = decoder.graph(f"flow_{flow}_guided" if guided else f"flow_{flow}")
        self._timed = {"z": self._by_time([job.residual for job in jobs])}
        self._constant = {
            "text_mask": encoded["text_mask"],
            "temperature": np.array([[u.temperature] for u in utterances], np.float32),
            "values": encoded[f"values_{flow}"],
        }
        if guided:
            nothing = np.ones((0, symbols), np.float32)
            self._timed["prior"] = self._by_time([nothing if j.prior is None else j.prior for j in jobs], symbols, 1.0)
            imposed = [nothing if j.imposed is None else j.imposed[flow] for j in jobs]
            self._timed["imposed"] = self._by_time(imposed, symbols)
            self._constant["is_imposed"] = np.array([[job.imposed is not None] for job in jobs])
        if sizes.cumulative_attention:
            self._constant["memory"] = encoded["memory"]
        else:
            self._constant["keys"] = encoded[f"keys_{flow}"]
        self._recurrent = _initial_state(sizes, len(jobs), symbols)
        self._history: list[tuple[Int64, list[Array]]] = []

    def _by_time(self, rows: Sequence[Float32], width: int = 0, fill: float = 0.0) -> Float32:
        """Sequences (T_b, W), padded and in this flow's order of frames: (T, B, W)."""
        width = width or rows[0].shape[1]
        padded = np.full((int(self._lengths.max()), len(rows), width), fill, np.float32)
        for b, row in enumerate(rows):
            padded[: len(row), b, : row.shape[1]] = row[self._order]
        return padded

    def steps(self) -> Iterator[tuple[Int64, Float32]]:
        """Advance a frame at a time; yield the utterances still speaking (b) and their mel frames (b, M).

        An utterance that has ended leaves the batch: its rows are taken out of every input.
        """
        rows = np.arange(len(self._utterances))
        outputs = ["mel", "attention", *(["gate"] if self._has_gate else [])]
        next_names = [f"next_{name}" for name in self._recurrent]
        step = 0
        while len(rows):
            timed = {name: array[step] for name, array in self._timed.items()}
            results = self._graph.run(outputs + next_names, {**timed, **self._constant, **self._recurrent})
            self._recurrent = dict(zip(self._recurrent, results[len(outputs) :], strict=True))
            results = results[: len(outputs)]
            self._history.append((rows, results))
            yield rows, results[0]
            step += 1
            going = step < self._lengths[rows]
            if self._has_gate:
                going &= ~(results[2] > self._thresholds[rows])
            if not going.all():
                self._lengths[rows[~going]] = step
                rows = self._keep(rows, going)

    def _keep(self, rows: Int64, going: "np.ndarray[Any, np.dtype[np.bool_]]") -> Int64:
        for inputs in (self._constant, self._recurrent):
            inputs.update({name: array[going] for name, array in inputs.items()})
        self._timed = {name: array[:, going] for name, array in self._timed.items()}
        kept: Int64 = rows[going]
        return kept

    def finish(self, traces: Traces) -> list[Float32]:
        """Give attention and gate to ``traces``; return the mel of every utterance (T, M) in playing order."""
        mel, attention, *gate = (self._by_utterance(i) for i in range(3 if self._has_gate else 2))
        texts = [len(u.text_ids) for u in self._utterances]
        traces.attention[self._flow] = [rows[:, :n] for rows, n in zip(attention, texts, strict=True)]
        if gate:
            traces.gate = gate[0]
        return mel

    def _by_utterance(self, output: int) -> list[Float32]:
        """One output of all steps, for each utterance over its own frames (T, ...) in playing order."""
        found = [np.empty((n, *self._history[0][1][output].shape[1:]), np.float32) for n in self._lengths]
        for step, (rows, results) in enumerate(self._history):
            for i, row in enumerate(rows):
                found[row][step] = results[output][i]
        return [array[self._order] for array in found]


def _initial_state(sizes: FlowtronSizes, batch: int, symbols: int) -> dict[str, Float32]:
    """The recurrent inputs of a flow step before its first frame: all zeros."""
    width = 2 * (1 + sizes.n_lstm_layers) * sizes.n_hidden + sizes.n_mels
    state = {"state": np.zeros((batch, width), np.float32)}
    if sizes.cumulative_attention:
        state["alignment"] = np.zeros((batch, 2, symbols), np.float32)
    return state


def _encoder_inputs(utterances: Sequence[Utterance]) -> dict[str, Array]:
    """Padded text_ids (B, N), text_lengths (B), speaker_ids (B)."""
    lengths = np.array([len(u.text_ids) for u in utterances], np.int64)
    ids = np.zeros((len(utterances), lengths.max()), np.int64)
    for b, utterance in enumerate(utterances):
        ids[b, : lengths[b]] = utterance.text_ids
    return {
        "text_ids": ids,
        "text_lengths": lengths,
        "speaker_ids": np.array([u.speaker for u in utterances], np.int64),
    }


def check_utterance(utterance: Utterance, sizes: FlowtronSizes) -> None:
    """Raise RequestError, naming the dimension, when ``utterance`` does not fit the voice or the limits."""
    ids, z = utterance.text_ids, utterance.z
    if ids.ndim != 1 or not 1 <= len(ids) <= LIMITS.symbols:
        raise RequestError(f"text_ids has shape {ids.shape}: give between 1 and {LIMITS.symbols} symbols (N)")
    if ids.min() < 0 or ids.max() >= sizes.n_text:
        raise RequestError(f"text_ids has ids from {ids.min()} to {ids.max()}: this voice has 0 to {sizes.n_text - 1}")
    if z.ndim != 2 or z.shape[1] != sizes.n_mels or not 1 <= len(z) <= LIMITS.frames:
        raise RequestError(f"z has shape {z.shape}: give (T, {sizes.n_mels}) with T from 1 to {LIMITS.frames} frames")
    if not np.isfinite(z).all():
        raise RequestError("z has values that are not finite: give finite numbers")
    if not 0 <= utterance.speaker < sizes.n_speakers:
        raise RequestError(f"speaker {utterance.speaker} is unknown: this voice has 0 to {sizes.n_speakers - 1}")
    if not (utterance.temperature > 0 and np.isfinite(utterance.temperature)):
        raise RequestError(f"temperature is {utterance.temperature}: give a number above 0")
    if not utterance.gate_threshold >= 0:
        raise RequestError(f"gate_threshold is {utterance.gate_threshold}: give a number of at least 0")
    expected = (len(z), len(ids))
    if utterance.attention_prior is not None:
        _check_weights(utterance.attention_prior, expected, "attention_prior")
    if utterance.attention is not None:
        if len(utterance.attention) != sizes.n_flows:
            raise RequestError(f"attention is given for {len(utterance.attention)} flows: give {sizes.n_flows}")
        for k, weights in enumerate(utterance.attention):
            _check_weights(weights, expected, f"attention of flow {k}")


def _check_weights(weights: Float32, expected: tuple[int, int], name: str) -> None:
    if weights.shape != expected:
        raise RequestError(f"{name} has shape {weights.shape}: give (T, N) = {expected}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise RequestError(f"{name} has values that are negative or not finite: give weights of at least 0")
