"""Guessed pronunciations of words that stand in no dictionary: letters to ARPAbet.

A joint-sequence model (Bisani and Ney, "Joint-sequence models for grapheme-to-phoneme conversion", 2008): a word is a
sequence of graphones, each one letter with the 0 to 2 phones it stands for, and the sequence is an n-gram model with
back-off. The guess is the likeliest sequence that spells the word and has exactly one main stress, found by a beam
search from left to right. ``_build_g2p.py`` trains the model on CMUdict and states how often it errs.

The n-grams are a trie in level order, kept as bytes: the model loads at the first guess, in a few hundredths of a
second, and takes a few megabytes.
"""

import functools
import heapq
import re
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple, TypeAlias

from fte.errors import BackendError
from fte.text.pronunciation import DATA
from fte.text.symbols import ARPABET

MODEL_FILE = DATA / "g2p.zlib"
MAX_LETTERS = 64
"""A longer word is not guessed: there is none in English, and the search takes time for each letter."""
BEAM = 24
"""Hypotheses kept after each letter: so many with the main stress, and so many without. Of the phones that the builder
measures, 8.9 % are wrong with 12, 8.7 % with 24, 8.6 % with 48."""
COST_STEP = 0.25
"""Nats in one unit of cost. A cost is -log(probability), rounded to a byte."""

START, END = "^", "$"
"""The graphones without letter or phones that begin and end every sequence."""
ROOT = 0
"""The node of the empty context."""

MAGIC = b"fte-g2p-1\n"
"""The file's first bytes; the rest is compressed."""
HEADER = struct.Struct("<II")
"""Bytes of the table of graphones, number of nodes. The table follows, then the arrays of Model, one after another."""

_READABLE = re.compile(r"(?=[A-Za-z']*[AEIOUYaeiouy])[A-Za-z']+")


def guess(word: str) -> str | None:
    """Guess how ``word`` is pronounced: phones in CMUdict's notation with one main stress, as "B L AO1 G".

    Returns None for what cannot be read as a word: more than MAX_LETTERS characters, anything but ASCII letters and
    apostrophes, or no vowel letter (such a word is spelled out, not read). Raises BackendError for a damaged model.
    """
    if len(word) > MAX_LETTERS or not _READABLE.fullmatch(word):
        return None
    return _guess(word.upper())


@functools.lru_cache(maxsize=4096)
def _guess(word: str) -> str:
    return " ".join(_model().phones(word))


@functools.cache
def _model() -> "Model":
    return Model.load(MODEL_FILE)


_Trail: TypeAlias = "tuple[_Trail, tuple[str, ...]] | None"
"""The phones of a hypothesis, graphone by graphone, the last first."""


class _Hypothesis(NamedTuple):
    """A sequence of graphones that spells the letters read so far."""

    cost: int
    contexts: list[int]
    """Nodes of its last graphones, the longest context first, ROOT last."""
    stressed: bool
    """It has its main stress."""
    trail: _Trail


