"""Make the fuzzer's first inputs: bundles of a few kilobytes, one for each form of the model and each precision.

python engine/tests/fuzz/make_seeds.py engine/tests/fuzz/corpus
"""

import dataclasses
import json
import struct
import sys
import tempfile
from pathlib import Path

from fte.bundle import FlowtronSizes, WaveglowSizes
from fte_export.pipeline import write_voice
from fte_export.random_voice import random_flowtron, random_waveglow
from fte_export.writer import Voice

FLOWTRON = FlowtronSizes(
    n_speakers=1,
    n_speaker_dim=1,
    n_text=2,
    n_text_dim=2,
    n_flows=1,
    n_mels=1,
    n_attention=2,
    n_hidden=2,
    n_lstm_layers=1,
    has_gate=True,
    cumulative_attention=False,
    dummy_speaker=False,
)
WAVEGLOW = WaveglowSizes(
    n_mels=1,
    n_flows=2,
    n_group=4,
    n_early_every=1,
    n_early_size=2,
    n_layers=2,
    n_channels=2,
    kernel_size=3,
    upsample_kernel=32,
    upsample_stride=16,
)
FORMS = {"plain": {}, "cumulative": {"cumulative_attention": True, "n_flows": 2, "n_lstm_layers": 2}}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for form, changes in FORMS.items():
        voice = Voice("f", random_flowtron(dataclasses.replace(FLOWTRON, **changes)), random_waveglow(WAVEGLOW), ("a",))
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / "voice"
            write_voice(voice, path, ("fp32", "int8", "fp16"))
            manifest = json.loads((path / "manifest.json").read_text())
            for precision, name in manifest["engine"].items():
                kept = {k: manifest[k] for k in ("format", "version", "flowtron", "waveglow", "audio")}
                text = json.dumps({**kept, "engine": {precision: "w"}}, separators=(",", ":")).encode()
                seed = struct.pack("<I", len(text)) + text + (path / name).read_bytes()
                (folder / f"{form}.{precision}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
