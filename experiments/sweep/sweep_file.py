"""A sweep as a file, YAML or JSON: read, and its outer shape checked."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config_files import flatten
from ..errors import UsageError
from ..suggest import nearest, unknown

NAMED = Path(__file__).parent / "named"
SUFFIXES = (".yaml", ".yml", ".json")
KEYS = ("name", "description", "preset", "base", "grid", "runs", "seeds")
RUN_KEYS = ("name", "preset", "begins_with", "upcycled")


@dataclasses.dataclass(frozen=True)
class SweepFile:
    """What a sweep's file says; keys of configs are still as written.

    Attributes:
        name: of the sweep, a folder's name.
        preset: of all runs that name none; None where each does.
        base: dotted key to value, of every run.
        grid: dotted key to values, all combinations of which are run.
        runs: entries that are each combined with the grid: `name`, `preset`, `begins_with`,
            `upcycled`, and dotted keys.
        seeds: short for `seed` in the grid; None where it is not given.
    """

    name: str
    preset: str | None = None
    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    grid: Mapping[str, list[Any]] = dataclasses.field(default_factory=dict)
    runs: tuple[Mapping[str, Any], ...] = ({},)
    seeds: tuple[int, ...] | None = None


def shipped() -> list[str]:
    """Names of the sweeps that ship."""
    return sorted(path.stem for path in NAMED.glob("*.yaml"))


def find_sweep(source: str) -> Path:
    """The file that is meant: a path, or the name of one that ships.

    Raises:
        UsageError: there is none.
    """
    path = Path(source)
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        if path.is_file():
            return path
        raise UsageError(
            f"{path} is no file; name a sweep's file, or one of {', '.join(shipped())}"
        )
    named = NAMED / f"{source}.yaml"
    if named.is_file():
        return named
    raise UsageError(unknown("sweep", source, shipped()) + "; or name a file, as sweep.yaml")


def read_sweep(path: Path) -> SweepFile:
    """Reads a sweep's file.

    Raises:
        UsageError: it cannot be read, or says something else than a sweep.
    """
    try:
        text = path.read_text()
        data = _json(text) if path.suffix == ".json" else _yaml(text)
        _check_tree(data, str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise UsageError(
            f"{path} is nested without end, or far deeper than any config: a sweep's file has a "
            "few levels"
        ) from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise UsageError(f"{path} is not {kind}: {error}") from error
    return parse_sweep(data, str(path), path.stem)


def parse_sweep(data: Any, where: str, name: str) -> SweepFile:
    """What a file holds, as a `SweepFile`.

    Args:
        data: as YAML or JSON gave it.
        where: the file, for messages.
        name: of the sweep that has none.

    Raises:
        UsageError: an unknown key, something of another shape, an empty list.
    """
    if not isinstance(data, Mapping):
        raise UsageError(
            f"{where} holds {_shown(data)}; a mapping of {', '.join(KEYS)} is expected"
        )
    for key in data:
        if key not in KEYS:
            hint = ""
            if "." in str(key) or nearest(str(key), KEYS) is None:
                hint = "; a config's key goes below `base:`"
            raise UsageError(f"{where}: {unknown('key', str(key), KEYS)}{hint}")
    grid = _flat(_mapping(data, "grid", where), where)
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UsageError(
                f"{where}: grid '{key}' is {_shown(values)}; a list of one value or more is "
                "expected"
            )
    seeds = data.get("seeds")
    if seeds is not None:
        good = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
        if not good or not seeds:
            raise UsageError(f"{where}: seeds is {_shown(seeds)}; a list as [0, 1, 2] is expected")
        if "seed" in grid:
            raise UsageError(f"{where}: both seeds and a grid of seed are given; leave one out")
    given = data.get("name")
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
        raise UsageError(
            f"{where}: name is {_shown(given)}; a text is expected (in quotes, if it is a word "
            "that YAML reads otherwise, as no)"
        )
    return SweepFile(
        name if given is None else str(given),
        data.get("preset"),
        _flat(_mapping(data, "base", where), where),
        grid,
        tuple(_runs(data, where)),
        None if seeds is None else tuple(seeds),
    )


def _runs(data: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    runs = data.get("runs", [{}])
    if not isinstance(runs, list) or not runs:
        raise UsageError(f"{where}: runs is {_shown(runs)}; a list of one or more is expected")
    found = []
    for number, run in enumerate(runs, 1):
        if not isinstance(run, Mapping):
            raise UsageError(
                f"{where}: run {number} is {_shown(run)}; `key: value` lines are expected"
            )
        upcycled = run.get("upcycled", False)
        if not isinstance(upcycled, bool):
            raise UsageError(
                f"{where}: run {number}: upcycled is {_shown(upcycled)}; true or false is expected"
            )
        found.append(_flat(run, where))
    return found


def _flat(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`flatten`, but that one value given in two ways is an error: the later would win unseen."""
    flat = flatten(data)
    seen: dict[str, str] = {}
    for key in _dotted(data, where):
        plain = key.replace("-", "_")
        if plain in seen:
            raise UsageError(
                f"{where}: '{plain}' is given twice (as '{seen[plain]}' and '{key}', nested or "
                "dotted); leave one out"
            )
        seen[plain] = key
    return flat


def _dotted(data: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            if not value:
                raise UsageError(
                    f"{where}: '{prefix}{key}' is empty; give it values or leave it out"
                )
            yield from _dotted(value, where, f"{prefix}{key}.")
        else:
            yield prefix + key


def _check_tree(data: Any, where: str) -> None:
    """Raises:
    UsageError: a key that is no text.
    RecursionError: something that holds itself, as YAML's anchors allow.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str):
                raise UsageError(
                    f"{where}: the key {key!r} is no text; keys are names, as steps or model.depth"
                )
            _check_tree(value, where)
    elif isinstance(data, list):
        for value in data:
            _check_tree(value, where)


def _mapping(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = data.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise UsageError(f"{where}: {key} is {_shown(found)}; `key: value` lines are expected")
    return found


def _json(text: str) -> Any:
    """JSON, but that a key given twice is an error.

    Raises:
        ValueError: it is not JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"'{twice}' is given twice in one object")
        return found

    return json.loads(text, object_pairs_hook=once)


def _yaml(text: str) -> Any:
    """YAML, but that a key given twice is an error, `1e-3` a number, and `010` or `1:30` none.

    Raises:
        ValueError: it is not YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [child.value for child, _ in node.value]
            for key in keys:
                if isinstance(key, str) and keys.count(key) > 1:
                    line = node.start_mark.line + 1
                    raise ValueError(f"'{key}' is given twice in the mapping at line {line}")
            return super().construct_mapping(node, deep)

    def whole(loader: Loader, node: Any) -> int:
        # Which YAML 1.1 reads to the base of 8 or 60.
        if re.fullmatch(r"[-+]?0[0-7_]+", node.value) or ":" in node.value:
            read = loader.construct_yaml_int(node)
            raise ValueError(
                f"{node.value} at line {node.start_mark.line + 1} means {read} in YAML; write "
                f"{read}, or '{node.value}' if it is a text"
            )
        return loader.construct_yaml_int(node)

    Loader.add_constructor("tag:yaml.org,2002:int", whole)
    # YAML 1.1 wants a point and a sign in the exponent, and takes 1e-3 for a word.
    number = re.compile(r"[-+]?\d[\d_]*(?:\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
