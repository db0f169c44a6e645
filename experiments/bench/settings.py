"""What `byways bench moe` measures, as data; imports no JAX."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from ..errors import UsageError

Name = Literal["index", "einsum", "blocked", "grouped", "expert_parallel", "pathways"]

# Which forms a dispatcher is timed in: with a capacity, dropless.
FORMS: dict[Name, tuple[bool, bool]] = {
    "index": (True, False),
    "einsum": (True, False),
    "blocked": (True, True),
    "grouped": (False, True),
    "expert_parallel": (True, True),
    "pathways": (False, True),
}


@dataclasses.dataclass(frozen=True)
class BenchMoe:
    """One sparse layer and one dense MLP of width K*H, which costs a token as much as K experts.

    Attributes:
        tokens: G*T.
        group: wished T; the largest divisor of the tokens that is not above it is taken.
        width: D.
        hidden: H of one expert.
        experts: E.
        selected: K.
        capacity: capacity factor of the rows that have one.
        batch_priority: serve tokens by descending gate, which is one more sort.
        dtype: of activations and matrix products; parameters are float32.
        dispatchers: which are timed; those that can be dropless are timed so, too.
        repeats: timed pairs of each program; medians are over these.
        seed: of data and parameters.
    """

    tokens: int = 1024
    group: int = 256
    width: int = 256
    hidden: int = 1024
    experts: int = 8
    selected: int = 2
    capacity: float = 1.05
    batch_priority: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    dispatchers: tuple[Name, ...] = tuple(FORMS)
    repeats: int = 40
    seed: int = 0

    @property
    def rows(self) -> list[tuple[Name, bool]]:
        """(dispatcher, dropless), those with a capacity first."""
        return [
            (name, dropless)
            for dropless in (False, True)
            for name in self.dispatchers
            if FORMS[name][dropless]
        ]


DEFAULT = BenchMoe()

# What more experts cost: one group of many tokens, one expert each.
SCALING = BenchMoe(tokens=8192, group=8192, selected=1, capacity=1.0, repeats=20)


def check(settings: BenchMoe) -> BenchMoe:
    """The settings, if they make a layer.

    Raises:
        UsageError: they do not; which value, and what it must be.
    """
    for name in ("tokens", "group", "width", "hidden", "experts", "selected", "repeats"):
        value = getattr(settings, name)
        if value < 1:
            raise UsageError(f"--{name} {value}: must be at least 1")
    if not (math.isfinite(settings.capacity) and settings.capacity > 0):
        raise UsageError(f"--capacity {settings.capacity}: must be a number above 0")
    if settings.selected > settings.experts:
        raise UsageError(
            f"--selected {settings.selected} is more than --experts {settings.experts}: a token "
            "chooses among the experts that there are"
        )
    if not settings.dispatchers:
        raise UsageError(f"--dispatchers: name at least one of {', '.join(FORMS)}")
    return settings
