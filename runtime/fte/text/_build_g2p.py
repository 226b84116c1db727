"""Train the model of ``g2p`` on CMUdict, and measure it on words it has not seen.

    python -m fte.text._build_g2p cmudict-0.7b

Two models are trained: one without a twentieth of the words (those whose CRC-32 is a multiple of 20), which it then has
to guess, and the one that is shipped, on all words. On 0.7b (123,912 words of letters, 6,183 of them held out):

    held out                 phone errors / words wrong   without regard to stress
    6,177 with a vowel letter         8.7 % / 31.9 %      6.5 % / 26.8 %
    5,820 without apostrophe          9.0 % / 32.7 %      6.7 % / 27.5 %

Errors are edits to the nearest of a word's pronunciations, in proportion to its phones; a word with any is wrong.
Inflections of a word held out may be in the training set. The build takes about a minute on one core.

Training: (1) letters are aligned with 0 to 2 phones each by expectation maximisation, without stress; (2) the graphones
found so are counted as n-grams with modified Kneser-Ney smoothing (Chen and Goodman, 1998), interpolated; (3) n-grams
that gain little over backing off are dropped, and what they counted goes to the shorter ones that stand in for them
(as in Siivola, Hirsimaki and Virpioja, "On growing and pruning Kneser-Ney smoothed n-gram models", 2007).
"""

import re
import string
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fte.files import atomic_file
from fte.text._build_dictionary import read_cmudict
from fte.text.g2p import COST_STEP, END, HEADER, MAGIC, MODEL_FILE, START, Model
from fte.text.symbols import ARPABET

HELD_OUT = 20
"""One word in this many is held out."""
EM_ROUNDS = 12
"""The likelihood rises by 0.1 % in the last."""
MOST_PHONES = 2
"""Phones of one letter, as in the X of "box"; the table of their probabilities is made for two."""
RARE = 4
"""Graphones seen less often are slips of the dictionary or abbreviations; their words are left out."""
ORDER = 5
"""Graphones of the longest n-grams. At the shipped size, 6 and 7 are no better."""
LEAST_GAIN = 1.7
"""Nats of the training set's log-likelihood that an n-gram must gain over backing off."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)
Pair = tuple[str, list[str]]
"""A word and its phones."""
Graphone = tuple[str, tuple[str, ...]]
"""A letter and its phones."""

_WORD = re.compile(r"[A-Z][A-Z']*")
_VOWEL = re.compile("[AEIOUY]")
_ALPHABET = "'" + string.ascii_uppercase
_PHONES = [phone for phone in ARPABET if not phone[-1].isdigit()]
_BASE = len(_PHONES) + 1
"""A letter with its phones is a number in this base."""


def held_out(word: str) -> bool:
    """Whether ``word`` is one of those the measured model does not see."""
    return zlib.crc32(word.encode("ascii")) % HELD_OUT == 0


def usable(entries: dict[str, list[str]]) -> dict[str, list[str]]:
    """The words of letters and apostrophes alone, as the model is asked for no others."""
    return {word: phones for word, phones in entries.items() if _WORD.fullmatch(word)}


def train(entries: dict[str, list[str]]) -> bytes:
    """Return the model's file. ``entries``: word -> pronunciations, of which those with one main stress are used."""
    pairs = [
        (word, each.split()) for word, phones in sorted(entries.items()) for each in phones if each.count("1") == 1
    ]
    return ngram_model(align(pairs))


# Alignment. W words of equal length are aligned at once; P: phones of the longest pronunciation among them.


@dataclass(frozen=True, slots=True)
class Batch:
    """Words of equal length with their pronunciations."""

    pairs: list[Pair]
    letters: Ints
    """(W, L)"""
    phones: Ints
    """(W, P), without stress; from 1 on, 0 where there is none."""
    lengths: Ints
    """(W,) phones"""

    def codes(self, letter: int) -> list[Ints]:
        """For each number k of phones: (W, P + 1 - k), the code of ``letter`` with k phones, by where they begin."""
        codes = [np.repeat(self.letters[:, letter : letter + 1], self.phones.shape[1] + 1, axis=1)]
        for k in range(1, MOST_PHONES + 1):
            codes.append(codes[-1][:, :-1] * _BASE + self.phones[:, k - 1 :])
        return [code * _BASE ** (MOST_PHONES - k) for k, code in enumerate(codes)]


