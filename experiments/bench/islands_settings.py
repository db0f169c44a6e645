"""What `byways bench islands` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchIslands:
    """A chain of tiny nodes on an island of another process, beside plain Ray actors.

    Attributes:
        nodes: of the chain.
        chains: one after the other, each on the last one's result, before that is asked for.
        size: numbers in the array that goes through it, float32.
        repeats: rounds; in each, every way is timed once.
        plain: time plain Ray too.
        address: of a running Ray; by default one is started.
    """

    nodes: int = 128
    chains: int = 4
    size: int = 3
    repeats: int = 20
    plain: bool = True
    address: str | None = None


def check_islands(settings: BenchIslands) -> BenchIslands:
    """The settings, if they can be measured.

    Raises:
        UsageError: which value is wrong, and what it must be.
    """
    for field in ("nodes", "chains", "size", "repeats"):
        if getattr(settings, field) < 1:
            raise UsageError(f"--{field} {getattr(settings, field)}: it must be 1 or more")
    return settings
