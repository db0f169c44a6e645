"""Prompts by the line: JSON objects, JSON strings, or plain text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError

# What a line may say beside its prompt, and of which type.
_KINDS: dict[str, tuple[type, ...]] = {
    "steps": (int,),
    "temperature": (int, float),
    "top_k": (int,),
    "seed": (int,),
}
# Faulty lines that are told of at once.
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class PromptLine:
    """One request.

    Attributes:
        index: of the line among those that are not blank, from 0.
        prompt: the beginning.
        options: `steps`, `temperature`, `top_k` and `seed`, where the line has its own.
        id: what the line calls itself; given back with the result.
    """

    index: int
    prompt: str
    options: dict[str, Any]
    id: Any = None

    @property
    def head(self) -> dict[str, Any]:
        """What a result begins with."""
        named = {} if self.id is None else {"id": self.id}
        return {"index": self.index, **named, "prompt": self.prompt}


@dataclasses.dataclass(frozen=True)
class Faulty:
    """A line that is no request.

    Attributes:
        index: as of `PromptLine`.
        why: what is wrong with it.
    """

    index: int
    why: str

    @property
    def head(self) -> dict[str, Any]:
        """What its result begins with."""
        return {"index": self.index}


def parse_line(text: str, index: int) -> PromptLine:
    """A line, which is not blank.

    A line that begins with a brace or a quote is JSON; any other is a prompt as it stands.

    Raises:
        ValueError: what is wrong with it.

    Examples:
        >>> parse_line("a red", 0).prompt, parse_line('"a red"', 0).prompt
        ('a red', 'a red')
        >>> parse_line('{"prompt": "a", "steps": 3, "id": "x"}', 7)
        PromptLine(index=7, prompt='a', options={'steps': 3}, id='x')
    """
    text = text.rstrip("\r\n")
    if not text.lstrip().startswith(("{", '"')):
        return PromptLine(index, text, {})
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it begins like JSON and is none ({error})") from error
    if isinstance(found, str):
        return PromptLine(index, found, {})
    prompt = found.pop("prompt", None)
    if not isinstance(prompt, str):
        raise ValueError('it has no "prompt" that is a text')
    name = found.pop("id", None)
    for key, value in found.items():
        if key not in _KINDS:
            raise ValueError(f"it has {key!r}; known are prompt, id, {', '.join(_KINDS)}")
        if isinstance(value, bool) or not isinstance(value, _KINDS[key]):
            raise ValueError(f"its {key} is {value!r}, which is no number of that kind")
    return PromptLine(index, prompt, found, name)


def parse_lines(lines: Iterable[str]) -> Iterator[PromptLine | Faulty]:
    """Those that are not blank, as they come."""
    for index, text in enumerate(line for line in lines if line.strip()):
        try:
            yield parse_line(text, index)
        except ValueError as error:
            yield Faulty(index, str(error))


def read_prompts(path: Path, check: Callable[[PromptLine], Any]) -> list[PromptLine]:
    """All lines of a file, checked before anything is computed.

    Args:
        path: of the file.
        check: raises a ValueError of a line that cannot be served.

    Raises:
        UsageError: the file cannot be read, has no prompts, or some lines are faulty (which).
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(parse_lines(file))
    except (OSError, ValueError) as error:
        raise UsageError(f"--prompts {path}: it cannot be read ({error})") from error
    if not lines:
        raise UsageError(f"--prompts {path}: it has no prompts, one a line")
    found: list[PromptLine] = []
    faults: list[str] = []
    for line in lines:
        if isinstance(line, Faulty):
            faults.append(f"prompt {line.index + 1}: {line.why}")
            continue
        try:
            check(line)
        except ValueError as error:
            faults.append(f"prompt {line.index + 1}: {error}")
        else:
            found.append(line)
    if faults:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise UsageError(f"--prompts {path}: " + "; ".join([*faults[:_SHOWN], *more]))
    return found
