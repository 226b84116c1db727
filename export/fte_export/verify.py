"""Holds every exported graph against the torch definition of the same model, and says by how much they differ."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fte.backends import OnnxRuntimeBackend
from fte.backends.base import Array, Graph
from fte.bundle import FlowtronSizes
from fte_export.emulate import EmulatingBackend
from fte_export.flowtron import FlowState, Flowtron
from fte_export.graphs.builder import Precision
from fte_export.graphs.waveglow import TILE_FRAMES
from fte_export.waveglow import Waveglow
from fte_export.writer import Voice, blocks_of, graph_file, precision_of

_SYMBOLS = (11, 7, 4)
"""Lengths of the texts in the verified batch."""
_STEPS = 8
_TEMPERATURE = 0.8
_SEED = 20_260_101

FP32_ERROR = 1e-4
"""Largest difference of an fp32 graph, in units of the largest magnitude of what it should give (at least 1)."""
SNR_DB: Mapping[str, Mapping[str, float]] = {
    "int8": {"mel": 25.0, "next_state": 25.0, "audio": 30.0},
    "fp16": {"mel": 50.0, "next_state": 50.0, "audio": 40.0, "encoder": 50.0},
    "bf16": {"mel": 30.0, "next_state": 30.0, "audio": 30.0, "encoder": 30.0},
}
"""Smallest signal-to-noise ratio of a graph in less than fp32, over the frames and samples verified."""
PROBABILITY_ERROR: Mapping[str, float] = {"int8": 0.05, "fp16": 0.005, "bf16": 0.05}
"""Largest difference of an attention weight or gate probability of such a graph."""
BLOCK_ERROR: Mapping[str, float] = {"fp32": FP32_ERROR, "fp16": 1e-2, "bf16": 1e-1}
"""Largest difference between a block of frames and the same frames one by one, in units of the largest magnitude. Where
products are narrow a last bit of fp32 can move a value by one step, which the frames after it see."""


@dataclass(frozen=True)
class Parity:
    """How one output of one graph compares with torch."""

    graph: str
    output: str
    error: float
    """Largest absolute difference, in units of the largest expected magnitude (at least 1)."""
    snr_db: float
    """Signal-to-noise ratio in dB; infinite where nothing differs."""
    passed: bool
    demand: str
    """The tolerance in words."""


Load = Callable[[str, Precision], Graph]
"""(role, precision) -> its graph."""


def verify(
    voice: Voice, precisions: Sequence[Precision], folder: Path, backend: OnnxRuntimeBackend
) -> Iterator[Parity]:
    """Compare each graph in ``folder`` with torch on seeded inputs, batched and padded; yield one line an output.

    Graphs in fp16 and bf16 are emulated (`fte_export.emulate`), so that this needs no machine that computes in them.
    """

    emulating = EmulatingBackend(backend)

    def load(role: str, precision: Precision) -> Graph:
        return emulating.load(folder / graph_file(role, precision))

    flowtron = Flowtron(voice.flowtron)
    with torch.inference_mode():
        for precision in dict.fromkeys(precision_of("encoder", p) for p in precisions):
            yield from _verify_encoder(voice, flowtron, precision, load("encoder", precision))
        yield from _verify_posterior(voice, flowtron, load("posterior", "fp32"))
        for precision in precisions:
            for flow in range(voice.flowtron_sizes.n_flows):
                yield from _verify_flow(voice, flowtron, flow, precision, load)
            if voice.waveglow:
                yield from _verify_vocoder(voice, precision, load("vocoder", precision))


def _compare(graph: str, output: str, actual: Array, expected: Tensor, precision: str) -> Parity:
    """How ``actual`` compares with torch, by the demands of a precision."""
    error, snr = _difference(actual, expected.double().numpy())
    least = SNR_DB.get(precision, {}).get("encoder" if graph.startswith("encoder") else output)
    if least is not None:
        return Parity(graph, output, error, snr, bool(snr >= least), f"SNR at least {least:g} dB")
    most = PROBABILITY_ERROR.get(precision, FP32_ERROR)
    return Parity(graph, output, error, snr, bool(error <= most), f"error at most {most:g}")


def _difference(actual: Array, reference: Array) -> tuple[float, float]:
    """Largest difference in units of the largest magnitude (at least 1), and signal-to-noise ratio in dB."""
    difference = actual.astype(np.float64) - reference
    error = float(np.abs(difference).max() / max(1.0, np.abs(reference).max()))
    power, noise = float((reference**2).sum()), float((difference**2).sum())
    return error, float("inf") if noise == 0 else float(10 * np.log10(max(power, 1e-300) / noise))


def _text_inputs(voice: Voice) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(_SEED)
    sizes = voice.flowtron_sizes
    lengths = torch.tensor(_SYMBOLS)
    return {
        "text_ids": torch.randint(sizes.n_text, (len(lengths), max(_SYMBOLS)), generator=random),
        "text_lengths": lengths,
        "speaker_ids": torch.randint(sizes.n_speakers, (len(lengths),), generator=random),
    }


def _numpy(tensors: dict[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}


def _run(graph: Graph, inputs: dict[str, Tensor]) -> dict[str, Array]:
    return dict(zip(graph.output_names, graph.run(graph.output_names, _numpy(inputs)), strict=True))


def _valid(array: NDArray[np.float32], expected: Tensor, lengths: Sequence[int]) -> tuple[Array, Tensor]:
    """Both without their padding along axis 1, one utterance after the other."""
    rows = [(array[b, :n].ravel(), expected[b, :n].flatten()) for b, n in enumerate(lengths)]
    return np.concatenate([a for a, _ in rows]), torch.cat([e for _, e in rows])


def _verify_encoder(voice: Voice, flowtron: Flowtron, precision: Precision, graph: Graph) -> Iterator[Parity]:
    inputs = _text_inputs(voice)
    memory, _ = flowtron.encode(**inputs)
    outputs = _run(graph, inputs)
    name = "encoder" if precision == "fp32" else f"encoder {precision}"
    yield _compare(name, "memory", *_valid(outputs["memory"], memory, _SYMBOLS), precision)
    for flow in range(voice.flowtron_sizes.n_flows):
        projections = flowtron.projections(flow, memory)
        by_symbol = {"key": outputs[f"keys_{flow}"].transpose(0, 2, 1), "value": outputs[f"values_{flow}"]}
        for key, actual in by_symbol.items():
            yield _compare(name, f"{key}s_{flow}", *_valid(actual, projections[key], _SYMBOLS), precision)


def _verify_posterior(voice: Voice, flowtron: Flowtron, graph: Graph) -> Iterator[Parity]:
    random = torch.Generator().manual_seed(_SEED)
    inputs = _text_inputs(voice)
    frames = (12, 9, 5)
    inputs["mel"] = torch.randn(len(frames), max(frames), voice.flowtron_sizes.n_mels, generator=random)
    inputs["mel_lengths"] = torch.tensor(frames)
    inputs["prior"] = torch.rand(len(frames), max(frames), max(_SYMBOLS), generator=random)
    result = flowtron.posterior(**inputs, temperature=_TEMPERATURE)
    inputs["temperature"] = torch.full((len(frames), 1), _TEMPERATURE)
    if voice.flowtron_sizes.cumulative_attention:
        inputs["neighbour_mask"] = (torch.arange(max(_SYMBOLS)) < inputs["text_lengths"][:, None]).float()
    outputs = _run(graph, inputs)
    expected = {"z": result.z}
    for k, (log_s, attention) in enumerate(zip(result.log_s, result.attention, strict=True)):
        expected |= {f"log_s_{k}": log_s, f"attention_{k}": attention}
    if result.gate_logits is not None:
        expected["gate_logits"] = result.gate_logits
    for name, tensor in expected.items():
        yield _compare("posterior", name, *_valid(outputs[name], tensor, frames), "fp32")


def _verify_flow(voice: Voice, flowtron: Flowtron, flow: int, precision: Precision, load: Load) -> Iterator[Parity]:
    """Several frames on end, plain and guided, then blocks of frames beside the same frames one by one.

    The graph is given torch's state before each frame: a flow can be chaotic where its input is as random as here,
    and what is asked is how well the graph computes a frame, not where two runs part.
    """
    for guided in (False, True):
        role = f"flow_{flow}_guided" if guided else f"flow_{flow}"
        graph = load(role, precision)
        collected: dict[str, list[tuple[Array, Tensor]]] = {}
        for outputs, expected in _flow_steps(voice, flowtron, flow, graph, guided):
            for name, tensor in expected.items():
                collected.setdefault(name, []).append((outputs[name], tensor))
        for name, pairs in collected.items():
            actual = np.concatenate([a.ravel() for a, _ in pairs])
            tensor = torch.cat([e.flatten() for _, e in pairs])
            yield _compare(f"{role} {precision}", name, actual, tensor, precision)
        for frames in blocks_of(voice, precision):
            yield from _verify_block(voice, flowtron, flow, frames, guided, precision, load)


def _flow_steps(
    voice: Voice, flowtron: Flowtron, flow: int, graph: Graph, guided: bool
) -> Iterator[tuple[dict[str, Array], dict[str, Tensor]]]:
    """Yield what the graph and torch make of the same state, frame by frame."""
    random = torch.Generator().manual_seed(_SEED + flow)
    sizes = voice.flowtron_sizes
    memory, mask = flowtron.encode(**_text_inputs(voice))
    constant = _constant_inputs(flowtron, flow, memory, mask, sizes)
    state = flowtron.initial_state(*mask.shape)
    for _ in range(_STEPS):
        z = 0.5 * torch.randn(len(mask), sizes.n_mels, generator=random)
        guidance = _guidance(mask, random) if guided else {}
        inputs = {**constant, **_packed(state, sizes), "z": z}
        mel, attention, gate, state = flowtron.step(flow, z, state, memory, mask, temperature=_TEMPERATURE, **guidance)
        expected = {"mel": mel, "attention": attention} | ({} if gate is None else {"gate": gate})
        expected |= {f"next_{name}": tensor for name, tensor in _packed(state, sizes).items()}
        yield _run(graph, {**inputs, **guidance}), expected


def _constant_inputs(
    flowtron: Flowtron, flow: int, memory: Tensor, mask: Tensor, sizes: FlowtronSizes
) -> dict[str, Tensor]:
    """What a flow's graph reads of the text, the same for every frame."""
    weights = flowtron.projections(flow, memory)
    symbols_last = {"memory": memory} if sizes.cumulative_attention else {"keys": weights["key"]}
    return {
        "text_mask": mask.float(),
        "temperature": torch.full((len(mask), 1), _TEMPERATURE),
        "values": weights["value"],
        **{name: tensor.transpose(1, 2) for name, tensor in symbols_last.items()},
    }


