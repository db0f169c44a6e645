"""What `byways bench pathways` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError
from ..suggest import unknown

CASES = ("balanced", "skewed", "small")


@dataclasses.dataclass(frozen=True)
class BenchPathways:
    """One sparse layer with K = 1, dropless, in three cases.

    Attributes:
        tokens: of `balanced`, where every expert is awake, and of `skewed`.
        awake: experts that the tokens of `skewed` choose among.
        few: tokens of `small`.
        width: D.
        hidden: H.
        experts: E.
        devices: numbers of devices that the dataflow's experts live on, each tried.
        repeats: rounds; in each, every road is timed once, in turns.
        seed: of tokens and parameters.
    """

    tokens: int = 2048
    awake: int = 2
    few: int = 8
    width: int = 256
    hidden: int = 1024
    experts: int = 32
    devices: tuple[int, ...] = (1, 2)
    repeats: int = 30
    seed: int = 0


def check_pathways(settings: BenchPathways, only: tuple[str, ...] = ()) -> BenchPathways:
    """The settings, if they make a layer.

    Raises:
        UsageError: they do not; which value, and what it must be. Or there is no such case.
    """
    for name in only:
        if name not in CASES:
            raise UsageError(unknown("case", name, CASES))
    for field in dataclasses.fields(BenchPathways):
        value = getattr(settings, field.name)
        if field.name not in ("devices", "seed") and value < 1:
            raise UsageError(f"--{field.name} {value}: must be at least 1")
    if not settings.devices or min(settings.devices) < 1:
        said = " ".join(map(str, settings.devices)) or "nothing"
        raise UsageError(f"--devices {said}: give numbers of 1 or more")
    if settings.awake > settings.experts:
        raise UsageError(
            f"--awake {settings.awake} is more than --experts {settings.experts}: tokens choose "
            "among the experts that there are"
        )
    return settings
