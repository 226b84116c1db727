"""A fuzzer of the readers of checkpoints: valid files of every published form, changed where their structure matters.

    python tests/fuzz_checkpoints.py --seconds 600 [--seed 1] [--keep FOLDER]
    python tests/fuzz_checkpoints.py --count 400 --seed 7

A sample is a file of torch's zip container, its older one or safetensors in which opcodes of the pickle, their
arguments, its memo and frames, headers of the archive, the JSON or the numbers have been changed, doubled a thousand
times or exchanged. It must be read, or refused with a CheckpointError of one line, within SECONDS of CPU time and
MEMORY beyond what the process held; what is read must be finite. Every sample follows from the seed and its number. The
last line is a report in JSON; the exit status is 1 when something was found, and `--keep` then keeps the files.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import pickletools
import random
import re
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte.constants import LIMITS
from fte.errors import CheckpointError
from fte_export.checkpoint import Checkpoint, read_flowtron, read_tensors, read_waveglow
from fte_export.random_voice import random_flowtron, random_waveglow
from public_format import public_flowtron_name

SECONDS = 5.0
"""CPU time within which a sample is judged."""
MEMORY = 512 << 20
"""Address space that judging a sample may add, bytes."""
_MOST_BYTES = 4 << 20
"""Size to which repetition may blow a sample up."""
_FLOWTRON = FlowtronSizes(2, 2, 5, 4, 2, 3, 4, 4, 2, has_gate=True, cumulative_attention=True, dummy_speaker=False)
_WAVEGLOW = WaveglowSizes(2, 3, 4, 2, 2, 2, 2, 3, upsample_kernel=1024, upsample_stride=256)

State = dict[str, torch.Tensor]


# Valid files.


def _flowtron_state() -> State:
    arrays = random_flowtron(_FLOWTRON).arrays
    return {public_flowtron_name(key): torch.from_numpy(np.array(array)) for key, array in arrays.items()}


def _waveglow_state() -> State:
    """With weight norm, and 1x1 matrices of three axes, as published."""
    state: State = {}
    for key, array in random_waveglow(_WAVEGLOW).arrays.items():
        if "convinv" in key:
            state[key.replace(".weight", ".conv.weight")] = torch.from_numpy(array[:, :, None].copy())
        elif key.startswith("WN.") and key.endswith(".weight") and ".end." not in key:
            state[f"{key}_v"] = torch.from_numpy(np.array(array))
            state[f"{key}_g"] = torch.from_numpy(np.sqrt(np.sum(array**2, axis=(1, 2), keepdims=True)))
        else:
            state[key] = torch.from_numpy(np.array(array))
    return state


def _module(state: State) -> torch.nn.Module:
    """Modules within modules, with the tensors as parameters."""
    root = torch.nn.Module()
    for key, tensor in state.items():
        *path, leaf = key.split(".")
        module = root
        for name in path:
            if name not in module._modules:
                module.add_module(name, torch.nn.Module())
            module = module.get_submodule(name)
        module.register_parameter(leaf, torch.nn.Parameter(tensor))
    return root


def adam_state(parameters: Iterable[torch.Tensor]) -> dict[str, Any]:
    """The state dictionary of torch's Adam after a step, without importing what its optimizers do."""
    state = {
        i: {"step": torch.tensor(1.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for i, p in enumerate(parameters)
    }
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "params": list(state)}
    return {"state": state, "param_groups": [group]}


def _saved(value: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@dataclass(frozen=True)
class Form:
    """A valid file, and the reader that takes it."""

    name: str
    data: bytes
    read: Callable[[Path], Checkpoint]


def valid_forms() -> list[Form]:
    """Small checkpoints in every published form."""
    forms = []
    legacy = {"_use_new_zipfile_serialization": False}
    for model, state, read in (
        ("flowtron", _flowtron_state(), read_flowtron),
        ("waveglow", _waveglow_state(), read_waveglow),
    ):
        module = torch.nn.DataParallel(_module(state))
        optimizer = adam_state(module.parameters())
        training = {"model": module, "iteration": 7, "optimizer": optimizer, "learning_rate": 1e-4}
        half = {key: tensor.half() for key, tensor in state.items()}
        forms += [
            Form(f"{model}, state, zip", _saved({"state_dict": state, "iteration": 3}), read),
            Form(f"{model}, state, zip, protocol 4", _saved({"model_state_dict": half}, pickle_protocol=4), read),
            Form(f"{model}, state, legacy", _saved(half, **legacy), read),
            Form(f"{model}, module, zip", _saved(training), read),
            Form(f"{model}, module, legacy, protocol 5", _saved({"model": module}, pickle_protocol=5, **legacy), read),
            Form(f"{model}, safetensors", save({k: v.numpy() for k, v in half.items()}, {"format": "pt"}), read),
        ]
    return forms


# What is changed in a pickle.

_NAMES = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._tensor _rebuild_from_type_v2",
    "torch FloatStorage",
    "torch LongStorage",
    "torch.nn.modules.module Module",
    "torch Size",
    "builtins set",
    "os system",
    "copyreg _reconstructor",
    "m N",
)
_INTEGERS = (0, 1, 2, 3, 7, 255, 65535, (1 << 31) - 1, -1, -(1 << 31), 1 << 47, 1 << 48, 1 << 63, -(1 << 63), 1 << 200)
_TEXTS = ("", "a", "storage", "module", "_modules", "_parameters", "_buffers", "state_dict", "0", "weight", "x" * 3000,
          "\U0001f600" * 400, "\x00\n", "flows.0.conv.weight", "convinv.0.conv.weight", "model", "cpu")  # fmt: skip


def _integer(value: int) -> bytes:
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _any_opcode(chance: random.Random) -> bytes:
    """An opcode with arguments: any that exists, or one of those that readers understand."""
    kind = chance.randrange(6)
    if kind == 0:
        return _integer(chance.choice(_INTEGERS))
    if kind == 1:
        return _text(chance.choice(_TEXTS))
    if kind == 2:
        return b"c" + chance.choice(_NAMES).replace(" ", "\n").encode() + b"\n"
    if kind == 3:
        return chance.choice((b"h", b"q")) + bytes([chance.randrange(256)])
    if kind == 4:
        frame = struct.pack("<Q", chance.choice((0, 5, 1 << 20, 1 << 62)))
        return chance.choice((b"\x95" + frame, b"\x80\x05", b"\x94"))
    code = chance.choice(pickletools.opcodes)
    return code.code.encode("latin-1") + chance.randbytes(chance.choice((0, 0, 1, 4, 8)))


def _changed_argument(opcode: bytes, chance: random.Random) -> bytes:
    """Another argument of the same kind."""
    if opcode[:1] in b"KMJI\x8a":
        return _integer(chance.choice(_INTEGERS))
    if opcode[:1] in b"X\x8c":
        return _text(chance.choice(_TEXTS))
    if opcode[:1] in b"hq":
        return opcode[:1] + bytes([chance.randrange(256)])
    if opcode[:1] == b"c":
        return b"c" + chance.choice(_NAMES).replace(" ", "\n").encode() + b"\n"
    return _noise(opcode, chance)


def _noise(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _opcodes(pickled: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(places, [*places[1:], len(pickled)], strict=True)]


def _span(count: int, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(count)
    return start, min(count, start + int(2 ** chance.uniform(0, 6)))


def _known(opcodes: Sequence[bytes]) -> list[bytes]:
    """Opcodes that get what these have put into the memo."""
    count = sum(opcode[:1] in (b"q", b"\x94") for opcode in opcodes)
    return [b"h" + bytes([index]) for index in range(min(count, 256))] or [b"N"]


def _value(known: Sequence[bytes], chance: random.Random, depth: int = 0) -> bytes:
    """Opcodes that leave one value on the stack."""
    kind = chance.randrange(10 if depth < 3 else 6)
    if kind < 3:
        return chance.choice(known)
    if kind < 6:
        return chance.choice((_text(chance.choice(_TEXTS)), _integer(chance.choice(_INTEGERS)), b"N", b"}", b")"))
    inner = b"".join(_value(known, chance, depth + 1) for _ in range(chance.randint(0, 3)))
    if kind < 8:
        return b"(" + inner + chance.choice((b"t", b"l"))
    if kind == 8:
        return b"}" + _text(chance.choice(_TEXTS)) + _value(known, chance, depth + 1) + b"s"
    return _call(known, chance, depth + 1)


def _call(known: Sequence[bytes], chance: random.Random, depth: int = 0) -> bytes:
    """Opcodes that call a name or a known object, and perhaps give the result a state or items."""
    maker = b"c" + chance.choice(_NAMES[:-3] + _NAMES[-2:]).replace(" ", "\n").encode() + b"\n"
    many = int(2 ** chance.uniform(0, 10)) if depth == 0 else 1
    arguments = b"(" + b"".join(_value(known, chance, depth + 1) for _ in range(chance.randint(0, 4))) * many + b"t"
    called = chance.choice((maker, chance.choice(known))) + chance.choice((arguments, chance.choice(known))) + b"R"
    state = chance.choice((b"", b"", _value(known, chance, depth + 1) + b"b", b"(NNu"))
    return called + state


def _idiom(opcodes: Sequence[bytes], chance: random.Random) -> list[bytes]:
    """A call whose result is dropped, again and again: the pickle still makes sense around it."""
    known = _known(opcodes)
    drop = chance.choice((b"r" + struct.pack("<I", 1 << 20) + b"0", b"0"))
    return _repeated([chance.choice((_call, _value))(known, chance), drop], chance)


def changed_pickle(pickled: bytes, chance: random.Random) -> bytes:
    """The pickle after one to four changes to its opcodes."""
    opcodes = _opcodes(pickled)
    for _ in range(chance.randint(1, 4)):
        start, stop = _span(len(opcodes), chance)
        action = chance.random()
        if action < 0.4:
            opcodes[start:start] = _idiom(opcodes[:start], chance)
        elif action < 0.45:
            del opcodes[start:stop]
        elif action < 0.5:
            opcodes[start:start] = [_any_opcode(chance) for _ in range(chance.randint(1, 4))]
        elif action < 0.75:
            opcodes[start] = _changed_argument(opcodes[start], chance)
        elif action < 0.8:
            other = chance.randrange(len(opcodes))
            opcodes[other:other] = opcodes[start:stop]
        elif action < 0.85:
            other = chance.randrange(len(opcodes))
            opcodes[start], opcodes[other] = opcodes[other], opcodes[start]
        elif action < 0.95:
            opcodes[start:stop] = _repeated(opcodes[start:stop], chance)
        else:
            opcodes[start] = _noise(opcodes[start], chance)
        if not opcodes:
            return b""
    return b"".join(opcodes)


def _repeated(part: list[bytes], chance: random.Random) -> list[bytes]:
    """Again and again: mostly a few times, seldom as often as fills `_MOST_BYTES`."""
    most = _MOST_BYTES // max(1, sum(map(len, part)))
    return part * int(max(1, most) ** (chance.random() ** 4))


# What is changed in a container.


def changed_zip(data: bytes, chance: random.Random) -> bytes:
    """A zip whose pickle, storages or headers have been changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    action = chance.random()
    pickled = next(name for name in entries if name.endswith("/data.pkl"))
    if action < 0.65:
        entries[pickled] = changed_pickle(entries[pickled], chance)
    elif action < 0.8:
        name = chance.choice(list(entries))
        entries[name] = changed_numbers(entries[name], chance)
    elif action < 0.85:
        del entries[chance.choice(list(entries))]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", chance.choice((zipfile.ZIP_STORED,) * 30 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, contents in entries.items():
            archive.writestr(name, contents)
    return stream.getvalue() if action < 0.85 else _changed_headers(stream.getvalue(), chance)


def _changed_headers(data: bytes, chance: random.Random) -> bytes:
    """Fields of the directory, of local headers or of the end's record, set to edges or to each other's values."""
    changed = bytearray(data)
    marks = [b"PK\x01\x02"] * 4 + [b"PK\x03\x04", b"PK\x05\x06"]
    for _ in range(chance.randint(1, 3)):
        mark = chance.choice(marks)
        places = [found.start() for found in re.finditer(re.escape(mark), data[:-46])]
        if not places:
            continue
        field_at = chance.choice(places) + chance.choice(range(4, 46, 2))
        width = chance.choice((2, 4))
        other = chance.choice(places) + chance.choice(range(4, 46, 2))
        edge = chance.choice((0, 1, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF, len(data)))
        new = data[other : other + width] if chance.random() < 0.5 else struct.pack("<I", edge & 0xFFFFFFFF)[:width]
        changed[field_at : field_at + width] = new
    if chance.random() < 0.3:
        start = chance.randrange(len(changed))
        changed[start:start] = changed[start : start + chance.choice((1, 46, 200))]
    return bytes(changed)


def changed_legacy(data: bytes, chance: random.Random) -> bytes:
    """torch's older container with one of its five pickles, or its storages, changed."""
    stream, parts = io.BytesIO(data), []
    for _ in range(5):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        parts.append(data[start : stream.tell()])
    storages = data[stream.tell() :]
    if chance.random() < 0.8:
        which = chance.choice((3, 3, 3, 3, 4, 4, 2, 1, 0))
        parts[which] = changed_pickle(parts[which], chance)
    else:
        storages = changed_numbers(storages, chance)
    return b"".join(parts) + storages


def changed_numbers(data: bytes, chance: random.Random) -> bytes:
    """Numbers that are not finite, too large or any; or an end that is missing."""
    if chance.random() < 0.2 or len(data) < 4:
        return data[: chance.randrange(len(data) + 1)]
    edges = (struct.pack("<f", value) for value in (float("nan"), float("inf"), 1e30))
    patterns = (*edges, b"\xff\xff\xff\xff", chance.randbytes(4))
    place = 4 * chance.randrange(len(data) // 4)
    count = int(2 ** chance.uniform(0, 8))
    new = (chance.choice(patterns) * count)[: len(data) - place]
    return data[:place] + new + data[place + len(new) :]


_JSON_EDGES = (0, 1, -1, 1.5, 1e308, 1 << 47, 1 << 48, 1 << 64, None, True, "", "F32", "I64", "BOOL", "F8_E4M3", [], {},
               [0, 1 << 47, 1 << 47], [2, 2], "x" * 2000)  # fmt: skip


def changed_safetensors(data: bytes, chance: random.Random) -> bytes:
    """safetensors whose JSON, length or numbers have been changed."""
    length = int.from_bytes(data[:8], "little")
    text, numbers = data[8 : 8 + length], data[8 + length :]
    action = chance.random()
    if action < 0.5:
        header = json.loads(text)
        for _ in range(chance.randint(1, 3)):
            entry = header[chance.choice([name for name in header if name != "__metadata__"])]
            key = chance.choice(list(entry) or ["shape"])
            if isinstance(entry[key], list) and entry[key] and chance.random() < 0.6:
                entry[key][chance.randrange(len(entry[key]))] = chance.choice(_JSON_EDGES)
            else:
                entry[key] = chance.choice(_JSON_EDGES)
        text = json.dumps(header).encode()
    elif action < 0.65:
        pieces = text.split(b",")
        start, stop = _span(len(pieces), chance)
        pieces[start:stop] = _repeated(pieces[start:stop], chance)
        text = b",".join(pieces)
    elif action < 0.8:
        text = _noise(text, chance)
    else:
        numbers = changed_numbers(numbers, chance)
    claimed = len(text) if chance.random() < 0.95 else chance.choice((0, 1, len(text) + 1, 1 << 23, 1 << 62))
    return struct.pack("<Q", claimed) + text + numbers


def sample(forms: Sequence[Form], seed: int, number: int) -> tuple[Form, bytes]:
    """The sample of that number."""
    chance = random.Random(f"{seed} {number}")
    form = chance.choice(forms)
    if "safetensors" in form.name:
        return form, changed_safetensors(form.data, chance)
    return form, (changed_legacy if "legacy" in form.name else changed_zip)(form.data, chance)


# Judging.


@dataclass
class Report:
    """What became of the samples."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """CPU seconds of one reading."""
    largest: int = 0
    """Bytes of the largest sample."""

    def as_json(self, seed: int, seconds: float) -> str:
        return json.dumps(
            {
                "seed": seed,
                "readings": sum(self.outcomes.values()),
                "seconds": round(seconds, 1),
                "slowest_cpu_seconds": round(self.slowest, 3),
                "largest_bytes": self.largest,
                "outcomes": dict(self.outcomes.most_common()),
                "findings": self.findings[:20],
            }
        )


def judge(read: Callable[[Path], object], path: Path) -> tuple[str, str]:
    """What became of a reading (the beginning of a refusal without what differs), and what is wrong with that."""
    try:
        found = read(path)
    except CheckpointError as error:
        said = str(error).removeprefix(f"{path} ")
        wrong = "" if "\n" not in said and said.isprintable() else f"an error of several lines or signs: {said!r:.200}"
        return " ".join(re.sub(r"\d+|'[^']*'", "_", said).split()[:4]), wrong
    except Exception as error:  # anything else is what is looked for
        return "found", f"{type(error).__name__}: {error!s:.300}"
    if isinstance(found, Checkpoint):
        for name, array in found.arrays.items():
            if array.dtype != np.float32 or not (np.abs(array) <= LIMITS.weight).all():
                return "found", f"{name} was read and is {array.dtype} or out of range"
    return "read", ""


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """Whatever needs more than MEMORY meets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    before = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fuzz(seed: int, count: int | None, seconds: float | None, keep: Path | None) -> Report:
    """Judge samples up to a count or a time."""
    forms, report, start, number = valid_forms(), Report(), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder, _bounded_memory(), warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's would be printed
        path = Path(folder) / "sample"
        for form in forms:
            path.write_bytes(form.data)
            assert judge(form.read, path) == ("read", ""), f"{form.name} is not read: {judge(form.read, path)}"
        while (count is None or number < count) and (seconds is None or time.monotonic() - start < seconds):
            form, data = sample(forms, seed, number)
            path.write_bytes(data)
            report.largest = max(report.largest, len(data))
            for read in (form.read, read_tensors):
                faulthandler.dump_traceback_later(120, exit=True)
                begun = time.process_time()
                outcome, wrong = judge(read, path)
                spent = time.process_time() - begun
                faulthandler.cancel_dump_traceback_later()
                report.slowest = max(report.slowest, spent)
                report.outcomes[outcome] += 1
                if wrong or spent > SECONDS:
                    report.findings.append(f"sample {number} of {form.name}, {spent:.1f} s: {wrong or 'too slow'}")
                    if keep is not None:
                        (keep / f"seed_{seed}_sample_{number}").write_bytes(data)
            number += 1
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of checkpoints.")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an existing folder for samples that break a reader")
    options = parser.parse_args()
    if options.seconds is None and options.count is None:
        parser.error("give --seconds or --count")
    start = time.monotonic()
    report = fuzz(options.seed, options.count, options.seconds, options.keep)
    print(report.as_json(options.seed, time.monotonic() - start))
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
