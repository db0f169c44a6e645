"""What `byways bench runtime` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError
from ..suggest import unknown

NAMES = ("dispatch", "parity", "order", "clients", "shares", "pipeline", "spmd")


@dataclasses.dataclass(frozen=True)
class BenchRuntime:
    """Sizes of the runtime's benchmarks.

    Attributes:
        nodes: computations of a chain.
        devices: virtual devices on CPU; the all-reduce of `dispatch` spans them all.
        repeats: rounds; in each, every road is timed once, in turns.
        lengths: of the loops of `parity`, in matrix products.
        width: D of the square matrices of the loops, and of the models' layers.
        stages: slices of `order`.
        clients: threads of `clients`.
        program: milliseconds of a client's program.
        seconds: how long clients run for one figure.
        weights: of the clients of `shares`.
        pipelines: stages of `pipeline`, each with every one of `micro_batches`.
        micro_batches: of `pipeline`.
        batch: examples of a training step.
        layers: of the model of `pipeline` and `spmd`, spread over the stages.
        steps: of training between two looks at the clock.
        ray: time Ray too, if it is installed.
        patience: seconds after which a Ray process that hangs is ended.
    """

    nodes: int = 128
    devices: int = 8
    repeats: int = 30
    lengths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    width: int = 256
    stages: tuple[int, ...] = (2, 4, 8)
    clients: tuple[int, ...] = (1, 2, 4, 8, 16)
    program: float = 0.33
    seconds: float = 2.0
    weights: tuple[tuple[int, ...], ...] = ((1, 1, 1, 1), (1, 2, 4, 8))
    pipelines: tuple[int, ...] = (2, 4)
    micro_batches: tuple[int, ...] = (8, 16)
    batch: int = 256
    layers: int = 8
    steps: int = 4
    ray: bool = True
    patience: float = 90.0


def check_runtime(settings: BenchRuntime, only: tuple[str, ...] = ()) -> None:
    """Refuses what cannot be measured.

    Raises:
        UsageError: with the setting, and what it must be.
    """
    for name in only:
        if name not in NAMES:
            raise UsageError(unknown("benchmark", name, NAMES))
    for field in ("nodes", "devices", "repeats", "width", "batch", "layers", "steps"):
        if getattr(settings, field) < 1:
            raise UsageError(f"--{field} {getattr(settings, field)}: it must be 1 or more")
    for field in ("lengths", "stages", "clients", "pipelines", "micro_batches"):
        values = getattr(settings, field)
        if not values or min(values) < 1:
            said = " ".join(map(str, values)) or "nothing"
            raise UsageError(f"--{field.replace('_', '-')} {said}: give numbers of 1 or more")
    if settings.program <= 0 or settings.seconds <= 0 or settings.patience <= 0:
        raise UsageError("--program, --seconds and --patience must be above 0")
    for field in ("stages", "pipelines"):
        if max(getattr(settings, field)) > settings.devices:
            raise UsageError(
                f"--{field} {max(getattr(settings, field))} is more than the --devices "
                f"{settings.devices}: each stage has its own device"
            )
    for stages in settings.pipelines:
        if settings.layers % stages:
            raise UsageError(f"--layers {settings.layers} do not spread over {stages} stages")
    for count in settings.micro_batches:
        if settings.batch % count:
            raise UsageError(f"--batch {settings.batch} does not cut into {count} micro-batches")