@dataclass(frozen=True, slots=True)
class Model:
    """A back-off n-gram model of graphones. A node is an n-gram; the children of a node are sorted by letter and rank.

    The cost of a graphone after a context is that of their n-gram where there is one, else the context's back-off cost
    plus the cost of the graphone after the context without its first graphone.
    """

    graphones: dict[tuple[int, int], tuple[tuple[str, ...], bool]]
    """(letter as a byte, rank among the graphones of this letter) -> phones, and whether the main stress is in them."""
    letters: bytes
    """Node -> letter of its last graphone."""
    ranks: bytes
    """Node -> rank of its last graphone."""
    costs: bytes
    """Node -> cost of its last graphone after those before it, in COST_STEP."""
    backoffs: bytes
    """Node -> cost of backing off from it, in COST_STEP."""
    children: Sequence[int]
    """Node -> its first child; the next entry is where they end."""

    @classmethod
    def load(cls, path: Path) -> "Model":
        """Read a file that ``_build_g2p`` wrote. Raises BackendError when the file is missing or damaged."""
        try:
            content = path.read_bytes()
            if not content.startswith(MAGIC):
                raise ValueError("it does not begin as one")
            return cls._unpacked(zlib.decompress(content[len(MAGIC) :]))
        except (OSError, ValueError, struct.error, zlib.error) as error:
            raise BackendError(
                f"{path} is no readable pronunciation model ({error}): install flowtron-fte again"
            ) from error

    @classmethod
    def _unpacked(cls, payload: bytes) -> "Model":
        table_size, nodes = HEADER.unpack_from(payload)
        start = HEADER.size + table_size
        if len(payload) != start + 6 * nodes:
            raise ValueError(f"{len(payload)} bytes instead of {start + 6 * nodes}")
        letters, ranks, costs, backoffs = (payload[start + i * nodes : start + (i + 1) * nodes] for i in range(4))
        counts = array("H", payload[start + 4 * nodes :])
        if sys.byteorder == "big":
            counts.byteswap()
        children = array("I", accumulate(counts, initial=1))
        graphones = _parse_graphones(payload[HEADER.size : start].decode("ascii"))
        if children[-1] != nodes:
            raise ValueError(f"{children[-1]} nodes instead of {nodes}")
        return cls(graphones, letters, ranks, costs, backoffs, children)

    def phones(self, word: str) -> list[str]:
        """Return the likeliest phones of ``word``: capitals and apostrophes, with a vowel letter among them."""
        [(_, _, start)] = self._continuations([ROOT], ord(START))
        beam = [_Hypothesis(0, start, stressed=False, trail=None)]
        for letter in (word + END).encode("ascii"):
            beam = self._step(beam, letter)
        trail = min((each for each in beam if each.stressed), key=_cost).trail
        groups = []
        while trail:
            trail, group = trail
            groups.append(group)
        return [phone for group in reversed(groups) for phone in group]

    def _step(self, beam: list[_Hypothesis], letter: int) -> list[_Hypothesis]:
        """Read one letter: extend each hypothesis by its graphones; keep the best, with the main stress and without."""
        best: dict[tuple[int, bool], _Hypothesis] = {}
        for cost, contexts, stressed, trail in beam:
            for rank, more, following in self._continuations(contexts, letter):
                phones, stresses = self.graphones[letter, rank]
                if stressed and stresses:
                    continue
                # The longest context decides all that can follow, so of two alike the dearer can never win.
                state = following[0], stressed or stresses
                if state not in best or cost + more < best[state].cost:
                    best[state] = _Hypothesis(cost + more, following, state[1], (trail, phones))
        with_stress = [each for each in best.values() if each.stressed]
        without = [each for each in best.values() if not each.stressed]
        return heapq.nsmallest(BEAM, with_stress, key=_cost) + heapq.nsmallest(BEAM, without, key=_cost)

    def _continuations(self, contexts: list[int], letter: int) -> list[tuple[int, int, list[int]]]:
        """For each graphone of ``letter``: its rank, its cost after ``contexts``, and the contexts it leads to."""
        costs: dict[int, int] = {}
        following: dict[int, list[int]] = {}
        backoff = 0
        for context in contexts:
            end = self.children[context + 1]
            node = bisect_left(self.letters, letter, self.children[context], end)
            while node < end and self.letters[node] == letter:
                rank = self.ranks[node]
                if rank not in costs:
                    costs[rank] = backoff + self.costs[node]
                    following[rank] = []
                if self.children[node] < self.children[node + 1]:  # else nothing follows, and backing off costs nothing
                    following[rank].append(node)
                node += 1
            backoff += self.backoffs[context]
        return [(rank, cost, [*following[rank], ROOT]) for rank, cost in costs.items()]


def _parse_graphones(table: str) -> dict[tuple[int, int], tuple[tuple[str, ...], bool]]:
    """Lines of a letter and its phones, the lines of a letter by rank -> ``Model.graphones``."""
    graphones: dict[tuple[int, int], tuple[tuple[str, ...], bool]] = {}
    for letter, lines in groupby(table.split("\n"), key=lambda line: line[:1]):
        for rank, line in enumerate(lines):
            phones = tuple(line[1:].split())
            if not set(phones) <= set(ARPABET):
                raise ValueError(f"{line!r} is no graphone")
            graphones[ord(letter), rank] = phones, any(phone[-1] == "1" for phone in phones)
    return graphones


def _cost(hypothesis: _Hypothesis) -> int:
    return hypothesis.cost
