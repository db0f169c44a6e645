"""What `byways bench transfer` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError

MEGABYTE = 2**20


@dataclasses.dataclass(frozen=True)
class BenchTransfer:
    """Arrays of several sizes from one process to another, by several ways in turns.

    Attributes:
        kilobytes: of the arrays, 1,024 bytes each, float32.
        repeats: rounds of each size; in each, every way is timed once.
        together: transfers that are timed as one, each after the last; of large arrays only as
            many as make 8 MB.
        ray: time Ray's object store too, if it is installed.
        patience: seconds for all of it, after which the other process is ended.
    """

    kilobytes: tuple[int, ...] = (1, 16, 256, 1024, 4096, 8192, 16384, 65536)
    repeats: int = 30
    together: int = 10
    ray: bool = True
    patience: float = 900.0

    def calls(self, kilobytes: int) -> int:
        """Transfers between two looks at the clock."""
        return max(1, min(self.together, 8 * MEGABYTE // (1024 * kilobytes)))


def check_transfer(settings: BenchTransfer) -> BenchTransfer:
    """The settings, if they can be measured.

    Raises:
        UsageError: which value is wrong, and what it must be.
    """
    if not settings.kilobytes or min(settings.kilobytes) < 1:
        said = " ".join(map(str, settings.kilobytes)) or "nothing"
        raise UsageError(f"--kilobytes {said}: give numbers of 1 or more")
    for field in ("repeats", "together"):
        if getattr(settings, field) < 1:
            raise UsageError(f"--{field} {getattr(settings, field)}: it must be 1 or more")
    if settings.patience <= 0:
        raise UsageError(f"--patience {settings.patience}: it must be above 0")
    return settings
