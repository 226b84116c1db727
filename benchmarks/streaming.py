"""How a stream behaves on this machine: the first sound, cancelling, and how far it is from the whole.

    python benchmarks/streaming.py VOICE --json benchmarks/results/streaming_cpu.json
    python benchmarks/streaming.py VOICE --backend native --json benchmarks/results/streaming_native_cpu.json

One utterance of ten seconds of a voice of the published size with random weights, which no gate ends. The first sound
is held against the time of the whole synthesis of the same run; rounds are repeated and medians count.
"""

import argparse
import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from fte import Request, Synthesizer
from fte.bench.machine import machine
from fte.decoder import NEVER
from fte.files import atomic_file
from fte.vocoder import exact_overlap

TEXT = "It is well known that deep generative models have a rich latent space, and so on."
FRAMES = 861
"""Ten seconds at 256 samples and 22,050 Hz."""


def request(**options: Any) -> Request:
    """Ten seconds, whatever gate and attention say."""
    fixed = {"max_frames": FRAMES, "gate_threshold": NEVER, "stop_with_attention": False, "retries": 0}
    return Request(TEXT, **(fixed | options))


def time_stream(voice: Synthesizer) -> dict[str, Any]:
    """Seconds to the first sound and to the last, of each chunk, and how a player at real time would fare."""
    started = time.perf_counter()
    came, lasts = [], []
    for chunk in voice.stream(request()):
        came.append(time.perf_counter() - started)
        lasts.append(len(chunk.samples) / chunk.sample_rate)
    whole = came[-1]
    return {"first_audio_s": came[0], "whole_s": whole, "fraction": came[0] / whole, "audio_s": sum(lasts)}


def time_whole(voice: Synthesizer) -> float:
    """Seconds of the same synthesis without streaming: decode all, then vocode all at once."""
    started = time.perf_counter()
    voice.synthesize_batch([request(first_chunk=237)])
    return time.perf_counter() - started


def time_cancel(voice: Synthesizer, after: float) -> dict[str, float]:
    """Seconds from `cancel` in another thread until the stream has ended and its thread is gone."""
    stream = voice.stream(request())
    cancelled: list[float] = []

    def cancel() -> None:
        time.sleep(after)
        cancelled.append(time.perf_counter())
        stream.cancel()
        cancelled.append(time.perf_counter())

    canceller = threading.Thread(target=cancel)
    canceller.start()
    for _ in stream:
        pass
    ended = time.perf_counter()
    canceller.join()
    return {"after_s": after, "decoder_stopped_s": cancelled[1] - cancelled[0], "stream_ended_s": ended - cancelled[0]}


def compare_samples(voice: Synthesizer) -> dict[str, float]:
    """Streamed samples beside the vocoder's on the whole mel at once, at the default overlap and at the exact one."""
    found = {}
    frames = 300
    for name, overlap in (("default", None), ("exact", exact_overlap(voice.vocoder.sizes))):
        options = {"max_frames": frames} | ({} if overlap is None else {"overlap": overlap})
        asked = request(**options)
        chunks = list(voice.stream(asked))
        (span,) = (chunk.span for chunk in chunks if chunk.span is not None)
        streamed = np.concatenate([chunk.samples for chunk in chunks])
        (whole,) = voice.synthesize_batch([asked])
        samples = voice.vocode(span.decoded.mel, sigma=asked.vocoder_sigma, seed=asked.seed, chunk=frames)
        error = np.abs(streamed - samples)
        found[f"{name}_snr_db"] = float(10 * np.log10(np.square(samples).sum() / max(np.square(error).sum(), 1e-30)))
        found[f"{name}_max_error"] = float(error.max())
        found["mel_max_difference"] = float(np.abs(span.decoded.mel - whole.mel).max())
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voice", type=Path)
    parser.add_argument("--precision", default="int8,fp32")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "backend": options.backend, "frames": FRAMES, "precisions": {}}
    for precision in options.precision.split(","):
        voice = Synthesizer.load(options.voice, "cpu", precision, backend=options.backend)
        list(voice.stream(request(max_frames=40)))  # loads the vocoder
        streams = [time_stream(voice) for _ in range(options.repeats)]
        found = {name: statistics.median(s[name] for s in streams) for name in streams[0]}
        found["whole_without_streaming_s"] = statistics.median(time_whole(voice) for _ in range(options.repeats))
        found["cancel"] = [time_cancel(voice, after) for after in (0.2, 1.5, 4.0)]
        found.update(compare_samples(voice))
        report["precisions"][precision] = found
        print(precision, json.dumps(found, indent=1), flush=True)
    if options.json is not None:
        with atomic_file(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
