"""The autoregressive loop: text and z to mel frames, for a batch whose utterances each have their own everything.

Legend: B utterances, N symbols, T frames, M mel channels, S recurrent state.

At inference the flows run from the last to the first. Flow k reads its frames forward in time when k is even, and
backward, each utterance from its own end, when k is odd. The first flow to run decides where an utterance ends: by its
gate, by its attention's arrival at the other end of the text, or at the ceiling. The last to run is always flow 0,
forward in time, so its frames come out in playing order.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import numpy as np

from fte import checks
from fte.backends.base import Array, Backend, Float32, Graph, Int64, check_finite
from fte.bundle import Bundle, FlowtronSizes
from fte.constants import LIMITS
from fte.errors import BundleError, OutOfMemoryError, RequestError

NEVER = 2.0
"""A gate threshold that no gate reaches."""
COLDEST, HOTTEST = 1e-3, 1e3
"""Bounds of the attention's temperature."""

Ended = Literal["gate", "attention", "ceiling", "given"]
"""What ended an utterance; "ceiling" means that all of z was decoded, "given" the same where attention was imposed."""
Booleans = np.ndarray[Any, np.dtype[np.bool_]]


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
    stop_with_attention: bool = False
    """Whether it also ends when the text has been read and no gate has ended it (`Arrival`)."""
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
    ended: Ended = "ceiling"


@dataclass(frozen=True)
class Frame:
    """One frame of the last flow, for those utterances of the batch that still speak."""

    index: int
    """Position in playing order."""
    rows: Int64
    """Which utterances: (b)."""
    mel: Float32
    """(b, M)."""
    attention: Float32
    """(b, N): of flow 0."""


class Decoder:
    """Runs a bundle's encoder and flow steps."""

    def __init__(self, bundle: Bundle, backend: Backend, precision: str) -> None:
        self.sizes: FlowtronSizes = bundle.manifest.flowtron
        self._bundle, self._backend, self._precision = bundle, backend, precision
        self.block_frames = backend.blocks(bundle, precision)
        """Frames of a flow that are decoded at once, or 0 for one at a time by a graph of its own."""
        self._graphs: dict[str, Graph] = {}
        self._loading = threading.Lock()

    def graph(self, role: str) -> Graph:
        """The graph of ``role``, loaded on first use: guided graphs take memory that few need."""
        with self._loading:
            if role not in self._graphs:
                graph = self._backend.open(self._bundle, self._precision, role)
                self._check_names(role, graph)
                self._graphs[role] = graph
            return self._graphs[role]

    def _check_names(self, role: str, graph: Graph) -> None:
        """Raise BundleError where a graph has other flows or another gate than the manifest says: it would speak."""
        sizes = self.sizes
        if role == "encoder":
            expected = {"memory", *(f"{name}_{k}" for k in range(sizes.n_flows) for name in ("keys", "values"))}
            given = set(graph.output_names)
            if sizes.cumulative_attention:  # then keys are computed from the memory, frame by frame
                expected, given = ({name for name in names if "keys" not in name} for names in (expected, given))
        else:
            expected = {"gate"} if sizes.has_gate and role.split("_")[1] == str(sizes.n_flows - 1) else set()
            given = {name for name in graph.output_names if name == "gate"}
        if given != expected:
            names = ", ".join(sorted(given ^ expected))
            raise BundleError(
                f"the {role} of {self._bundle.path} is not of the sizes in its manifest (they differ in {names}): "
                "export the voice again"
            )

    def load(self) -> None:
        """Load the graphs of plain decoding now, so that the first request does not wait for them."""
        for role in ["encoder", *(self.flow_role(k) for k in range(self.sizes.n_flows))]:
            self.graph(role)

    def flow_role(self, flow: int, *, guided: bool = False) -> str:
        """The role of the graph that decodes a flow here."""
        return f"flow_{flow}{'_guided' if guided else ''}{f'_block_{self.block_frames}' if self.block_frames else ''}"

    def encoder_output(self, utterances: Sequence[Utterance]) -> Float32:
        """Memory (B, N, text + speaker channels): the encoder's output with the speaker's vector at every symbol."""
        (memory,) = self.graph("encoder").run(["memory"], _encoder_inputs(utterances, 1))
        return memory

    def decode(self, utterances: Sequence[Utterance]) -> list[Decoded]:
        """Decode a batch to the end; where the device has no memory for it, one half after the other.

        Raises RequestError for an utterance the voice cannot take, and OutOfMemoryError where the halves do not fit.
        """
        try:
            return self.start(utterances).decoded()
        except OutOfMemoryError:
            half = (len(utterances) + 1) // 2
            if half == len(utterances):
                raise
            parts = utterances[:half], utterances[half:]
            return [decoded for part in parts for decoded in self.start(part).decoded()]

    def stream(self, utterances: Sequence[Utterance]) -> Iterator[Frame]:
        """Yield the frames of the batch in playing order as they are made; closing the generator stops the work."""
        return self.start(utterances).frames()

    def start(self, utterances: Sequence[Utterance]) -> "Decoding":
        """Encode a batch. Raises RequestError for an utterance the voice cannot take."""
        if not 1 <= len(utterances) <= LIMITS.batch:
            raise RequestError(f"the batch has {len(utterances)} utterances: give 1 to {LIMITS.batch}")
        for utterance in utterances:
            check_utterance(utterance, self.sizes)
        return Decoding(self, utterances, self._encode(utterances))

    def _encode(self, utterances: Sequence[Utterance]) -> dict[str, Array]:
        """What the flow steps read of a padded batch: the encoder's outputs, symbols last, and ``text_mask`` (B, N)."""
        inputs = _encoder_inputs(utterances, self._backend.symbol_multiple)
        graph = self.graph("encoder")
        names = [name for name in graph.output_names if name != "memory" or self.sizes.cumulative_attention]
        outputs = dict(zip(names, graph.run(names, inputs), strict=True))
        if self.sizes.cumulative_attention:
            outputs["memory"] = np.ascontiguousarray(outputs["memory"].transpose(0, 2, 1))
        mask = np.arange(inputs["text_ids"].shape[1]) < inputs["text_lengths"][:, None]
        return {"text_mask": mask.astype(np.float32), **outputs}


