"""What `byways simulate` simulates. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..errors import UsageError
from ..suggest import unknown

NAMES = ("parity", "order", "islands", "pipeline", "control")


@dataclasses.dataclass(frozen=True)
class SimulateSettings:
    """Sizes of the simulations; the machine's constants are in `simulate_paper`.

    Attributes:
        nodes: computations of a chain.
        stages: of `order`, each on a host of its own.
        batches: that go through the stages.
        lengths: milliseconds of a stage of `order`.
        chunks: pieces in which gradients go to the other islands while the rest is computed.
        window: gangs in flight on an island, of `order` and `pipeline`; 16, a runtime's default, is
            simulated beside it.
        control: devices, over whose number the controller's own real time is measured; more than
            512 are on islands of 512.
        repeats: times each of `control` is measured; the median counts.
    """

    nodes: int = 128
    stages: tuple[int, ...] = (1, 2, 4, 8, 16)
    batches: int = 8
    lengths: tuple[float, ...] = (1.0, 10.0)
    chunks: int = 8
    window: int = 64
    control: tuple[int, ...] = (8, 32, 128, 512, 1024, 2048)
    repeats: int = 9


def check_simulate(settings: SimulateSettings, names: Sequence[str] = ()) -> None:
    """Refuses what cannot be simulated.

    Raises:
        UsageError: with the name or setting, and what it must be.
    """
    for name in names:
        if name not in NAMES:
            raise UsageError(unknown("simulation", name, NAMES))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        values = value if isinstance(value, tuple) else (value,)
        if not values or not min(values) > 0:
            said = " ".join(map(str, values)) or "nothing"
            raise UsageError(f"--{field.name} {said}: give numbers above 0")
    if settings.window < 2:
        raise UsageError(f"--window {settings.window}: it takes 2 or more gangs")
    for count in settings.control:
        if count > 2048 or count % 4 or (count > 512 and count % 512):
            raise UsageError(
                f"--control {count}: whole hosts of 4 devices on one island of up to 512, or two "
                "to four islands of 512"
            )