def batches(pairs: Iterable[Pair]) -> list[Batch]:
    """Sort words by length; those with more phones than their letters can stand for are left out."""
    by_length: dict[int, list[Pair]] = defaultdict(list)
    for word, phones in pairs:
        if len(phones) <= MOST_PHONES * len(word):
            by_length[len(word)].append((word, phones))
    return [
        Batch(
            pairs=alike,
            letters=np.array([[_ALPHABET.index(letter) for letter in word] for word, _ in alike]),
            phones=_padded([[_PHONES.index(plain(phone)) + 1 for phone in phones] for _, phones in alike]),
            lengths=np.array([len(phones) for _, phones in alike]),
        )
        for _, alike in sorted(by_length.items())
    ]


def fit(sorted_words: list[Batch]) -> Floats:
    """Return code of (letter, phones) -> probability of these phones given the letter, by expectation maximisation."""
    phones = _BASE - 1
    table = np.zeros((len(_ALPHABET), _BASE, _BASE))
    table[:, 0, 0] = 1 / 3
    table[:, 1:, 0] = 1 / (3 * phones)
    table[:, 1:, 1:] = 1 / (3 * phones**2)
    for _ in range(EM_ROUNDS):
        expected = sum((expected_counts(batch, table.ravel()) for batch in sorted_words), np.zeros(table.size))
        totals = expected.reshape(len(_ALPHABET), -1).sum(axis=1)
        table = expected.reshape(table.shape) / np.maximum(totals, 1e-300)[:, None, None]
    return table.ravel()


def expected_counts(batch: Batch, table: Floats) -> Floats:
    """Return how often each (letter, phones) is expected in ``batch``: forward-backward over all alignments."""
    words, width = batch.phones.shape[0], batch.phones.shape[1] + 1
    codes = [batch.codes(i) for i in range(batch.letters.shape[1])]
    forward = [np.zeros((words, width))]
    forward[0][:, 0] = 1
    for step in codes:
        forward.append(np.zeros((words, width)))
        for k, code in enumerate(step):
            forward[-1][:, k:] += forward[-2][:, : width - k] * table[code]
    ends = np.arange(words), batch.lengths
    likelihood = forward[-1][ends]
    backward = np.zeros((words, width))
    backward[ends] = np.divide(1, likelihood, out=np.zeros(words), where=likelihood > 0)
    counts = np.zeros(table.size)
    for before, step in zip(reversed(forward[:-1]), reversed(codes), strict=True):
        after, backward = backward, np.zeros((words, width))
        for k, code in enumerate(step):
            path = after[:, k:] * table[code]
            backward[:, : width - k] += path
            counts += np.bincount(code.ravel(), (before[:, : width - k] * path).ravel(), table.size)
    return counts


def align(pairs: Iterable[Pair]) -> list[list[Graphone]]:
    """Return the likeliest graphones of each word that can be aligned, with the stress of its phones."""
    sorted_words = batches(pairs)
    table = fit(sorted_words)
    return [
        _graphones(word, phones, taken)
        for batch in sorted_words
        for (word, phones), taken in zip(batch.pairs, best_paths(batch, table), strict=True)
        if sum(taken) == len(phones)
    ]


def best_paths(batch: Batch, table: Floats) -> list[list[int]]:
    """Return how many phones each letter of each word takes in the likeliest alignment; zeros where there is none."""
    words, width = batch.phones.shape[0], batch.phones.shape[1] + 1
    score = np.zeros((words, width))
    score[:, 0] = 1
    choices = []
    for i in range(batch.letters.shape[1]):
        candidates = np.zeros((MOST_PHONES + 1, words, width))
        for k, code in enumerate(batch.codes(i)):
            candidates[k, :, k:] = score[:, : width - k] * table[code]
        choices.append(candidates.argmax(axis=0))
        score = candidates.max(axis=0)
    rows, place = np.arange(words), batch.lengths.copy()
    taken = np.zeros(batch.letters.shape, np.int64)
    for i in reversed(range(len(choices))):
        taken[:, i] = choices[i][rows, place]
        place -= taken[:, i]
    taken[score[rows, batch.lengths] == 0] = 0
    return [[int(k) for k in row] for row in taken]


def plain(phone: str) -> str:
    """The phone without its stress."""
    return phone.rstrip("012")


def _padded(rows: list[list[int]]) -> Ints:
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def _graphones(word: str, phones: list[str], taken: list[int]) -> list[Graphone]:
    ends = list(accumulate(taken))
    return [(letter, tuple(phones[end - k : end])) for letter, k, end in zip(word, taken, ends, strict=True)]


# N-grams. A node is an n-gram; nodes of order n are numbered by their parent (the first n - 1 graphones), then by their
# last graphone, so that kept nodes, order after order, are the trie in level order.


