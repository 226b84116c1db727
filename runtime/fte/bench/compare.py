"""Two reports beside each other."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fte.bench.report import SCHEMA, VERSION, Report
from fte.errors import InputError, RequestError
from fte.strict_json import parse_json

MOST_BYTES = 1 << 20
"""Size of a report; ours have some kilobytes."""
SAME = 0.05
"""Ratios within this of 1 count as the same."""
_MOST_ROWS = 64
_MOST_CHARACTERS = 300

_CEILING = {
    "memory_gb_per_second": True,
    "step_gb_per_second": True,
    "decode_ms_per_frame": False,
    "vocoder_rtfx": True,
}
_BATCH = {"ms_per_frame": False, "ceiling_fraction": True, "end_to_end_rtfx": True, "peak_mb": False}
_VOCODER = {"rtfx": True, "ceiling_fraction": True, "peak_mb": False}
_STREAM = {
    "first_audio_ms.p50": False,
    "first_audio_ms.p95": False,
    "first_audio_ms.p99": False,
    "gap_ms.p50": False,
    "gap_ms.p95": False,
    "gap_ms.max": False,
    "rtfx": True,
    "underruns": False,
    "starved_seconds": False,
    "peak_mb": False,
}
"""Figures that are compared, and whether more is better."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both reports."""

    name: str
    a: float
    b: float
    more_is_better: bool

    @property
    def ratio(self) -> float | None:
        """b over a; None where a is 0."""
        return self.b / self.a if self.a else None

    @property
    def verdict(self) -> str:
        """Of b: "better", "worse", or "same" where the ratio is near 1."""
        if self.b == self.a or (self.ratio is not None and abs(self.ratio - 1) <= SAME):
            return "same"
        return "better" if (self.b > self.a) == self.more_is_better else "worse"


def read_report(path: Path) -> Report:
    """A report from a file: JSON alone, or the whole output of a run, whose last line it is. Raises RequestError."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES} bytes, which no report is: give one of fte bench")
    report = _parsed(data)
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise InputError(f"{path} is no report: give a file that fte bench --json wrote")
    if report.get("version") != VERSION:
        raise InputError(f"{path} has another version of the report than {VERSION}: measure again with this fte")
    return report


def _parsed(data: bytes) -> Any:
    """JSON of the whole or else of its last line; None where neither is any."""
    for text in (data, data.rstrip().rpartition(b"\n")[2]):
        try:
            return parse_json(text)
        except ValueError:
            continue
    return None


def compare(a: Report, b: Report, names: tuple[str, str] = ("a", "b")) -> list[Comparison]:
    """The figures that both reports have. ``names`` of the files, for errors.

    Raises RequestError where they were measured with different options, and for a report that is not whole.
    """
    _check_options(a, b, names)
    figures = [dict(_Reader(report, name).figures()) for report, name in zip((a, b), names, strict=True)]
    return [
        Comparison(name, value, figures[1][name][0], more)
        for name, (value, more) in figures[0].items()
        if name in figures[1]
    ]


def _check_options(a: Report, b: Report, names: tuple[str, str]) -> None:
    options = [_Reader(report, name).part(report, "options", dict) for report, name in zip((a, b), names, strict=True)]
    keys = sorted(set(options[0]) | set(options[1]))
    differing = [key for key in keys if options[0].get(key) != options[1].get(key)]
    if differing:
        named = ", ".join(ascii(key)[1:-1][:40] for key in differing[:10])
        raise RequestError(f"{names[0]} and {names[1]} differ in the options {named}: measure both with the same")


class _Reader:
    """Takes what is compared out of a report that may hold anything."""

    def __init__(self, report: Report, name: str) -> None:
        self._report, self._name = report, name

    def figures(self) -> Iterator[tuple[str, tuple[float, bool]]]:
        """Name of each figure with its value and whether more is better."""
        for i, backend in enumerate(self._rows(self._report, "backends")):
            prefix = f"backend {i + 1}, " if i else ""
            parts = [("ceiling", backend.get("ceiling"), _CEILING), ("vocoder", backend.get("vocoder"), _VOCODER)]
            parts += [(f"batch {self._count(row, 'batch')}", row, _BATCH) for row in self._rows(backend, "batches")]
            parts += [
                (f"streams {self._count(row, 'streams')}", row, _STREAM)
                for row in self._rows(backend, "streams", least=0)  # a rival has none
            ]
            for title, row, directions in parts:
                for path, more in directions.items():
                    value = self._value(row, path)
                    if value is not None:
                        yield f"{prefix}{title}: {path}", (value, more)

    def headline(self) -> str:
        """Voice, precision and backend of the first backend."""
        backend = self._rows(self._report, "backends")[0]
        texts = [self.part(self._report, "voice", str), *(self.part(backend, k, str) for k in ("precision", "backend"))]
        return ", ".join(texts)

    def part(self, of: dict[str, Any], key: str, kind: type) -> Any:
        value = of.get(key)
        if not isinstance(value, kind):
            self._fail(key)
        if isinstance(value, str) and not (value.isprintable() and len(value) < _MOST_CHARACTERS):
            self._fail(key)
        return value

    def _rows(self, of: dict[str, Any], key: str, least: int = 1) -> list[dict[str, Any]]:
        rows = self.part(of, key, list)
        if not least <= len(rows) <= _MOST_ROWS or not all(isinstance(row, dict) for row in rows):
            self._fail(key)
        return list(rows)

    def _count(self, row: dict[str, Any], key: str) -> int:
        value = row.get(key)
        if type(value) is not int or not 0 < value < 1_000_000:
            self._fail(key)
        return value

    def _value(self, row: Any, path: str) -> float | None:
        """The number at a path such as "gap_ms.p50"; None where it was not measured."""
        for key in path.split("."):
            if row is None:
                return None
            if not isinstance(row, dict):
                self._fail(path)
            row = row.get(key)
        if row is not None and (type(row) not in (int, float) or not (0 <= row < 1e15 and math.isfinite(row))):
            self._fail(path)
        return None if row is None else float(row)

    def _fail(self, key: str) -> NoReturn:
        raise InputError(f"{self._name} is a damaged report (see its {key!r}): measure again")


def comparison_table(a: Report, b: Report, names: tuple[str, str] = ("a", "b")) -> Group:
    """Both reports as a table for people. Raises RequestError as `compare`."""
    rows = compare(a, b, names)
    table = Table("figure", "a", "b", "b / a", "better is", "b is")
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        style = {"better": "green", "worse": "red"}.get(row.verdict)
        table.add_row(
            row.name,
            f"{row.a:.4g}",
            f"{row.b:.4g}",
            ratio,
            "more" if row.more_is_better else "less",
            Text(row.verdict, style or ""),
        )
    heads = [
        Text(f"{letter}: {name}: {_Reader(report, name).headline()}")
        for letter, name, report in zip("ab", names, (a, b), strict=True)
    ]
    return Group(*heads, table)