class Decoding:
    """A batch on its way from z to mel: first the flows that run before flow 0, then flow 0 frame by frame.

    Between the two, the lengths of the utterances are settled and not one frame has been given out.
    """

    def __init__(self, decoder: Decoder, utterances: Sequence[Utterance], encoded: dict[str, Array]) -> None:
        self._decoder, self._utterances, self._encoded = decoder, utterances, encoded
        self._jobs = [_Job(u.z, u.attention_prior, u.attention) for u in utterances]
        self._flows_left = list(range(decoder.sizes.n_flows))
        self._mel: list[Float32] = []
        self.attention: dict[int, list[Float32]] = {}
        """[flow k][utterance]: (T, N) in playing order, once the flow is done."""
        self.gate: list[Float32] | None = None
        """[utterance]: (T) in playing order, once the first flow is done; None without a gate."""
        self.ended: list[Ended] = []
        """[utterance], once the first flow is done."""

    def settle(self) -> Iterator[None]:
        """Run every flow but flow 0, or flow 0 where it is the only one: what comes before the first sound.

        Yields after each frame, so that the caller can stop.
        """
        while len(self._flows_left) > 1:
            flow = self._flows_left[-1]
            run = _FlowRun(self._decoder, flow, self._utterances, self._jobs, self._encoded)
            yield from (None for _ in run.steps())
            self._finish(run)
            self._jobs = [job.after(mel, flow) for job, mel in zip(self._jobs, self._mel, strict=True)]
        if self._decoder.sizes.n_flows == 1:
            yield from (None for _ in self.frames())

    def frames(self) -> Iterator[Frame]:
        """Run what is left; yield the frames of flow 0 in playing order as they are made, or again once it is done."""
        if not self._flows_left:
            yield from self._again()
            return
        if len(self._flows_left) > 1:
            for _ in self.settle():
                pass
        run = _FlowRun(self._decoder, 0, self._utterances, self._jobs, self._encoded)
        for index, (rows, mel, attention) in enumerate(run.steps()):
            yield Frame(index, rows, mel, attention)
        self._finish(run)

    def _again(self) -> Iterator[Frame]:
        lengths = np.array([len(mel) for mel in self._mel])
        symbols = max(len(u.text_ids) for u in self._utterances)
        for index in range(lengths.max()):
            rows = np.flatnonzero(index < lengths)
            attention = np.zeros((len(rows), symbols), np.float32)
            for i, row in enumerate(rows):
                weights = self.attention[0][row][index]
                attention[i, : len(weights)] = weights
            yield Frame(index, rows, np.stack([self._mel[row][index] for row in rows]), attention)

    def known_attention(self, utterance: int) -> tuple[Float32, ...]:
        """Attention (T, N) of the flows that are done, in the order of k."""
        return tuple(self.attention[k][utterance] for k in sorted(self.attention))

    def early_attention(self, utterance: int) -> tuple[Float32, ...]:
        """The same without flow 0."""
        return tuple(self.attention[k][utterance] for k in sorted(self.attention) if k > 0)

    def decoded(self) -> list[Decoded]:
        """Run what is left; everything of every utterance."""
        if self._flows_left:
            for _ in self.frames():
                pass
        return [
            Decoded(mel, self.known_attention(row), None if self.gate is None else self.gate[row], self.ended[row])
            for row, mel in enumerate(self._mel)
        ]

    def _finish(self, run: "_FlowRun") -> None:
        flow = self._flows_left.pop()
        self._mel, self.attention[flow], gate = run.results()
        if run.ends:
            self.gate, self.ended = gate, run.ended


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
        self.ends = flow == sizes.n_flows - 1
        """Whether this flow decides where the utterances end."""
        self._has_gate = sizes.has_gate and self.ends
        self._arrival = Arrival(utterances, backward=_is_backward(flow)) if self.ends else None
        self.ended: list[Ended] = ["ceiling" if u.attention is None else "given" for u in utterances]
        self._lengths = np.array([len(job.residual) for job in jobs])
        self._thresholds = np.array([u.gate_threshold for u in utterances], np.float32)  # as in a block's graph
        symbols = encoded["text_mask"].shape[1]
        guided = any(job.prior is not None or job.imposed is not None for job in jobs)
        self._graph = decoder.graph(decoder.flow_role(flow, guided=guided))
        self._block = decoder.block_frames
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
        """Utterances (b), and their outputs over some frames (k, b, ...)."""

    def _by_time(self, rows: Sequence[Float32], width: int = 0, fill: float = 0.0) -> Float32:
        """Sequences (T_b, W), padded and in this flow's order of frames: (T, B, W)."""
        width = width or rows[0].shape[1]
        padded = np.full((int(self._lengths.max()), len(rows), width), fill, np.float32)
        for b, row in enumerate(rows):
            padded[: len(row), b, : row.shape[1]] = row[self._order]
        return padded

    def steps(self) -> Iterator[tuple[Int64, Float32, Float32]]:
        """Advance a frame at a time; yield the utterances still speaking (b), their mel (b, M) and attention (b, N)."""
        symbols = max(len(u.text_ids) for u in self._utterances)
        for rows, mel, attention in self._in_blocks() if self._block else self._one_by_one():
            check_finite(mel, "the mel frames")
            yield rows, mel, attention[:, :symbols]

    def _one_by_one(self) -> Iterator[tuple[Int64, Float32, Float32]]:
        """An utterance that has ended leaves the batch: its rows are taken out of every input."""
        rows = np.arange(len(self._utterances))
        outputs = self._frame_outputs()
        next_names = [f"next_{name}" for name in self._recurrent]
        step = 0
        while len(rows):
            timed = {name: array[step] for name, array in self._timed.items()}
            results = self._graph.run(outputs + next_names, {**timed, **self._constant, **self._recurrent})
            self._recurrent = dict(zip(self._recurrent, results[len(outputs) :], strict=True))
            results = results[: len(outputs)]
            self._history.append((rows, [array[None] for array in results]))
            yield rows, results[0], results[1]
            step += 1
            going = self._going(rows, step, results)
            if not going.all():
                rows = self._keep(rows, going)

    def _in_blocks(self) -> Iterator[tuple[Int64, Float32, Float32]]:
        """The graph stops utterances by itself, so each block is on its way before the gates of the last are read."""
        rows = np.arange(len(self._utterances))
        limits = {"remaining": self._lengths[:, None].astype(np.int32)}
        if self._has_gate:
            limits["gate_threshold"] = self._thresholds[:, None].astype(np.float32)
        loop = self._graph.loop(self._block, {**self._constant, **self._recurrent, **limits}, self._timed)
        try:
            loop.launch()
            launched = self._block
            step = 0
            while len(rows):
                if launched < self._lengths.max():
                    loop.launch()
                    launched += self._block
                found = loop.collect()
                block = [found[name] for name in self._frame_outputs()]
                whole = self._all_go_on(rows, step, block)
                size = self._block if whole else 1
                for start in range(0, self._block, size):
                    frames = [array[start : start + size].take(rows, axis=1) for array in block]  # copies
                    self._history.append((rows, frames))
                    yield from zip(repeat(rows, size), frames[0], frames[1], strict=True)
                    step += size
                    if not whole:
                        rows = rows[self._going(rows, step, [array[0] for array in frames])]
                    if not len(rows):
                        break
        finally:
            loop.close()

    def _frame_outputs(self) -> list[str]:
        return ["mel", "attention", *(["gate"] if self._has_gate else [])]

    def _all_go_on(self, rows: Int64, step: int, block: Sequence[Array]) -> bool:
        """Whether all of ``rows`` surely speak on after a block of frames (K, B, ...) that begins at ``step``."""
        if step + self._block >= self._lengths[rows].min():
            return False
        if self._arrival is None:
            return True
        return not (self._arrival.is_asked or (self._has_gate and (block[2][:, rows] > self._thresholds[rows]).any()))

    def _going(self, rows: Int64, step: int, results: Sequence[Array]) -> Booleans:
        """Which of ``rows`` go on after the frame before ``step``; the lengths of the others are settled."""
        going: Booleans = step < self._lengths[rows]
        if self._arrival is not None:
            going &= ~self._has_ended(rows, results[1], results[2] if self._has_gate else None)
        self._lengths[rows[~going]] = step
        return going

    def _has_ended(self, rows: Int64, attention: Float32, gate: Float32 | None) -> Booleans:
        """Which of ``rows`` end with this frame, by their gate or else by their attention; `ended` notes it."""
        assert self._arrival is not None
        arrived = self._arrival.step(rows, attention)
        gated = np.zeros(len(rows), bool) if gate is None else gate > self._thresholds[rows]
        for row, by_gate in zip(rows[arrived | gated], gated[arrived | gated], strict=True):
            self.ended[row] = "gate" if by_gate else "attention"
        return arrived | gated

    def _keep(self, rows: Int64, going: Booleans) -> Int64:
        for inputs in (self._constant, self._recurrent):
            inputs.update({name: array[going] for name, array in inputs.items()})
        self._timed = {name: array[:, going] for name, array in self._timed.items()}
        kept: Int64 = rows[going]
        return kept

    def results(self) -> tuple[list[Float32], list[Float32], list[Float32] | None]:
        """Of every utterance in playing order: mel (T, M), attention (T, N), and gate (T) where this flow has one."""
        mel, attention, *gate = (self._by_utterance(i) for i in range(3 if self._has_gate else 2))
        texts = [len(u.text_ids) for u in self._utterances]
        return mel, [rows[:, :n] for rows, n in zip(attention, texts, strict=True)], gate[0] if gate else None

    def _by_utterance(self, output: int) -> list[Float32]:
        """One output of all steps, for each utterance over its own frames (T, ...) in playing order."""
        found = [np.empty((n, *self._history[0][1][output].shape[2:]), np.float32) for n in self._lengths]
        step = 0
        for rows, results in self._history:
            frames = results[output]
            for i, row in enumerate(rows):
                found[row][step : step + len(frames)] = frames[:, i]
            step += len(frames)
        return [array[self._order] for array in found]


