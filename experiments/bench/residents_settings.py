"""What `byways bench residents` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..errors import UsageError

Stream = Literal["art", "noise"]


@dataclasses.dataclass(frozen=True)
class BenchResidents:
    """A V-MoE with K = 1, dropless, whose experts lie in a mapped file but for a budget of them.

    Attributes:
        budgets: bytes on the device, in percent of all experts' bytes.
        batches: images at a time; each size is a benchmark of its own.
        streams: `art`, emoji in the data set's order, which an untrained router sends to few
            experts; `noise`, which it spreads.
        images: of a stream; a round takes all of them.
        width: D.
        hidden: H.
        depth: L, every second block sparse.
        experts: E.
        patch: pixels; an image has 32 x 32.
        together: experts of equal buckets that share a node.
        repeats: rounds; in each, every road is timed once, in turns.
        seed: of the parameters.
    """

    budgets: tuple[int, ...] = (100, 50, 25)
    batches: tuple[int, ...] = (1, 8)
    streams: tuple[Stream, ...] = ("art", "noise")
    images: int = 32
    width: int = 256
    hidden: int = 1024
    depth: int = 4
    experts: int = 32
    patch: int = 4
    together: int = 1
    repeats: int = 10
    seed: int = 0

    @property
    def expert_bytes(self) -> int:
        """Of one expert, float32."""
        return 4 * (2 * self.width * self.hidden + self.hidden + self.width)

    @property
    def all_bytes(self) -> int:
        """Of all experts."""
        return self.depth // 2 * self.experts * self.expert_bytes


def check_residents(settings: BenchResidents) -> BenchResidents:
    """The settings, if they make a model that can run.

    Raises:
        UsageError: they do not; which value, and what it must be.
    """
    for field in dataclasses.fields(BenchResidents):
        value = getattr(settings, field.name)
        if field.name == "streams":
            if not value:
                raise UsageError("--streams: name art, noise or both")
        elif isinstance(value, tuple):
            if not value or min(value) < 1:
                said = " ".join(map(str, value)) or "nothing"
                raise UsageError(f"--{field.name} {said}: give numbers of 1 or more")
        elif field.name != "seed" and value < 1:
            raise UsageError(f"--{field.name} {value}: must be at least 1")
    if settings.depth < 2:
        raise UsageError(f"--depth {settings.depth}: every second block is sparse, so 2 or more")
    if 32 % settings.patch:
        raise UsageError(f"--patch {settings.patch} does not divide an image of 32 pixels")
    if settings.width % 4:
        raise UsageError(f"--width {settings.width} does not divide by the 4 heads")
    for batch in settings.batches:
        if settings.images % batch:
            raise UsageError(f"--images {settings.images} do not cut into batches of {batch}")
    least = min(settings.together, settings.experts) * settings.expert_bytes
    for budget in settings.budgets:
        if settings.all_bytes * budget // 100 < least:
            raise UsageError(
                f"--budgets {budget}: that is {settings.all_bytes * budget // 100:,} bytes, and "
                f"--together {settings.together} experts have {least:,}"
            )
    return settings
