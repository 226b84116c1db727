"""What a caller gave is of the right kind and within its bounds, or one sentence says which parameter is not.

A check takes a value of any kind and the name of its parameter, and raises RequestError. `arguments` puts checks in
front of a function, so that its body sees what its annotations promise.
"""

import contextlib
import functools
import inspect
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from fte.errors import FteError, RequestError

Check = Callable[[object, str], object]
"""(value, name of its parameter) -> the value, or RequestError."""
F = TypeVar("F", bound=Callable[..., Any])

_SHOWN_CHARACTERS = 60


def arguments(**checks: Check) -> Callable[[F], F]:
    """Hold the named arguments of a function against checks before it runs; defaults are not looked at."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **named: Any) -> Any:
            given = signature.bind(*args, **named).arguments
            for name, check in checks.items():
                if name in given:
                    check(given[name], name)
            return function(*args, **named)

        return cast(F, checked)

    return decorate


def shown(value: object) -> str:
    """A value of any kind in a few characters that any terminal can show; of large things their kind alone."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a value too long to show"
    if value is None or isinstance(value, str | bytes | numbers.Number):
        short: Any = value[: _SHOWN_CHARACTERS + 1] if isinstance(value, str | bytes) else value
        written = ascii(short.item() if hasattr(short, "item") else short)
        return written if len(written) <= _SHOWN_CHARACTERS else f"{written[: _SHOWN_CHARACTERS - 3]}..."
    return f"of type {type(value).__name__}"


def refuse(value: object, name: str, expected: str) -> FteError:
    """The error for a value that is not what was expected."""
    return RequestError(f"{name} is {shown(value)}: give {expected}")


def text(value: object, name: str) -> str:
    """Characters."""
    if not isinstance(value, str):
        raise refuse(value, name, "a text")
    return value


def number(value: object, name: str, least: float, most: float) -> float:
    """A real number within bounds, which NaN never is, nor a truth value."""
    if not isinstance(value, bool) and isinstance(value, numbers.Real) and least <= cast(float, value) <= most:
        with contextlib.suppress(OverflowError):  # a whole number beyond all floats
            return float(value)
    raise refuse(value, name, f"a number from {least:g} to {most:g}")


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number within bounds, and no truth value."""
    is_kind = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_kind and bool(least <= cast(int, value) <= most)


def whole(value: object, name: str, least: int, most: int) -> int:
    """A whole number within bounds."""
    if not is_whole(value, least, most):
        raise refuse(value, name, f"a whole number from {least} to {most}")
    return int(cast(int, value))


def integer(value: object, name: str) -> int:
    """A whole number of 64 bits; of what size, somebody else checks."""
    if not is_whole(value, -(1 << 63), (1 << 63) - 1):
        raise refuse(value, name, "a whole number")
    return int(cast(int, value))


def flag(value: object, name: str) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise refuse(value, name, "True or False")
    return value


def path(value: object, name: str) -> Path:
    """The path of a file or folder, which the system could have."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str) or not found:
        raise refuse(found, name, "the path of a file or folder")
    if "\0" in found:
        raise RequestError(f"cannot read or write {name}: its path has a null character in it")
    try:
        os.fsencode(found)
    except UnicodeEncodeError as error:
        raise RequestError(f"cannot read or write {name}: its path has half of a surrogate pair in it") from error
    return Path(found)


def anything(value: object, _name: str) -> object:
    """What somebody else checks."""
    return value


def kind(expected: type, article: str = "a") -> Check:
    """A check for objects of a class."""

    def check(value: object, name: str) -> object:
        if not isinstance(value, expected):
            raise refuse(value, name, f"{article} {expected.__name__}")
        return value

    return check


def within(least: float, most: float) -> Check:
    """A check for numbers within bounds."""
    return lambda value, name: number(value, name, least, most)


def wholes(least: int, most: int) -> Check:
    """A check for whole numbers within bounds."""
    return lambda value, name: whole(value, name, least, most)


def optional(check: Check) -> Check:
    """A check that lets None pass."""
    return lambda value, name: None if value is None else check(value, name)


def each(check: Check) -> Check:
    """A check for a list or tuple whose entries all pass."""

    def check_entries(value: object, name: str) -> object:
        if not isinstance(value, list | tuple):
            raise refuse(value, name, "a list")
        for index, entry in enumerate(value):
            check(entry, f"{name}[{index}]")
        return value

    return check_entries


def mapping(keys: Check, values: Check) -> Check:
    """A check for mappings whose keys and values all pass."""

    def check_entries(value: object, name: str) -> object:
        if not isinstance(value, Mapping):
            raise refuse(value, name, "a mapping")
        for key, entry in value.items():
            keys(key, f"a key of {name}")
            values(entry, f"{name}[{shown(key)}]")
        return value

    return check_entries


def pair(first: Check, second: Check) -> Check:
    """A check for lists or tuples of two."""

    def check_entries(value: object, name: str) -> object:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise refuse(value, name, "a pair")
        first(value[0], f"{name}[0]")
        second(value[1], f"{name}[1]")
        return value

    return check_entries


def floats(axes: int | None = None, most: float | None = None) -> Check:
    """A check for arrays (or lists) as `array` makes it."""
    return lambda value, name: array(value, name, axes, most)


def as_array(value: object, name: str) -> Any:
    """``value`` as numpy's array of whatever kind, which nested lists of unlike lengths are not."""
    import numpy as np  # here, for bundles are read without it

    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise refuse(value, name, "an array of numbers") from error


def array(value: object, name: str, axes: int | None = None, most: float | None = None) -> Any:
    """``value`` as an array of real numbers, with so many axes, and finite and of a magnitude of at most ``most``."""
    values = as_array(value, name)
    if values.dtype.kind not in "fiu" or axes not in (None, values.ndim):
        shape = "" if axes is None else f" with {axes} {'axis' if axes == 1 else 'axes'}"
        raise RequestError(f"{name} is {values.dtype} of shape {values.shape}: give an array of numbers{shape}")
    if most is not None:
        magnitude(values, name, most)
    return values


def magnitude(values: Any, name: str, most: float) -> None:
    """Raise RequestError, naming the worst value, unless all are finite and of a magnitude of ``most`` at most."""
    import numpy as np

    lowest, highest = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not np.isfinite(values).all():
        raise RequestError(f"{name} has values that are not finite: give finite numbers from {-most:g} to {most:g}")
    if max(-lowest, highest) > most:
        worst = lowest if -lowest > highest else highest
        raise RequestError(f"{name} has the value {worst:g}: give numbers from {-most:g} to {most:g}")


def one_of(options: Sequence[str]) -> Check:
    """A check for one of some words."""

    def check(value: object, name: str) -> object:
        if not isinstance(value, str) or value not in options:
            raise refuse(value, name, f"{', '.join(options[:-1])} or {options[-1]}")
        return value

    return check
