"""From a sweep's file to its plan: grid × runs × seeds, whole configs, names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import Experiment
from ..config_files import field_types
from ..errors import ConfigError, UsageError
from ..presets import preset
from .names import check_name, run_name
from .plan import Plan, PlannedRun
from .sweep_file import RUN_KEYS, SweepFile
from .values import known_key, with_values

ROOT = Path("runs") / "sweeps"
# More are a slip of the pen, whose plan would fill the memory.
MOST = 10_000


def plan_of(sweep: SweepFile, root: Path = ROOT) -> Plan:
    """The plan of a sweep: all runs of one seed before the next one's.

    Args:
        sweep: as its file says.
        root: the sweep's folder is made in it.

    Raises:
        UsageError: an unknown key or preset, two runs with one name or one config, a run that
            begins with none of them or, round about, with itself.
        ConfigError: values of another type.
    """
    check_name(sweep.name, "sweep")
    count = math.prod(map(len, [*sweep.grid.values(), sweep.seeds or (0,), sweep.runs]))
    if count > MOST:
        raise UsageError(
            f"{sweep.name} would be {count:,} runs, and at most {MOST:,} are planned at once; give "
            "fewer values"
        )
    entries = _Entries(sweep)
    runs = []
    for seed in sweep.seeds or (None,):
        seeds = {} if seed is None else {"seed": seed}
        for number in entries.order():
            runs += [entries.planned(number, {**cell, **seeds}) for cell in _cells(sweep.grid)]
    return Plan(sweep.name, root / sweep.name, tuple(runs))


def _cells(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


class _Entries:
    """The entries of a file's `runs`, each of which makes a run in every cell of the grid."""

    def __init__(self, sweep: SweepFile):
        self.sweep = sweep
        self.names = [run.get("name") for run in sweep.runs]
        given = [name for name in self.names if name is not None]
        for name in given:
            check_name(name, "run")
            if given.count(name) > 1:
                raise UsageError(f"two runs of {sweep.name} are called '{name}'; rename one")

    def order(self) -> list[int]:
        """Numbers of the entries, each after the one that it begins with."""
        found: list[int] = []
        for number in range(len(self.names)):
            chain = [number]
            while (base := self.base(chain[-1])) is not None:
                if base in chain:
                    names = " → ".join(str(self.names[one]) for one in [*chain, base])
                    raise UsageError(f"runs of {self.sweep.name} begin with each other: {names}")
                chain.append(base)
            found += [one for one in reversed(chain) if one not in found]
        return found

    def base(self, number: int) -> int | None:
        """The entry that one begins with."""
        run = self.sweep.runs[number]
        name = run.get("begins_with")
        if name is None:
            if run.get("upcycled"):
                raise UsageError(
                    f"{self._words(number)} is upcycled, but says not of what: add "
                    "`begins_with: NAME` of a dense run"
                )
            return None
        if name not in self.names:
            names = ", ".join(str(one) for one in self.names if one) or "no run has a name"
            raise UsageError(
                f"{self._words(number)} begins with '{name}', which is no run of "
                f"{self.sweep.name} ({names})"
            )
        return self.names.index(name)

    def planned(self, number: int, cell: Mapping[str, Any]) -> PlannedRun:
        """The run of an entry in one cell of the grid."""
        run, base = self.sweep.runs[number], self.base(number)
        named, start = self._start(number)
        known = field_types(type(start))
        own = {key: value for key, value in run.items() if key not in RUN_KEYS}
        layers = {"base": self.sweep.base, "runs": own, "grid": cell}
        resolved = {
            where: {known_key(key, known, f" in {where}"): value for key, value in values.items()}
            for where, values in layers.items()
        }
        both = resolved["runs"].keys() & resolved["grid"].keys()
        if both:
            raise UsageError(
                f"{self._words(number)} sets {', '.join(sorted(both))}, which the grid (or seeds) "
                "sets too; leave one out"
            )
        if base is not None and any("init" in values for values in resolved.values()):
            raise UsageError(f"{self._words(number)} has init and begins_with; leave one out")
        name = self._name(number, resolved["grid"])
        try:
            config = with_values(
                start, {**resolved["base"], **resolved["runs"], **resolved["grid"]}
            )
        except ConfigError as error:
            raise ConfigError([f"run {name}: {problem}" for problem in error.problems]) from None
        before = None if base is None else self._name(base, resolved["grid"])
        return PlannedRun(name, config, named, before, bool(run.get("upcycled", False)))

    def _start(self, number: int) -> tuple[str, Experiment]:
        """The preset of an entry, by name and whole."""
        named = self.sweep.runs[number].get("preset", self.sweep.preset)
        if not isinstance(named, str):
            raise UsageError(
                f"{self._words(number)} has no preset; add `preset: NAME` to it or to the sweep "
                "(`byways presets` lists them)"
            )
        return named, preset(named)

    def _name(self, number: int, cell: Mapping[str, Any]) -> str:
        run = self.sweep.runs[number]
        named, start = self._start(number)
        known = field_types(type(start))
        head, shown = self.names[number], dict(cell)
        if head is None:
            own = {known_key(k, known): value for k, value in run.items() if k not in RUN_KEYS}
            shown = {**own, **shown}
            head = named if "preset" in run or not shown else ""
        return run_name(head, shown, known)

    def _words(self, number: int) -> str:
        name = self.names[number]
        return (
            f"run '{name}' of {self.sweep.name}"
            if name
            else f"run {number + 1} of {self.sweep.name}"
        )
