"""Options of the commands: tyro over frozen dataclasses, with our own hints for mistakes.

tyro names the nearest option for an unknown one, but not the nearest choice for a mistyped
value; here both are one short line.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from typing import Any

from .config_files import choices, field_types
from .errors import UsageError
from .suggest import nearest, nearest_key


def parse(kind: Any, arguments: Sequence[str], program: str, default: Any = None) -> Any:
    """A frozen dataclass out of command-line arguments.

    Args:
        kind: the dataclass, or a generic one with its argument; a field annotated with
            `tyro.conf.arg(name="")` lends its own fields to the top level.
        arguments: what follows the command's words.
        program: the command's words, for the help.
        default: values of what is not given.

    Raises:
        UsageError: an unknown option or choice; the nearest valid one is named.
        SystemExit: what tyro itself finds (a number that is none), with exit code 2; or
            `--help`, with 0.
    """
    import tyro

    check_options(arguments, option_types(kind), program)
    return tyro.cli(kind, prog=program, args=list(arguments), default=default)


def option_types(kind: Any) -> dict[str, Any]:
    """Dotted option to type, as `parse` takes them (a nameless field's keys have no prefix)."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin is not None:
        # Options around a config of some kind, which the type's argument names.
        own = field_types(origin)
        own.pop("config", None)
        return {**field_types(of[0]), **own}
    found = field_types(kind)
    return {key.removeprefix("config."): hint for key, hint in found.items()}


def check_options(arguments: Sequence[str], known: dict[str, Any], program: str) -> None:
    """Checks every `--key` and the values of every choice.

    Raises:
        UsageError: naming the nearest valid key or value.

    Examples:
        >>> from byways.experiments.config_files import field_types
        >>> check_options(["--model.moe.num-experts", "4"], field_types(), "byways train")
        >>> check_options(["--num-expert", "4"], field_types(), "byways train")
        Traceback (most recent call last):
            ...
        byways.experiments.errors.UsageError: unknown option '--num-expert'; did you mean \
'--model.moe.num-experts'? `byways train --help` lists all
    """
    for key, values in _options(arguments):
        name, negated = _known(key, known)
        if name is None:
            found = nearest_key(key, known)
            hint = f"; did you mean '--{found.replace('_', '-')}'?" if found else "."
            raise UsageError(f"unknown option '--{key}'{hint} `{program} --help` lists all")
        allowed = choices(known[name])
        if negated or not allowed:
            continue
        for value in values:
            if value not in allowed:
                found = nearest(value, allowed)
                hint = f"; did you mean '{found}'?" if found else "."
                raise UsageError(
                    f"invalid choice '{value}' for '--{key}'{hint} Valid: {', '.join(allowed)}"
                )


def _options(arguments: Sequence[str]) -> Iterable[tuple[str, list[str]]]:
    """Every `--key` with the values that follow it."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            key, equals, value = argument[2:].partition("=")
            found.append((key, [value] if equals else []))
        elif found:
            found[-1][1].append(argument)
    return [(key, values) for key, values in found if key != "help"]


def _known(key: str, known: dict[str, Any]) -> tuple[str | None, bool]:
    """The field that an option sets, and whether it is its `no-` form."""
    plain = key.replace("-", "_")
    if plain in known:
        return plain, False
    parent, dot, leaf = plain.rpartition(".")
    positive = parent + dot + leaf.removeprefix("no_")
    if leaf.startswith("no_") and known.get(positive) is bool:
        return positive, True
    return None, False


def pick_name(arguments: Sequence[str], what: str, program: str) -> tuple[str, list[str]]:
    """The name that a command starts with, and the arguments after it.

    Raises:
        UsageError: there is none.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"name the {what} first: {program} {what.upper().replace(' ', '_')} …")
    return arguments[0], list(typing.cast(Sequence[str], arguments[1:]))


def take_option(arguments: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """The arguments without `--name VALUE` (or `--name=VALUE`), and the value.

    Raises:
        UsageError: no value follows.

    Examples:
        >>> take_option(["--steps", "3", "--model-from", "vit"], "model-from")
        (['--steps', '3'], 'vit')
    """
    rest, found, words = [], None, iter(arguments)
    for word in words:
        key, equals, value = word.partition("=")
        if key.replace("_", "-") != f"--{name}":
            rest.append(word)
            continue
        found = value if equals else next(words, "")
        if not found or found.startswith("--"):
            raise UsageError(f"--{name} needs a value after it")
    return rest, found
