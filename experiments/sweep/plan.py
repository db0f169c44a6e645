"""A plan: runs with their whole configs, and which of them begin with another's weights."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from ..config import Experiment
from ..errors import UsageError
from .identity import config_hash


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run.

    Attributes:
        name: unique in the plan, and a file's name.
        config: all that it depends on, but for the weights that it begins with.
        preset: whose config it was, for the record.
        begins_with: name of a run of the plan whose trained weights it begins with.
        upcycled: these are first grown into the sparse model of this config.
    """

    name: str
    config: Experiment
    preset: str
    begins_with: str | None = None
    upcycled: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """Runs, and where they are.

    Attributes:
        name: of the plan.
        folder: holds a folder for each run.
        runs: a run comes after the one that it begins with.
    """

    name: str
    folder: Path
    runs: tuple[PlannedRun, ...]

    def __post_init__(self) -> None:
        names: set[str] = set()
        for run in self.runs:
            if run.name in names:
                raise UsageError(f"two runs of {self.name} are called '{run.name}'; rename one")
            if run.begins_with is not None and run.begins_with not in names:
                raise UsageError(
                    f"run '{run.name}' of {self.name} begins with '{run.begins_with}', which no "
                    "run before it is called"
                )
            names.add(run.name)
        by_hash: dict[str, str] = {}
        for name, digest in self.hashes.items():
            if digest in by_hash:
                raise UsageError(
                    f"runs '{by_hash[digest]}' and '{name}' of {self.name} are the same: no "
                    "value of their configs differs; leave one out, or give it another seed"
                )
            by_hash[digest] = name

    def run(self, name: str) -> PlannedRun:
        """The run of that name."""
        return next(run for run in self.runs if run.name == name)

    def folder_of(self, run: PlannedRun) -> Path:
        """Its run folder."""
        return self.folder / run.name

    def grown(self, run: PlannedRun) -> Path:
        """Where the model is that an upcycled run begins with."""
        return self.folder / ".begin" / run.name

    def config_of(self, run: PlannedRun) -> Experiment:
        """Its config with the folder of the weights that it begins with."""
        if run.begins_with is None:
            return run.config
        base = self.grown(run) if run.upcycled else self.folder_of(self.run(run.begins_with))
        return dataclasses.replace(run.config, init=(str(base),))

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """What makes each run what it is: 12 hex digits of its config and of its base's."""
        found: dict[str, str] = {}
        for run in self.runs:
            base = None if run.begins_with is None else found[run.begins_with]
            found[run.name] = config_hash(run.config, base, run.upcycled)
        return found

    def hash_of(self, name: str) -> str:
        """The hash of the run of that name."""
        return self.hashes[name]
