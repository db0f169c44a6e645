"""Config dataclasses out of JSON of unknown origin: each value of the type that its field has."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal


def config_from_json(
    kind: type,
    data: Any,
    *,
    where: str = "",
    hint: Callable[[str], str] = lambda _: "",
) -> tuple[Any, list[str]]:
    """The config that JSON's values describe; what is left out takes its default.

    Args:
        kind: a dataclass whose fields are numbers, strings, choices, tuples, other such
            dataclasses, or unions of these.
        data: what `json.loads` gave.
        where: dotted path, for the problems.
        hint: what to say after an unknown key, given its path ("; did you mean …?").

    Returns:
        The config (None where it cannot be made), and every problem found, a sentence each: unknown
        keys, values of another type, numbers that are not finite.
    """
    problems: list[str] = []
    return _build(kind, data, where, problems, hint), problems


def _build(kind: Any, data: Any, path: str, problems: list[str], hint: Callable) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(data, Mapping):
        problems.append(f"{path or 'config'} is {_shown(data)}; expected an object")
        return None
    values: dict[str, Any] = {}
    before = len(problems)
    for key, value in data.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            problems.append(f"unknown key {where[:120]}{hint(where)}")
            continue
        values[key], fits = _convert(hints[key], value, where, problems, hint)
        if not fits:
            expected = _type_name(hints[key])
            problems.append(f"{where} is {_shown(value)}; expected {expected}")
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # a value that has no default, or a config's own rule
        problems.append(f"{path or 'config'}: {error}")
        return None


def _convert(kind: Any, value: Any, path: str, problems: list, hint: Callable) -> tuple[Any, bool]:
    """The value as the type wants it, and whether it fits (int for float, list for tuple)."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, path, problems, hint), True
    if origin is Literal:
        # JSON's true equals 1, and its lists have no hash.
        return value, any(type(value) is type(one) and value == one for one in args)
    if origin in (types.UnionType, typing.Union):
        # An object is of the dataclass among the parts, so that what is wrong within it is told.
        for part in sorted(args, key=lambda part: not dataclasses.is_dataclass(part)):
            if dataclasses.is_dataclass(part) and not isinstance(value, Mapping):
                continue
            converted, fits = _convert(part, value, path, problems, hint)
            if fits:
                return converted, True
        return value, False
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return value, False
        endless = len(args) == 2 and args[1] is Ellipsis
        if not endless and len(args) != len(value):
            return value, False
        kinds = [args[0]] * len(value) if endless else list(args)
        items = [
            _convert(one, item, f"{path}[{number}]", problems, hint)
            for number, (one, item) in enumerate(zip(kinds, value, strict=True))
        ]
        return tuple(item for item, _ in items), all(fits for _, fits in items)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value), math.isfinite(value)
        except OverflowError:  # an integer beyond all floats
            return value, False
    if kind is int and isinstance(value, bool):
        return value, False
    return value, isinstance(value, kind)


def _type_name(kind: Any) -> str:
    """A field's type in words: the choices of a `Literal`, else its name."""
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
