"""What `byways bench island-training` measures. Imports no JAX, so that the command starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchIslandTraining:
    """Training over two islands beside one of them with half of the batch.

    Attributes:
        preset: what is trained; its batch is that of two islands.
        batch_size: in place of the preset's; 0 is the preset's.
        cores: that each island keeps to.
        steps: between two looks at the clock.
        repeats: rounds; in each, every way is timed once, in turns.
    """

    preset: str = "palm_tiny"
    batch_size: int = 0
    cores: int = 1
    steps: int = 5
    repeats: int = 20


def check_island_training(settings: BenchIslandTraining) -> BenchIslandTraining:
    """The settings, if they can be measured.

    Raises:
        UsageError: which value is wrong, and what it must be.
    """
    for field in ("cores", "steps", "repeats"):
        if getattr(settings, field) < 1:
            raise UsageError(f"--{field} {getattr(settings, field)}: it must be 1 or more")
    if settings.batch_size < 0 or settings.batch_size % 2:
        raise UsageError(
            f"--batch-size {settings.batch_size}: two islands take an even number, or 0 for the "
            "preset's"
        )
    return settings