class Arrival:
    """Tells, frame by frame, which utterances have been read: the stop where there is no gate, or where it stays shut.

    A text is read when the highest weight has been on at least half of its symbols and then stays on the last two (the
    first two, in a backward flow) for three frames: a single frame that looks ahead does not count, nor does an
    attention that never moves. Of two or three symbols only the very last (first) is the end: else a text such as "A."
    would be read before its letter was reached. The utterance goes on for an eighth of a second, to let the last sound
    fade.
    """

    EDGE_SYMBOLS = 2
    SETTLED_FRAMES = 3
    FADING_FRAMES = 10
    READ_PART = 0.5

    def __init__(self, utterances: Sequence[Utterance], *, backward: bool) -> None:
        self._asked = np.array([u.stop_with_attention for u in utterances])
        self.is_asked = bool(self._asked.any())
        """Whether any utterance ends by its attention."""
        self._symbols = np.array([len(u.text_ids) for u in utterances])
        self._edge_symbols = np.clip(self._symbols // 2, 1, self.EDGE_SYMBOLS)
        self._backward = backward
        self._seen = np.zeros((len(utterances), int(self._symbols.max())), bool)
        self._at_edge = np.zeros(len(utterances), int)
        self._since = np.zeros(len(utterances), int)

    def step(self, rows: Int64, attention: Float32) -> Booleans:
        """Take the weights (b, N) of one frame of the utterances ``rows`` (b); say which of them end with it."""
        if not self.is_asked:
            return np.zeros(len(rows), bool)
        place = attention.argmax(axis=1)
        self._seen[rows, place] = True
        symbols = self._symbols[rows]
        read = self._seen[rows].sum(axis=1) >= self.READ_PART * symbols
        edge_symbols = self._edge_symbols[rows]
        edge = place < edge_symbols if self._backward else place >= symbols - edge_symbols
        self._at_edge[rows] = np.where(read & edge, self._at_edge[rows] + 1, 0)
        arrived = (self._since[rows] > 0) | (self._at_edge[rows] >= self.SETTLED_FRAMES)
        self._since[rows] += arrived
        ends: Booleans = self._asked[rows] & (self._since[rows] > self.FADING_FRAMES)
        return ends


def _initial_state(sizes: FlowtronSizes, batch: int, symbols: int) -> dict[str, Float32]:
    """The recurrent inputs of a flow step before its first frame: all zeros."""
    width = 2 * (1 + sizes.n_lstm_layers) * sizes.n_hidden + sizes.n_mels
    state = {"state": np.zeros((batch, width), np.float32)}
    if sizes.cumulative_attention:
        state["alignment"] = np.zeros((batch, 2, symbols), np.float32)
    return state


def _encoder_inputs(utterances: Sequence[Utterance], multiple: int) -> dict[str, Array]:
    """text_ids (B, N) padded to a multiple of symbols, text_lengths (B), speaker_ids (B)."""
    lengths = np.array([len(u.text_ids) for u in utterances], np.int64)
    ids = np.zeros((len(utterances), -(-lengths.max() // multiple) * multiple), np.int64)
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
    checks.magnitude(z, "z", LIMITS.latent)
    if not 0 <= utterance.speaker < sizes.n_speakers:
        raise RequestError(f"speaker {utterance.speaker} is unknown: this voice has 0 to {sizes.n_speakers - 1}")
    checks.number(utterance.temperature, "temperature", COLDEST, HOTTEST)
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
