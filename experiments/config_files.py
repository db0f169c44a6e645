"""Configs as JSON: nested dictionaries, their dotted keys, and what differs between two."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from ..models import config_from_json
from .config import Experiment, ExperimentConfig
from .errors import ConfigError
from .suggest import nearest_key

FORMAT = 1

_Config = TypeVar("_Config", bound=Experiment)


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as nested dictionaries that JSON gives back unchanged."""
    return {
        field.name: _to_json(getattr(config, field.name)) for field in dataclasses.fields(config)
    }


def from_dict(data: Any, kind: type[_Config] = ExperimentConfig) -> _Config:
    """The experiment config of a nested dictionary; what is left out takes its default.

    Args:
        data: as `to_dict` gives it.
        kind: of experiment.

    Raises:
        ConfigError: unknown keys (the nearest valid one named) or values of the wrong type.
    """
    known = field_types(kind)

    def hint(path: str) -> str:
        found = nearest_key(path, known)
        return f"; did you mean {found}?" if found else ""

    config, problems = config_from_json(kind, data, hint=hint)
    if problems:
        raise ConfigError(problems)
    return config


def fingerprint(config: Experiment) -> dict[str, Any]:
    """What a run's checkpoints depend on, as nested dictionaries.

    How and where a step is executed is not: a run goes on under any. Fields that came later are
    left out where they have their default, so that what was saved before them still fits.
    """
    found = to_dict(config)
    del found["execution"], found["islands"]
    if found["expert_updates"] == "exact":
        del found["expert_updates"]
    return found


def field_types(kind: type = ExperimentConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted key to type of every value in a config dataclass, in order.

    Examples:
        >>> field_types()["steps"], field_types()["model.moe.num_experts"]
        (<class 'int'>, <class 'int'>)
    """
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= field_types(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            found[prefix + name] = hint
    return found


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one of dotted keys.

    Examples:
        >>> flatten({"model": {"depth": 4}, "steps": 2})
        {'model.depth': 4, 'steps': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted keys at which two nested dictionaries differ, with (old, new).

    Examples:
        >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
        {'a.b': (1, 2)}
    """
    before, after = flatten(_json_tree(old)), flatten(_json_tree(new))
    keys = [*before, *(key for key in after if key not in before)]
    absent = "(absent)"
    return {
        key: (before.get(key, absent), after.get(key, absent))
        for key in keys
        if before.get(key, absent) != after.get(key, absent)
    }


def describe_differences(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences as text: `steps: 10 → 20; optimizer.lr: 0.1 → 0.2`."""
    return "; ".join(f"{key}: {old} → {new}" for key, (old, new) in changes.items())


def choices(hint: Any) -> tuple[str, ...] | None:
    """The values that a type's `Literal` (also inside a tuple or a union) allows, or None."""
    if typing.get_origin(hint) is Literal:
        return tuple(str(value) for value in typing.get_args(hint))
    for part in typing.get_args(hint):
        found = choices(part)
        if found:
            return found
    return None


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value


def _json_tree(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _json_tree(value)
        if isinstance(value, Mapping)
        else (list(value) if isinstance(value, tuple) else value)
        for key, value in data.items()
    }
