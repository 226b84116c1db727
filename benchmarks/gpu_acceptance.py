"""Everything that needs a GPU, in one command: its tests, parity, and the bench beside PyTorch, as one JSON document.

    python benchmarks/gpu_acceptance.py --out benchmarks/results/gpu_acceptance.json

Takes what is installed: of torch, onnxruntime-gpu, tensorrt or tensorrt-rtx, cuda-bindings or pycuda, and says what it
left out and why. Without --voice it writes a bundle of random weights of the published size, which needs onnx. No part
stops the others. The last line printed is the document; the exit status is 1 where a demand was measured and not met,
and 2 where nothing could be measured.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fte import Synthesizer, noise
from fte.backends import BACKENDS
from fte.backends.cuda import Device
from fte.bench import BenchOptions, Rival, run_bench
from fte.bench.ceiling import work_of
from fte.bench.rivals import measure_rival_batches, measure_rival_vocoder
from fte.decoder import NEVER, Utterance
from fte.errors import BackendError, FteError
from fte.files import atomic_file

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13"),
    *("cuda-bindings", "pycuda", "numpy", "flowtron-fte"),
)
MEL_ERROR = 2e-2
"""Largest difference of fp16 mel from fp32 that is asked for, over `PARITY_FRAMES`."""
AUDIO_SNR_DB = 30.0
"""Asked of fp16 audio against fp32 audio of the same mel."""
PARITY_FRAMES = 400
SPEEDUP = 10.0
"""How many times faster than PyTorch eager decoding is asked to be, at batch 1 and 8."""

Part = dict[str, Any]


def main() -> int:
    """Run every part that can be run here."""
    options = arguments()
    document: dict[str, Any] = {
        "schema": "fte-gpu-acceptance",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(prefix="fte-") as folder:
        parts: dict[str, Callable[[], Part]] = {
            "tests": gpu_tests,
            "voice": lambda: make_voice(options, Path(folder)),
            "engines": lambda: build_engines(Path(document["voice"]["path"])),
            "parity": lambda: parity(Path(document["voice"]["path"])),
            "bench": lambda: bench(Path(document["voice"]["path"]), options),
        }
        for name, part in parts.items():
            started = time.perf_counter()
            print(f"{name} ...", flush=True)
            document[name] = attempted(part) | {"seconds": round(time.perf_counter() - started, 1)}
            print(f"{name}: {json.dumps(document[name])[:300]}", flush=True)
    document["demands"] = list(demands(document))
    text = json.dumps(document, indent=1, allow_nan=False)
    if options.out is not None:
        with atomic_file(options.out) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(document, allow_nan=False))
    if not document["demands"]:
        return 2
    return 0 if all(demand["met"] for demand in document["demands"]) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the JSON document goes")
    parser.add_argument("--voice", type=Path, help="a bundle with fp32 and fp16; one of random weights by default")
    parser.add_argument("--tiny", action="store_true", help="the tiny voice's sizes, to try this script")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions of each batch")
    return parser.parse_args()


def attempted(part: Callable[[], Part]) -> Part:
    """What a part gives, or why it gave nothing."""
    try:
        return part()
    except KeyError as error:
        return {"skipped": f"the part before it gave no {error}"}
    except (FteError, ImportError) as error:
        return {"skipped": str(error)}
    except Exception as error:  # a driver raises anything; the other parts go on
        return {"failed": f"{type(error).__name__}: {error}"[:1000]}


def machine() -> Part:
    """GPU, driver and the versions of what is installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        with Device() as device:
            gpu: Part = {
                "name": device.name,
                "compute_capability": ".".join(map(str, device.compute_capability)),
                "cuda_of_driver": ".".join(map(str, device.driver_version)),
                "memory_gb": round(device.memory()[1] / 1e9, 1),
            }
    except BackendError as error:
        gpu = {"skipped": str(error)}
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        gpu["nvidia_smi"] = done.stdout.strip().splitlines()[:1]
    except OSError:
        gpu["nvidia_smi"] = []
    return {"gpu": gpu, "python": sys.version.split()[0], "packages": versions}


