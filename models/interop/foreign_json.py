"""Settings that other libraries write beside their weights; nothing of them is trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import WeightsError

_LONGEST = 2**20


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WeightsError: the file is missing, too long, or holds no object.
    """
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LONGEST))  # one that is longer is cut, and no JSON
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({str(error)[:200]})") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: holds {type(found).__name__}, expected an object")
    return found


class Settings:
    """Values of such an object, each asked for by its type.

    Args:
        values: the object.
        where: file and path in it, for messages.
    """

    def __init__(self, values: Any, where: str):
        if not isinstance(values, Mapping):
            raise WeightsError(f"{where}: is {str(values)[:80]!r}, expected an object")
        self.values, self.where = values, where

    def part(self, key: str) -> Settings:
        """An object within; an empty one where there is none."""
        return Settings(self.values.get(key) or {}, f"{self.where}: {key}")

    def size(self, key: str, default: int) -> int:
        """A number above zero."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise self.wrong(key, "a size above 0")
        return value

    def number(self, key: str, default: float) -> float:
        """A number above zero."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise self.wrong(key, "a number above 0")
        return float(value)

    def choice(self, key: str, default: str, allowed: Mapping[str, Any]) -> Any:
        """What the mapping has for this word."""
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, f"one of {', '.join(allowed)}")
        return allowed[value]

    def channels(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Three numbers, of red, green and blue."""
        value = self.values.get(key)
        value = list(default) if value is None else value
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not all(type(item) in (int, float) and abs(item) < 1e6 for item in value)
        ):
            raise self.wrong(key, "three numbers")
        return tuple(float(item) for item in value)

    def agree(self, found: Mapping[str, int]) -> None:
        """What the object says of sizes must be what the weights say."""
        for key, size in found.items():
            value = self.values.get(key)
            if value is not None and value != size:
                raise self.wrong(key, f"{size}, as the weights have it")

    def wrong(self, key: str, expected: str) -> WeightsError:
        """The error of a value."""
        value = str(self.values.get(key))[:80]
        return WeightsError(f"{self.where}: {key} is {value!r}, expected {expected}")
