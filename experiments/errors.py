"""Errors that a person can mend: the command prints their message, not a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class ExperimentError(Exception):
    """Something that the user can mend. The message gives the value, the expectation, the mend.

    Attributes:
        exit_code: what `byways` exits with.
    """

    exit_code: int = 1


class UsageError(ExperimentError):
    """A command line that cannot be understood: an unknown name, key or choice."""

    exit_code = 2


class ConfigError(ExperimentError, ValueError):
    """A config whose parts do not fit together; lists every problem at once.

    Attributes:
        problems: one sentence each.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "the config has a problem" if count == 1 else f"the config has {count} problems"
        super().__init__("\n".join([f"{head}:", *(f"  - {problem}" for problem in self.problems)]))


class RunError(ExperimentError):
    """A run folder that cannot be used as asked."""


class AllIslandsLost(RunError):
    """No island of a run has the state any more; it is to be read from a checkpoint."""


class CheckpointError(ExperimentError):
    """A checkpoint that cannot be written or read."""


class Interrupted(ExperimentError):
    """The user asked to stop, and the run has saved and stopped."""

    exit_code = 130