def gpu_tests() -> Part:
    """The tests that are marked gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-rs", str(ROOT / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=480, check=False)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"status": done.returncode, "closing_line": lines[-1], "failed": failed[:50]}


def make_voice(options: argparse.Namespace, folder: Path) -> Part:
    """The bundle that is measured."""
    if options.voice is not None:
        return {"path": str(options.voice), "weights": "given"}
    from fte_export.pipeline import BLOCKS, write_voice
    from fte_export.random_voice import PUBLISHED_FLOWTRON, PUBLISHED_WAVEGLOW, random_voice, tiny_voice

    voice = tiny_voice() if options.tiny else random_voice("published", PUBLISHED_FLOWTRON, PUBLISHED_WAVEGLOW)
    write_voice(dataclasses.replace(voice, blocks=BLOCKS), folder / voice.name, ("fp32", "fp16", "bf16"))
    return {"path": str(folder / voice.name), "weights": f"random, sizes of {voice.name}"}


def build_engines(path: Path) -> Part:
    """Build the TensorRT engines of the voice for this GPU, guided ones included."""
    from fte.backends.engines import EngineStore
    from fte.backends.trt_library import find_library
    from fte.bundle import Bundle
    from fte_export.to_tensorrt import BuildOptions, build_engines

    library = find_library()
    built = build_engines(Bundle.open(path), BuildOptions(guided=True), library, EngineStore(), lambda *_: None)
    return {"library": library.description, "built": {b.graph: round(b.seconds, 1) for b, _ in built}}


def synthesizers(path: Path, precision: str) -> Iterator[tuple[str, Synthesizer | str]]:
    """The voice through each backend on the GPU, or the reason why not."""
    for name in BACKENDS[1:]:
        try:
            yield name, Synthesizer.load(path, "cuda", precision, backend=name)
        except BackendError as error:
            yield name, str(error)


def parity(path: Path) -> Part:
    """fp16 and bf16 on the GPU, and fp32 there, against fp32 on the CPU: mel of the same z, audio of the same mel."""
    reference = Synthesizer.load(path, "cpu", "fp32")
    asked = [utterance(reference, i) for i in range(8)]
    expected = reference.decoder.decode(asked)
    mel = expected[0].mel[:200]
    audio = reference.vocode(mel, chunk=len(mel)) if reference.has_vocoder else None
    found: Part = {}
    for precision in ("fp32", "fp16", "bf16"):
        for name, voice in synthesizers(path, precision):
            key = f"{name} {precision}"
            if isinstance(voice, str):
                found[key] = {"skipped": voice}
                continue
            found[key] = attempted(lambda voice=voice: compared(voice, asked, expected, mel, audio))
    return found


def compared(voice: Synthesizer, asked: list[Utterance], expected: list[Any], mel: Any, audio: Any) -> Part:
    """Errors of one backend in one precision, alone and in a batch of eight."""
    result: Part = {}
    for name, batch in (("alone", asked[:1]), ("batch of 8", asked)):
        decoded = voice.decoder.decode(batch)
        errors = [float(np.abs(d.mel - e.mel).max()) for d, e in zip(decoded, expected, strict=False)]
        result[f"mel error, {name}"] = max(errors)
        result[f"finite, {name}"] = bool(all(np.isfinite(d.mel).all() for d in decoded))
    if audio is not None:
        difference = voice.vocode(mel, chunk=len(mel)) - audio
        noise_power = float(np.square(difference).sum())
        result["audio snr db"] = round(10 * float(np.log10(np.square(audio).sum() / max(noise_power, 1e-30))), 1)
    return result


def utterance(voice: Synthesizer, index: int) -> Utterance:
    """Random symbols and z of `PARITY_FRAMES` frames, whose gate is not obeyed."""
    sizes = voice.manifest.flowtron
    random = np.random.Generator(np.random.Philox(index))
    z = 0.5 * noise.normal((PARITY_FRAMES, sizes.n_mels), seed=index, request=0, stream="prior")
    return Utterance(random.integers(0, sizes.n_text, 60 + 5 * index), z.astype(np.float32), gate_threshold=NEVER)


def bench(path: Path, options: argparse.Namespace) -> Part:
    """`fte bench` at batch 1 to 8 for each backend in fp16, beside PyTorch in fp32 and fp16, eager and captured."""
    voices, skipped = [], {}
    for name, voice in synthesizers(path, "fp16"):
        if isinstance(voice, str):
            skipped[name] = voice
        else:
            voices.append(voice)
    reference = Synthesizer.load(path, "cpu", "fp32")
    rivals = list(torch_rivals(reference, skipped))
    asked = BenchOptions(batch=8, frames=PARITY_FRAMES, repeats=options.repeats, streams=(1, 4))
    if not voices:
        rows = [rivals_alone(rival, reference, asked) for rival in rivals]
        return {"skipped": f"no backend runs on the GPU here: {json.dumps(skipped)}", "backends": rows}
    first, *others = voices
    return run_bench(first, asked, print, others=others, rivals=rivals, skipped=skipped)


def rivals_alone(rival: Rival, voice: Synthesizer, options: BenchOptions) -> Part:
    """A rival where nothing of ours runs on the GPU: the baseline is worth having all the same."""
    frame_seconds = voice.hop / voice.sample_rate
    batches = measure_rival_batches(rival, options, frame_seconds, work_of(voice.manifest, rival.precision), None)
    return {
        "backend": rival.description,
        "precision": rival.precision,
        "batches": [dataclasses.asdict(row) for row in batches],
        "vocoder": dataclasses.asdict(measure_rival_vocoder(rival, options, frame_seconds, None)),
    }


def torch_rivals(voice: Synthesizer, skipped: dict[str, str]) -> Iterator[Any]:
    """PyTorch on the GPU, where it is there."""
    from fte_export.torch_rival import TorchRival

    for precision in ("fp32", "fp16"):
        for cuda_graphs in (False, True):
            try:
                sizes = voice.manifest.flowtron, voice.manifest.waveglow
                yield TorchRival(*sizes, "cuda", precision, cuda_graphs=cuda_graphs)
            except BackendError as error:
                skipped["pytorch"] = str(error)


def demands(document: Part) -> Iterator[Part]:
    """What was asked, beside what was measured; nothing for what was skipped."""
    line = document["tests"].get("closing_line", "")
    if "passed" in line or "failed" in line:
        yield {"demand": "GPU tests pass", "measured": line, "met": document["tests"]["status"] == 0}
    for key, result in document["parity"].items():
        if not isinstance(result, dict) or not key.endswith("fp16") or "mel error, alone" not in result:
            continue
        worst = max(value for name, value in result.items() if name.startswith("mel error"))
        yield {"demand": f"{key}: mel error at most {MEL_ERROR}", "measured": worst, "met": worst <= MEL_ERROR}
        if "audio snr db" in result:
            snr = result["audio snr db"]
            yield {"demand": f"{key}: audio at least {AUDIO_SNR_DB} dB", "measured": snr, "met": snr >= AUDIO_SNR_DB}
    yield from speed_demands(document["bench"])


def speed_demands(report: Part) -> Iterator[Part]:
    """Decoding against PyTorch eager in the same precision and run."""
    measured = {row["backend"]: row for row in report.get("backends", [])}
    eager = next(
        (r for name, r in measured.items() if "PyTorch" in name and "eager" in name and r["precision"] == "fp16"), None
    )
    ours = [row for name, row in measured.items() if "PyTorch" not in name]
    for batch in (1, 8) if eager else ():
        slow = step_ms(eager, batch)
        fast = min((step_ms(row, batch) for row in ours), default=float("inf"))
        ratio = slow / fast
        yield {
            "demand": f"decode at batch {batch} at least {SPEEDUP:g} times PyTorch eager fp16, best backend",
            "measured": round(ratio, 2),
            "met": ratio >= SPEEDUP,
        }


def step_ms(row: Part, batch: int) -> float:
    return next(float(b["ms_per_step"]) for b in row["batches"] if b["batch"] == batch)


if __name__ == "__main__":
    sys.exit(main())
