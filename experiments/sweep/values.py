"""Values of a config by their dotted keys, as a sweep's file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ..config import Experiment
from ..config_files import field_types, from_dict, to_dict
from ..errors import UsageError
from ..suggest import nearest_key

C = TypeVar("C", bound=Experiment)


def with_values(config: C, values: Mapping[str, Any]) -> C:
    """A config with some values changed.

    Args:
        config: is not changed.
        values: by dotted key, hyphens as good as underscores; lists for tuples, None for null.

    Raises:
        UsageError: an unknown key; the nearest one is named.
        ConfigError: values of another type.

    Examples:
        >>> from byways.experiments.presets import preset
        >>> with_values(preset("limoe_tiny"), {"model.moe.num-experts": 4}).model.moe.num_experts
        4
    """
    data = to_dict(config)
    known = field_types(type(config))
    for given, value in values.items():
        key = known_key(given, known)
        place = data
        *parents, leaf = key.split(".")
        for parent in parents:
            place = place[parent]
        place[leaf] = list(value) if isinstance(value, tuple) else value
    return from_dict(data, type(config))


def known_key(given: Any, known: Mapping[str, Any], where: str = "") -> str:
    """The config's key that is meant.

    Args:
        given: as in the file.
        known: keys that there are.
        where: of the file, for the message: ` in grid`.

    Raises:
        UsageError: there is no such key; the nearest one is named.
    """
    key = str(given).replace("-", "_")
    if key in known:
        return key
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        raise UsageError(
            f"key '{given}'{where} holds several values: name one of them, as '{inside[0]}'"
        )
    found = nearest_key(key, known)
    hint = f"; did you mean '{found}'?" if found else ""
    raise UsageError(f"unknown key '{given}'{where}{hint} (`byways config show PRESET` lists all)")
