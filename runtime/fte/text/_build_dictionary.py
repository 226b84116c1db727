"""Write the package's dictionary from CMUdict's own file.

    python -m fte.text._build_dictionary cmudict-0.7b heteronyms.txt

Left out: entries that do not begin with an ASCII letter (punctuation read aloud, "3D"), for no lookup asks for them,
and pronunciations with a phone that does not exist (0.7b has misspelled one).
"""

import re
import sys
import zlib
from pathlib import Path

from fte.files import atomic_file
from fte.text.pronunciation import DATA, DICTIONARY_FILE, HETERONYMS_FILE, PHONE_BASE
from fte.text.symbols import ARPABET

_ALTERNATIVE = re.compile(r"\(\d+\)$")


def read_cmudict(text: str) -> dict[str, list[str]]:
    """Word -> its pronunciations in the file's order."""
    entries: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(";;;"):
            continue
        word, phones = line.split("  ", 1)
        if word.isascii() and word[0].isalpha() and set(phones.split()) <= set(ARPABET):
            entries.setdefault(_ALTERNATIVE.sub("", word), []).append(phones.strip())
    return entries


def read_licence(text: str) -> str:
    """The copyright notice in the file's head, between its two rules, without the comment marks."""
    comments = [line.removeprefix(";;;").strip() for line in text.splitlines() if line.startswith(";;;")]
    first, last = (i for i, line in enumerate(comments) if line.startswith("# ===="))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in comments[first + 1 : last]).strip() + "\n"


def pack(entries: dict[str, list[str]]) -> bytes:
    """The lines that ``pronunciation`` searches, compressed."""
    code = {phone: bytes([PHONE_BASE + i]) for i, phone in enumerate(ARPABET)}
    lines = (
        b"\t".join((word.encode("ascii"), *(b"".join(code[phone] for phone in each.split()) for each in phones)))
        for word, phones in entries.items()
    )
    return zlib.compress(b"\n".join(sorted(lines)), 9)


def main(cmudict: Path, heteronyms: Path) -> None:
    """Write dictionary, licence and heteronyms into the package's data folder."""
    text = cmudict.read_text("latin-1")
    DATA.mkdir(exist_ok=True)
    for path, content in (
        (DICTIONARY_FILE, pack(read_cmudict(text))),
        (DATA / "CMUDICT-LICENSE.txt", read_licence(text).encode("utf-8")),
        (HETERONYMS_FILE, heteronyms.read_bytes()),
    ):
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
