"""How long a computation takes on simulated devices, by its name."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

from .errors import ProgramError
from .graph import Shape

if TYPE_CHECKING:
    from .computations import FlatComputation
    from .sim_machine import SimMachine


@dataclasses.dataclass(frozen=True)
class SimCost:
    """What one call of a computation costs, on all devices of its slice together.

    Attributes:
        seconds: taken whatever the devices.
        flops: shared out over the devices.
        bytes: read and written in the devices' memory, shared out; the longer of the two counts.
        all_reduce: bytes of the arrays that are summed over all devices, in rings.

    Raises:
        ValueError: a negative number.
    """

    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    all_reduce: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) >= 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)!r}: a cost is 0 or more")

    def time(self, machine: SimMachine, devices: int) -> float:
        """Seconds on so many devices.

        Examples:
            >>> from byways.runtime import SimMachine
            >>> machine = SimMachine(flops=1e12, ici_bytes=1e9, ici_seconds=0.0)
            >>> SimCost(seconds=1.0, flops=4e12).time(machine, 4)
            2.0
            >>> SimCost(all_reduce=1e9).time(machine, 4)  # 2 x 3/4 of it passes each link
            1.5
        """
        work = max(self.flops / machine.flops, self.bytes / machine.memory_bytes) / devices
        if self.all_reduce and devices > 1:
            moved = 2 * (devices - 1) / devices * self.all_reduce
            work += machine.ici_seconds + moved / machine.ici_bytes
        return self.seconds + work


class CostBook:
    """Costs by name: a computation's own name, else the first pattern (`forward *`) that fits.

    A cost is seconds, a `SimCost`, a function of the inputs' shapes that makes one, or the word
    `xla`: FLOPs by the compiler's count.

    Raises:
        ValueError: what is no cost.
    """

    def __init__(self, costs: Mapping[str, Any]):
        self._costs = dict(costs)
        for name, cost in self._costs.items():
            if isinstance(cost, str) and cost != "xla":
                raise ValueError(f"cost {cost!r} of {name!r}: words other than 'xla' are none")
            if not (isinstance(cost, (int, float, SimCost, str)) or callable(cost)):
                raise ValueError(
                    f"cost {cost!r} of {name!r}: give seconds, a SimCost, a function of the "
                    "inputs' shapes that makes one, or 'xla'"
                )
            if isinstance(cost, (int, float)):
                self._costs[name] = SimCost(seconds=float(cost))

    def of(self, flat: FlatComputation, inputs: tuple[Shape, ...]) -> SimCost:
        """Of one computation.

        Raises:
            ProgramError: nobody said.
        """
        name = flat.name
        key = name if name in self._costs else None
        for pattern in self._costs if key is None else ():
            if fnmatch.fnmatchcase(name, pattern):
                key = pattern
                break
        if key is None:
            raise ProgramError(
                f"computation {name!r} has no cost, and there are costs of {sorted(self._costs)}: "
                f"give costs={{{name!r}: SimCost(seconds=…)}}, or {{'*': 'xla'}} for all others "
                "by the compiler's count of their FLOPs"
            )
        found: Any = self._costs[key]
        if found == "xla":
            return SimCost(flops=counted_flops(flat, inputs))
        if isinstance(found, SimCost):
            return found
        made = found(inputs)
        if not isinstance(made, SimCost):
            raise ProgramError(f"the cost of {name!r} came out as {made!r}: return a SimCost")
        return made


def counted_flops(flat: FlatComputation, inputs: tuple[Shape, ...]) -> float:
    """FLOPs by XLA's count of what it would compile; nothing is compiled."""
    lowered = jax.jit(lambda *given: flat.flat(*given)[0]).lower(*inputs)
    count: Any = lowered.cost_analysis() or {}
    return float(count.get("flops", 0.0))
