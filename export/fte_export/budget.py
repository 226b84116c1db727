"""What reading one file may cost: a small hostile file can ask for hours of work and gigabytes of memory.

Every reader of checkpoints is handed the one Budget of its file and pays where it works, in three coins: operations,
bytes touched, bytes held. All grow with the size of the file, above a floor that the published files are far below (the
largest pickles of them, whole WaveGlows in training, take a tenth of the operations), so that a file of 10 MB is judged
within 5 s and 512 MB, whatever it says.
"""

from dataclasses import dataclass, field

OPERATIONS = 1_000_000
"""Operations that any file may cost: about a microsecond each, and none leaves more than some 150 bytes behind."""
HELD_BYTES = 96 << 20
"""Bytes that any file may keep in memory besides, its arrays not counted."""
NAME_LENGTH = 500
"""Characters in the name of a tensor or a class."""
DEPTH = 64
"""Modules within modules."""

_BYTES_PER_OPERATION = 1024
"""Bytes that are copied, compared or summed up in the time of one operation."""
_FILE_BYTES_PER_OPERATION = 64
"""A file's size pays for reading every byte of it a dozen times."""
_HELD_PER_BYTE = 4
"""A byte of UTF-8 may become four in memory."""


class Fault(Exception):  # noqa: N818 - a sentence's rest, which becomes a CheckpointError
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


@dataclass(slots=True)
class Budget:
    """What is left for one file. Every method raises Fault when it is used up."""

    file_bytes: int
    _operations: int = field(init=False)
    _held: int = field(init=False)

    def __post_init__(self) -> None:
        self._operations = self._most_operations()
        self._held = self._most_held()

    def _most_operations(self) -> int:
        return OPERATIONS + self.file_bytes // _FILE_BYTES_PER_OPERATION

    def _most_held(self) -> int:
        return HELD_BYTES + _HELD_PER_BYTE * self.file_bytes

    def spend(self, operations: int) -> None:
        """Pay for that many operations."""
        self._operations -= operations
        if self._operations < 0:
            raise Fault(
                f"needs more than {self._most_operations()} operations to be read, which no checkpoint of "
                f"{self.file_bytes} bytes does"
            )

    def touch(self, size: int) -> None:
        """Pay for reading, copying or comparing ``size`` bytes."""
        self.spend(size // _BYTES_PER_OPERATION)

    def hold(self, size: int) -> None:
        """Pay for ``size`` bytes that stay in memory until the file is read, and for writing them."""
        self._held -= size
        if self._held < 0:
            raise Fault(
                f"needs more than {self._most_held()} bytes of memory beside its weights, which no checkpoint of "
                f"{self.file_bytes} bytes does"
            )
        self.touch(size)


def shown(text: str, length: int = 100) -> str:
    """``text`` from a file, fit for an error message: printable, on one line, not longer than ``length``."""
    beginning = text[: length + 1]
    printable = beginning if beginning.isprintable() else ascii(beginning)
    return printable if len(printable) <= length else printable[: length - 3] + "..."


def check_name(name: str) -> None:
    """Raise Fault for a name that is longer than NAME_LENGTH."""
    if len(name) > NAME_LENGTH:
        raise Fault(f"has a name of {len(name)} characters ({shown(name, 40)}), which no model has")