def _guidance(mask: Tensor, random: torch.Generator) -> dict[str, Tensor]:
    """A prior and an attention (B, N), imposed on the first utterance alone."""
    imposed = torch.softmax(torch.randn(mask.shape, generator=random).masked_fill(~mask, -torch.inf), 1)
    is_imposed = (torch.arange(len(mask)) == 0)[:, None]
    return {"prior": torch.rand(mask.shape, generator=random), "imposed": imposed, "is_imposed": is_imposed}


def _verify_block(
    voice: Voice, flowtron: Flowtron, flow: int, frames: int, guided: bool, precision: Precision, load: Load
) -> Iterator[Parity]:
    """A block of frames beside the same frames one by one, in the same precision, with stops within the block."""
    random = torch.Generator().manual_seed(_SEED + flow)
    sizes = voice.flowtron_sizes
    memory, mask = flowtron.encode(**_text_inputs(voice))
    tensors = _constant_inputs(flowtron, flow, memory, mask, sizes)
    tensors |= _packed(flowtron.initial_state(*mask.shape), sizes)
    tensors["z"] = 0.5 * torch.randn(frames, len(mask), sizes.n_mels, generator=random)
    if guided:
        rows = [_guidance(mask, random) for _ in range(frames)]
        tensors |= {name: torch.stack([row[name] for row in rows]) for name in ("prior", "imposed")}
        tensors["is_imposed"] = rows[0]["is_imposed"]
    tensors["remaining"] = torch.tensor([[frames + 1], [frames], [frames // 2]], dtype=torch.int32)
    tensors["gate_threshold"] = torch.tensor([[2.0], [0.0], [2.0]])  # no gate is above 2, any is above 0
    role = f"flow_{flow}_guided" if guided else f"flow_{flow}"
    block = load(f"{role}_block_{frames}", precision)
    inputs = _numpy({name: tensor for name, tensor in tensors.items() if name in block.input_names})
    actual = dict(zip(block.output_names, block.run(block.output_names, inputs), strict=True))
    for name, expected in frame_by_frame(load(role, precision), inputs).items():
        error, snr = _difference(actual[name], expected)
        most = BLOCK_ERROR[precision]
        demand = f"error at most {most:g} beside single frames"
        yield Parity(f"{role}_block_{frames} {precision}", name, error, snr, bool(error <= most), demand)


def frame_by_frame(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a block should make of ``inputs``, by the graph of one frame and by the rule of where utterances end."""
    timed = {"z", "prior", "imposed"} & set(inputs)
    state = {name: inputs[name] for name in ("state", "alignment") if name in inputs}
    constant = {n: a for n, a in inputs.items() if n in graph.input_names and n not in timed | set(state)}
    remaining = inputs["remaining"]
    names = [name for name in ("mel", "attention", "gate") if name in graph.output_names]
    rows: dict[str, list[Array]] = {name: [] for name in names}
    for t in range(len(inputs["z"])):
        speaks = remaining[:, 0] > 0
        now = graph.run(
            [*names, *(f"next_{name}" for name in state)],
            {**constant, **state, **{name: inputs[name][t] for name in timed}},
        )
        for name, array in zip(names, now[: len(names)], strict=True):
            rows[name].append(np.where(_like(speaks, array), array, np.float32(0)))
        for (name, old), new in zip(list(state.items()), now[len(names) :], strict=True):
            state[name] = np.where(_like(speaks, new), new, old)
        remaining = np.maximum(remaining - 1, 0)
        if "gate" in names:
            remaining = np.where(now[names.index("gate")][:, None] > inputs["gate_threshold"], 0, remaining)
    return {
        **{name: np.stack(arrays) for name, arrays in rows.items()},
        **{f"next_{name}": array for name, array in state.items()},
        "next_remaining": remaining,
    }


def _like(rows: Array, array: Array) -> Array:
    """(B) with as many axes as ``array`` (B, ...)."""
    return rows.reshape(-1, *[1] * (array.ndim - 1))


def _packed(state: FlowState, sizes: FlowtronSizes) -> dict[str, Tensor]:
    """torch's state as the recurrent inputs of a flow's graph."""
    parts = [state.previous, *(tensor for pair in state.hidden for tensor in pair)]
    packed = {"state": torch.cat(parts, dim=1)}
    return packed | ({"alignment": state.alignment} if sizes.cumulative_attention else {})


def _verify_vocoder(voice: Voice, precision: Precision, graph: Graph) -> Iterator[Parity]:
    assert voice.waveglow is not None and voice.waveglow_sizes is not None
    sizes = voice.waveglow_sizes
    random = torch.Generator().manual_seed(_SEED)
    frames = TILE_FRAMES + 5  # two tiles, the second not full
    # a mel lies between silence (log 1e-5 = -11.5) and loud speech (about 1)
    mel = -5 + 2 * torch.randn(1, frames, sizes.n_mels, generator=random)
    groups = frames * sizes.upsample_stride // sizes.n_group
    noise = 0.6 * torch.randn(1, groups, sizes.n_group, generator=random)
    expected = Waveglow(voice.waveglow).infer(mel, noise)
    audio = _run(graph, {"mel": mel, "noise": noise})["audio"]
    yield _compare(f"vocoder {precision}", "audio", audio, expected, precision)
