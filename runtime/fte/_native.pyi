from fte.backends.base import Array

most_batch: int
most_threads: int

def instructions() -> str: ...

class Engine:
    def __init__(self, folder: str, precision: str, threads: int, instructions: str = "") -> None: ...
    def encode(self, ids: Array, speaker: int, memory: Array) -> None: ...
    def project(self, flow: int, keys: bool, memory: Array, out: Array) -> None: ...
    def vocode(self, mel: Array, noise: Array, audio: Array) -> None: ...

class Flow:
    def __init__(
        self,
        engine: Engine,
        flow: int,
        keys: Array | None,
        values: Array,
        memory: Array | None,
        texts: Array,
        frames: Array,
        temperatures: Array,
        thresholds: Array,
        imposed: Array | None,
    ) -> None: ...
    def run(
        self,
        z: Array,
        prior: Array | None,
        imposed: Array | None,
        mel: Array,
        attention: Array,
        gate: Array | None,
    ) -> None: ...
