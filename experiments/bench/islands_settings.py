"""What `byways bench islands` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError
from ..suggest import unknown

NAMES = ("chain", "control", "pipeline", "experts")


@dataclasses.dataclass(frozen=True)
class BenchIslands:
    """Programs over islands that are other processes, beside plain Ray actors and one device.

    Attributes:
        nodes: of a chain.
        chains: one after the other, each on the last one's result, before that is asked for.
        size: numbers in the array that goes through them, float32.
        leaves: arrays of the model of `control`.
        steps: of training between two looks at the clock.
        layers: residual layers of the model of `pipeline`, over two stages.
        width: D of it; the hidden width is 4 D.
        batch: examples of a pipeline's step.
        micro_batches: that it is cut into; a row each.
        experts: E, expert e on island e mod 2.
        tokens: of the layer of `experts`.
        expert_width: D of it; the hidden width is 4 D.
        repeats: rounds; in each, every way is timed once, in turns.
        plain: time plain Ray too, where there is something to compare.
        address: of a running Ray; by default one is started.
    """

    nodes: int = 128
    chains: int = 4
    size: int = 3
    leaves: int = 32
    steps: int = 20
    layers: int = 9
    width: int = 512
    batch: int = 1024
    micro_batches: tuple[int, ...] = (8, 16)
    experts: int = 8
    tokens: int = 2048
    expert_width: int = 256
    repeats: int = 20
    plain: bool = True
    address: str | None = None


def check_islands(settings: BenchIslands, only: tuple[str, ...] = ()) -> BenchIslands:
    """The settings, if they can be measured.

    Raises:
        UsageError: which value is wrong, and what it must be.
    """
    for name in only:
        if name not in NAMES:
            raise UsageError(unknown("benchmark", name, NAMES))
    counts = ("nodes", "chains", "size", "leaves", "steps", "width", "batch", "tokens")
    for field in (*counts, "expert_width", "repeats"):
        if getattr(settings, field) < 1:
            said = field.replace("_", "-")
            raise UsageError(f"--{said} {getattr(settings, field)}: it must be 1 or more")
    for field in ("layers", "experts"):
        if getattr(settings, field) < 2:
            raise UsageError(f"--{field} {getattr(settings, field)}: two islands need 2 or more")
    if not settings.micro_batches or min(settings.micro_batches) < 1:
        said = " ".join(map(str, settings.micro_batches)) or "nothing"
        raise UsageError(f"--micro-batches {said}: give numbers of 1 or more")
    for count in settings.micro_batches:
        if settings.batch % count:
            raise UsageError(f"--batch {settings.batch} does not cut into {count} micro-batches")
    return settings
