"""Commands and groups as typer makes them, with help, suggestions and errors that suit a user of this program."""

from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand, TyperGroup

_CLOSE = 0.6
"""How alike an option must be to be suggested, its dashes left aside: all options have those in common."""
_SHOWN_CHARACTERS = 40


class _Mended:
    """What commands and groups have in common; mixed in before typer's class."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""  # else help shows a flag as if it took a value: "--raw <bool>"
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except Exception as error:  # typer's own: they suggest what is alike, and repeat the value they refuse
            if getattr(error, "possibilities", None):
                error.possibilities = _alike(error.option_name, error.possibilities)  # type: ignore[attr-defined]
            elif getattr(error, "param", None) is not None and getattr(error, "ctx", None) is ctx:
                self._repeat_value(ctx, given, error)
            raise
        return rest

    def _repeat_value(self, ctx: Any, args: list[str], error: Any) -> None:
        given = self.make_parser(ctx).parse_args(args=args)[0].get(error.param.name)  # type: ignore[attr-defined]
        if not isinstance(given, str) or repr(given) in error.message:
            return
        shown = repr(given if len(given) <= _SHOWN_CHARACTERS else f"{given[: _SHOWN_CHARACTERS - 3]}...")
        error.message = f"{shown} was given; {error.message[:1].lower()}{error.message[1:]}"


def _alike(option: str, known: list[str]) -> list[str]:
    by_name = {name.lstrip("-"): name for name in known}
    return [by_name[name] for name in get_close_matches(option.lstrip("-"), by_name, cutoff=_CLOSE)]


class Command(_Mended, TyperCommand):
    """One command."""


class Group(_Mended, TyperGroup):
    """The commands below one name."""
