"""What `fte bench` measures, and the sentences it speaks."""

from dataclasses import dataclass

from fte.constants import LIMITS
from fte.errors import RequestError

SENTENCES = (
    "The ferry leaves the northern pier at noon and comes back before the street lamps are lit.",
    "My grandmother kept her letters in a biscuit tin, and she never threw a single one of them away.",
    "After three days of rain the river had risen so far that the lower bridge was closed to carts.",
    "He found the missing key beneath a pile of old newspapers, exactly where he had looked before.",
    "The baker opens at five in the morning, and by seven there is seldom a loaf left on the shelf.",
    "Nobody on the train spoke while the conductor explained why we had stopped between two fields.",
    "A good carpenter measures twice, marks the board with a sharp pencil, and only then begins to cut.",
    "The children built a low wall of stones across the brook and watched the water find a way around.",
    "In the corner of the museum stood a clock that had not been wound since the end of the war.",
    "She wrote the report in one long evening, slept badly, and tore up half of it the next morning.",
)
"""Ten sentences of the length of LJSpeech's (100 characters on average)."""

MOST_ROUNDS = 1000
MOST_NUMBERS = 16
"""Entries of a list of streams."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured. Gates are ignored: every length is given, since random weights never stop by themselves."""

    batch: int = 4
    """Largest batch; 1, 2, 4, ... up to it are measured."""
    frames: int = 200
    """Mel frames of each utterance of a batch."""
    symbols: int = 80
    """Symbols of each text that the decoder alone reads."""
    repeats: int = 3
    """Repetitions of each batch; medians are reported."""
    streams: tuple[int, ...] = (1,)
    """Numbers of concurrent streams."""
    rounds: int = 1
    """How often every stream speaks the ten sentences."""
    sentence_frames: int = 500
    """Mel frames of each sentence of a stream: 5.8 s."""

    def check(self) -> None:
        """Raise RequestError where a number is out of range."""
        ranges = {
            "batch": LIMITS.batch,
            "frames": LIMITS.frames,
            "symbols": LIMITS.symbols,
            "repeats": MOST_ROUNDS,
            "rounds": MOST_ROUNDS,
            "sentence_frames": LIMITS.frames,
        }
        for name, most in ranges.items():
            if not 1 <= getattr(self, name) <= most:
                raise RequestError(f"{name} is {getattr(self, name)}: give 1 to {most}")
        if not 1 <= len(self.streams) <= MOST_NUMBERS or len(set(self.streams)) != len(self.streams):
            raise RequestError(f"streams has {len(self.streams)} numbers: give 1 to {MOST_NUMBERS} different ones")
        for number in self.streams:
            if not 1 <= number <= LIMITS.batch:
                raise RequestError(f"streams has {number}: give numbers from 1 to {LIMITS.batch}")


def parse_streams(text: str) -> tuple[int, ...]:
    """Numbers of streams from a text such as "1,4,8". Raises RequestError."""
    parts = [part.strip() for part in text.split(",", MOST_NUMBERS)]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise RequestError(f"streams is {text[:40]!r}: give whole numbers with commas between them, such as 1,4,8")
    return tuple(map(int, parts))


def batch_sizes(largest: int) -> list[int]:
    """Powers of two up to ``largest``, and ``largest`` itself."""
    sizes = [1 << i for i in range(largest.bit_length()) if 1 << i < largest]
    return [*sizes, largest]
