"""Whether mean-z styles move speech the way the recordings they come from are moved.

    python benchmarks/style_effect.py VOICE RAVDESS_FOLDER --speaker 0 --json benchmarks/results/style_effect.json

For each emotion the mean z of one actor's recordings becomes a style. Ten sentences are spoken with it and with the
neutral style, same seed, and four measures are compared: mean pitch and its range (WORLD, over voiced frames),
duration, and level. What the recordings themselves do is measured in the same way. A two-sided sign test over the
sentences tells chance from movement; a movement agrees when it has the recordings' sign. Needs the `style` extra
(pyworld).
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fte import Synthesizer
from fte.audio import read_audio
from fte.files import atomic_file
from fte.sound import resample
from fte.style.figure import pitch
from fte.style.means import mean_style
from fte.style.mixing import interpolate
from fte.style.posterior import speech_range
from fte.style.references import ravdess
from fte.style.style import Style

SENTENCES = (
    "Kids are talking by the door.",
    "Dogs are sitting by the door.",
    "The children walked home in the rain.",
    "She put the letter on the table.",
    "They are waiting for the morning train.",
    "Nobody knew where the music came from.",
    "He opened the window and looked outside.",
    "We will meet again at the old bridge.",
    "The garden is full of yellow flowers.",
    "My brother lives near the river.",
)
STEPS = 5


def measures(samples: np.ndarray, rate: int) -> dict[str, float]:
    """Mean pitch (semitones above 1 Hz), its standard deviation (semitones), duration (s) and level (dB)."""
    speech = samples[speech_range(samples)] if rate == 22050 else samples
    curve = pitch(speech.astype(np.float32), rate)
    if curve is None:
        raise SystemExit("this needs the pitch tracker: install flowtron-fte[style]")
    voiced = 12 * np.log2(curve[np.isfinite(curve)])
    return {
        "pitch": float(voiced.mean()) if len(voiced) else math.nan,
        "pitch_range": float(voiced.std()) if len(voiced) else math.nan,
        "duration": len(speech) / rate,
        "level": float(10 * np.log10(np.square(speech).mean() + 1e-12)),
    }


def sign_test(differences: Sequence[float]) -> float:
    """Two-sided probability of so many of one sign if both were as likely."""
    signs = [d > 0 for d in differences if d]
    n, k = len(signs), max(sum(signs), len(signs) - sum(signs))
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n) if n else 1.0


def spoken(voice: Synthesizer, style: Style, speaker: int, sigma: float, seed: int = 0) -> list[dict[str, float]]:
    """The measures of every sentence."""
    options: dict[str, Any] = {"style": style, "speaker": speaker, "sigma": sigma, "seed": seed, "retries": 0}
    return [measures(voice.synthesize(text, **options).samples, voice.sample_rate) for text in SENTENCES]


def recorded(references: Sequence[Any]) -> dict[str, float]:
    """The mean measures of some recordings."""
    found = []
    for reference in references:
        samples, rate = read_audio(reference.path)
        found.append(measures(resample(samples, rate, 22050), 22050))
    return {name: float(np.mean([m[name] for m in found])) for name in found[0]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voice", type=Path)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--actor", type=int, default=1)
    parser.add_argument("--speaker", type=int, default=0)
    parser.add_argument("--sigma", type=float, default=0.3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    voice = Synthesizer.load(options.voice, "cpu", "fp32")
    found = ravdess(options.recordings, actors=[options.actor], speaker=options.speaker)
    evidence = voice.extractor.extract(found.references, keep_unaligned=True).evidence
    labels = sorted({e.label for e in evidence if e.label})
    styles = {
        label: mean_style(label, [e for e in evidence if e.label == label], voice_hash=voice.bundle.voice_hash)
        for label in labels
    }
    truth = {label: recorded([r for r in found.references if r.label == label]) for label in labels}
    neutral = spoken(voice, styles["neutral"], options.speaker, options.sigma)
    report: dict[str, Any] = {"actor": options.actor, "sigma": options.sigma, "sentences": len(SENTENCES)}
    report["emotions"] = {}
    for label in labels:
        if label == "neutral":
            continue
        said = spoken(voice, styles[label], options.speaker, options.sigma)
        way = [interpolate(styles["neutral"], styles[label], i / (STEPS - 1)) for i in range(STEPS)]
        steps = [spoken(voice, style, options.speaker, options.sigma) for style in way]
        rows = {}
        for name in neutral[0]:
            moved = [a[name] - b[name] for a, b in zip(said, neutral, strict=True)]
            wanted = truth[label][name] - truth["neutral"][name]
            means = [float(np.nanmean([m[name] for m in step])) for step in steps]
            rising = np.diff(means) * np.sign(means[-1] - means[0]) > 0
            rows[name] = {
                "recordings": wanted,
                "spoken_median": float(np.nanmedian(moved)),
                "agree": sum(d * wanted > 0 for d in moved),
                "p": sign_test(moved),
                "interpolation": means,
                "monotonic": bool(rising.all()),
            }
        report["emotions"][label] = rows
        for name, row in rows.items():
            told = f"{row['recordings']:+.2f} recorded, {row['spoken_median']:+.2f} spoken, {row['agree']} of 10 agree"
            print(f"{label} {name}: {told}, p {row['p']:.3f}, monotonic {row['monotonic']}", flush=True)
    if options.json is not None:
        with atomic_file(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