@dataclass(frozen=True, slots=True)
class Grams:
    """All n-grams of one order."""

    parent: Ints
    """Node of order n - 1: all but the last graphone."""
    last: Ints
    """The last graphone."""
    shorter: Ints
    """Node of order n - 1: all but the first graphone."""
    counts: Ints
    """How often it was seen."""
    opening: Bools
    """It begins with START."""


def ngram_model(words: list[list[Graphone]]) -> bytes:
    """Train the n-gram model on aligned words; return the file that ``Model.load`` reads."""
    seen = Counter(graphone for word in words for graphone in word)
    frequent = [graphone for graphone, count in seen.items() if count >= RARE]
    # Frequent graphones have low ranks: that compresses better.
    inventory = sorted([*frequent, (START, ()), (END, ())], key=lambda g: (g[0], -seen[g], g[1]))
    number = {graphone: i for i, graphone in enumerate(inventory)}
    start, end = number[START, ()], number[END, ()]
    sequences = [[start, *(number[g] for g in word), end] for word in words if all(g in number for g in word)]
    orders = count_grams(sequences, len(inventory), start)
    everything = [np.ones(len(grams.last), bool) for grams in orders]
    kept = prune(orders, *estimate(orders, everything, start))
    return pack(inventory, orders, kept, *estimate(orders, kept, start))


def count_grams(sequences: list[list[int]], n_graphones: int, start: int) -> list[Grams]:
    """Return the n-grams of order 1 to ORDER."""
    tokens = np.array([token for sequence in sequences for token in sequence])
    places = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
    orders: list[Grams] = []
    nodes = np.zeros(len(tokens), np.int64)  # of the n-gram that ends at each token
    for n in range(1, ORDER + 1):
        ends = np.flatnonzero(places >= n - 1)
        parents = nodes[ends - 1] if n > 1 else nodes[ends]
        keys, inverse, counts = np.unique(parents * n_graphones + tokens[ends], return_inverse=True, return_counts=True)
        shorter = np.zeros(len(keys), np.int64)
        shorter[inverse] = nodes[ends]
        parent, last = np.divmod(keys, n_graphones)
        opening = orders[-1].opening[parent] if orders else last == start
        orders.append(Grams(parent, last, shorter, counts, opening))
        nodes = np.zeros(len(tokens), np.int64)
        nodes[ends] = inverse
    return orders


def estimate(orders: list[Grams], kept: list[Bools], start: int) -> tuple[list[Floats], list[Floats]]:
    """Return for each order the probabilities of its n-grams, and the back-off weights of order n - 1.

    An n-gram that is not kept has the probability of backing off.
    """
    probabilities: list[Floats] = []
    weights: list[Floats] = []
    for n, (grams, counts, keep) in enumerate(zip(orders, kneser_ney_counts(orders, kept), kept, strict=True)):
        if n == 0:
            counts = np.where(grams.last == start, 0, counts)  # nothing is followed by START
            contexts, lower = 1, np.full(len(counts), 1 / (len(counts) - 1))
        else:
            contexts, lower = len(orders[n - 1].last), probabilities[-1][grams.shorter]
        totals = np.maximum(np.bincount(grams.parent, counts, contexts), 1)
        discounted = np.where(keep, np.maximum(counts - discounts(counts, keep), 0), 0)
        weight = 1 - np.bincount(grams.parent, discounted, contexts) / totals
        weights.append(weight)
        probabilities.append(discounted / totals[grams.parent] + weight[grams.parent] * lower)
    return probabilities, weights


def kneser_ney_counts(orders: list[Grams], kept: list[Bools]) -> list[Floats]:
    """Return the counts from which each order is estimated.

    Below the longest n-grams, not how often one was seen but after how many different graphones; where the longer
    n-gram is not kept, its whole count, for then the shorter one has to explain it. What opens a word follows nothing.
    """
    counts = [orders[-1].counts.astype(np.float64)]
    for grams, longer, keep in zip(orders[-2::-1], orders[:0:-1], kept[:0:-1], strict=True):
        passed_on = np.bincount(longer.shorter, np.where(keep, 1, counts[-1]), len(grams.last))
        counts.append(np.where(grams.opening, grams.counts, passed_on))
    return counts[::-1]


