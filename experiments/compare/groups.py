"""Runs that differ only in their seed, as groups with short names."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import kind_of
from ..config_files import flatten, to_dict
from ..errors import ConfigError, RunError
from ..files import canonical_json
from ..run_folder import RunFolder
from .reading import ReadRun

# More differing keys than this are no name; that of the preset, or of the folders, is better.
_MOST_KEYS = 3
_LONGEST = 60


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one config and several seeds.

    Attributes:
        label: what tells it from the other groups, in short.
        preset: of its runs.
        differs: dotted keys whose values are not the same in all groups, with its own.
        runs: by seed.
    """

    label: str
    preset: str
    differs: Mapping[str, Any]
    runs: tuple[ReadRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its runs."""
        return tuple(run.seed for run in self.runs)


def group_runs(runs: Sequence[ReadRun]) -> list[Group]:
    """Groups in the order of their first runs.

    Raises:
        RunError: two runs have the same config and the same seed.
    """
    by_key: dict[bytes, list[ReadRun]] = {}
    configs: dict[bytes, dict[str, Any]] = {}
    for run in runs:
        config = _seedless(run)
        key = canonical_json(config)
        configs[key] = flatten(config)
        twin = next((r for r in by_key.get(key, []) if r.seed == run.seed), None)
        if twin is not None:
            raise RunError(
                f"{twin.path} and {run.path} are the same run (one config, seed {run.seed}), and "
                "would be counted as two seeds; leave one out"
            )
        by_key.setdefault(key, []).append(run)
    differing = _differing(list(configs.values()))
    shown = [{key: configs[name].get(key, "(absent)") for key in differing} for name in by_key]
    groups = [sorted(found, key=lambda run: run.seed) for found in by_key.values()]
    labels = _labels(groups, shown)
    return [
        Group(label, found[0].preset, differs, tuple(found))
        for label, found, differs in zip(labels, groups, shown, strict=True)
    ]


def stem(name: str, seed: int) -> str:
    """The name of a run's folder without its seed.

    Examples:
        >>> [stem("experts-8_seed-2", 2), stem("dense-s0", 0), stem("dense0", 0), stem("a-10", 0)]
        ['experts-8', 'dense', 'dense', 'a-10']
    """
    return re.sub(rf"([-_.](seed|s)?[-_=]?)?(?<!\d){seed}$", "", name) or name


def _seedless(run: ReadRun) -> dict[str, Any]:
    """The config with neither the seed, nor the seeds of the runs whose weights it begins with."""
    found = {"kind": kind_of(run.config), **to_dict(run.config)}
    seed = found.pop("seed")
    found["init"] = [_beginning(text, seed, run.path.parent) for text in found["init"]]
    return found


def _beginning(text: str, seed: int, beside: Path) -> str:
    """What stands for a folder of `init`: of a run its config; of a model grown for this run of a
    sweep its name; both without the seed."""
    place, equals, folder = text.rpartition("=")
    path = Path(folder)
    if path.parent.name == ".begin":
        return f"{place}{equals}{path.parent / stem(path.name, seed)}"
    try:
        # A sweep's folder may have moved, or is named from elsewhere: its runs lie together.
        there = path if (path / "config.json").is_file() else beside / path.name
        config, preset = RunFolder(there).read()
    except (RunError, ConfigError):
        return text
    base = {key: value for key, value in to_dict(config).items() if key not in ("seed", "init")}
    digest = hashlib.sha256(canonical_json({"preset": preset, **base})).hexdigest()[:6]
    return f"{place}{equals}{stem(path.name, config.seed)}#{digest}"


def _differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for config in configs for key in config)
    marker = object()
    return [
        key
        for key in keys
        if any(config.get(key, marker) != configs[0].get(key, marker) for config in configs)
    ]


def _labels(groups: Sequence[Sequence[ReadRun]], shown: Sequence[dict[str, Any]]) -> list[str]:
    presets = [
        found[0].preset or stem(found[0].path.resolve().name, found[0].seed) for found in groups
    ]
    if len(groups) == 1:
        return presets
    keys = list(shown[0])
    by_keys = [
        " ".join(f"{_short(key, keys)}={_text(value)}" for key, value in differs.items())
        for differs in shown
    ]
    if len(set(presets)) == len(presets):
        return presets
    unique = len(set(by_keys)) == len(by_keys)
    if unique and len(keys) <= _MOST_KEYS and max(map(len, by_keys)) <= _LONGEST:
        return by_keys
    # Within a preset, what differs there.
    within = []
    for preset, differs in zip(presets, shown, strict=True):
        mates = [s for p, s in zip(presets, shown, strict=True) if p == preset]
        own = [key for key in _differing(mates) if key != "init"]
        words = [f"{_short(key, keys)}={_text(differs[key])}" for key in own]
        within.append(" ".join([preset, *words]))
    if len(set(within)) == len(within) and max(map(len, within)) <= _LONGEST:
        return within
    stems = [stem(found[0].path.resolve().name, found[0].seed) for found in groups]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{name} ({number})" for number, name in enumerate(stems, 1)]


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key; more of it where two would be called alike."""
    parts = key.split(".")
    for size in range(1, len(parts) + 1):
        name = ".".join(parts[-size:])
        if sum(other == key or other.endswith(f".{name}") for other in keys) == 1:
            return name
    return key


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
