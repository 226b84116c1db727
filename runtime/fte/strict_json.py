"""JSON from files that anyone may have written: one meaning or none, and no more memory than it is worth."""

import json
from typing import Any, NoReturn

VALUES = 500_000
"""Values in one document; the largest of ours, a style of 10,000 recordings, has a tenth of them."""


def parse_json(data: bytes | str) -> Any:
    """The value that ``data`` stands for.

    Raises ValueError when it is no JSON, holds a key twice in one object (readers disagree on which of the two counts),
    a number that is none (NaN, Infinity), more than VALUES values or more levels than Python follows.
    """
    signs: tuple[Any, ...] = (b",", b"{", b"[") if isinstance(data, bytes) else (",", "{", "[")
    if sum(map(data.count, signs)) > VALUES:  # no document has more values than these signs: seven bytes can cost 240
        raise ValueError(f"it has more than {VALUES} values")
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_shown(twice)} stands twice in one object")
    return found


def _shown(key: str) -> str:
    text = ascii(key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