def discounts(counts: Floats, keep: Bools) -> Floats:
    """Return what modified Kneser-Ney smoothing takes off each count (Chen and Goodman 1998, equation 26)."""
    n1, n2, n3, n4 = (max(1, int(np.count_nonzero(counts[keep] == i))) for i in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    taken: Floats = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    taken = np.clip(taken, [0, 0.1, 0.1, 0.1], [0, 0.9, 1.9, 2.9])
    return taken[np.minimum(counts, 3).astype(np.int64)]


def prune(orders: list[Grams], probabilities: list[Floats], weights: list[Floats]) -> list[Bools]:
    """Return which n-grams to keep: those that gain LEAST_GAIN on the training set, and the parents of kept ones."""
    kept = [np.ones(len(orders[0].last), bool)]
    longer: Grams | None = None
    for n in range(len(orders) - 1, 0, -1):
        grams = orders[n]
        backed_off = weights[n][grams.parent] * probabilities[n - 1][grams.shorter]
        keep = grams.counts * np.log(probabilities[n] / backed_off) >= LEAST_GAIN
        if longer is not None:
            keep |= np.bincount(longer.parent, kept[1], len(keep)) > 0
        kept.insert(1, keep)
        longer = grams
    return kept


def pack(
    inventory: list[Graphone],
    orders: list[Grams],
    kept: list[Bools],
    probabilities: list[Floats],
    weights: list[Floats],
) -> bytes:
    """Return the file that ``Model.load`` reads."""
    letters = np.array([ord(letter) for letter, _ in inventory])
    ranks = np.arange(len(inventory)) - np.searchsorted(letters, letters)
    contexts = [np.ones(1, bool), *kept[:-1]]  # by order, from the root on; the longest n-grams are none
    last = _joined((grams.last for grams in orders), kept)
    child_counts = [
        np.bincount(grams.parent[keep], minlength=len(parents))[parents]
        for grams, keep, parents in zip(orders, kept, contexts, strict=True)
    ]
    root = bytes(1)  # the root has no last graphone
    leaves = np.count_nonzero(kept[-1])
    table = "\n".join(" ".join((letter, *phones)) for letter, phones in inventory).encode("ascii")
    payload = b"".join(
        (
            HEADER.pack(len(table), 1 + len(last)),
            table,
            root + letters[last].astype(np.uint8).tobytes(),
            root + ranks[last].astype(np.uint8).tobytes(),
            root + _costs(_joined(probabilities, kept)),
            _costs(_joined(weights, contexts)) + bytes(leaves),
            np.concatenate(child_counts).astype("<u2").tobytes() + bytes(2 * leaves),
        )
    )
    return MAGIC + zlib.compress(payload, 9)


def _joined(values: Iterable[npt.NDArray[T]], kept: list[Bools]) -> npt.NDArray[T]:
    return np.concatenate([each[keep] for each, keep in zip(values, kept, strict=True)])


def _costs(probabilities: Floats) -> bytes:
    nats = -np.log(np.maximum(probabilities, 1e-30))
    return np.minimum(np.round(nats / COST_STEP), 255).astype(np.uint8).tobytes()


# Measurement


def error_rates(model: Model, entries: dict[str, list[str]]) -> str:
    """Guess every word of ``entries``; say how many phones and words were wrong, with stress and without."""
    guesses = {word: model.phones(word) for word in entries if _VOWEL.search(word)}
    return f"{len(guesses):,} words: " + ", ".join(
        f"{_rates(guesses, entries, view)} {name}" for name, view in (("with stress", str), ("without", plain))
    )


def _rates(guesses: dict[str, list[str]], entries: dict[str, list[str]], view: Callable[[str], str]) -> str:
    errors = phones = wrong = 0
    for word, guess in guesses.items():
        heard = [view(phone) for phone in guess]
        references = ([view(phone) for phone in each.split()] for each in entries[word])
        fewest, length = min((distance(heard, reference), len(reference)) for reference in references)
        errors, phones, wrong = errors + fewest, phones + length, wrong + (fewest > 0)
    return f"PER {100 * errors / phones:.1f} % and WER {100 * wrong / len(guesses):.1f} %"


def distance(a: list[str], b: list[str]) -> int:
    """Levenshtein distance: insertions, deletions and substitutions that turn ``a`` into ``b``."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def write(content: bytes, path: Path) -> None:
    """Put a model's file in its place."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def main(cmudict: Path) -> None:
    """Print the error rates of a model that has not seen the words held out, then write the model of all words."""
    entries = usable(read_cmudict(cmudict.read_text("latin-1")))
    unseen = {word: phones for word, phones in entries.items() if held_out(word)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE.name
        write(train({word: phones for word, phones in entries.items() if word not in unseen}), path)
        model = Model.load(path)
    print(error_rates(model, unseen))
    print(error_rates(model, {word: phones for word, phones in unseen.items() if "'" not in word}))
    write(train(entries), MODEL_FILE)
    print(f"{MODEL_FILE}: {MODEL_FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
