"""What `byways bench model` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchWhole:
    """A trained sparse model, a whole training step and inference, fused and by pathways.

    Attributes:
        batch: examples of a training step; 0 is the run's own batch.
        sizes: examples of an inference.
        repeats: rounds; in each, every road is timed once, in turns.
        steps: training steps of a round.
        devices: homes of the experts, virtual devices on CPU.
        score_steps: after so many further steps in the exact and in the sparse mode each, from the
            trained parameters, the validation score; 0 leaves this out.
    """

    batch: int = 0
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    repeats: int = 11
    steps: int = 1
    devices: int = 1
    score_steps: int = 0


def check_whole(settings: BenchWhole) -> None:
    """Raises UsageError for settings that cannot be measured."""
    for field in ("repeats", "steps", "devices"):
        if getattr(settings, field) < 1:
            raise UsageError(f"--{field} {getattr(settings, field)}: it must be 1 or more")
    for field in ("batch", "score_steps"):
        if getattr(settings, field) < 0:
            name = field.replace("_", "-")
            raise UsageError(f"--{name} {getattr(settings, field)}: it must be 0 or more")
    if not settings.sizes or min(settings.sizes) < 1:
        said = " ".join(map(str, settings.sizes)) or "nothing"
        raise UsageError(f"--sizes {said}: give numbers of 1 or more")
