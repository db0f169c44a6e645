"""A runtime whose devices are a model: real programs, plans, order and windows; simulated time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .sim_backend import SimBackend
from .sim_costs import CostBook
from .sim_engine import Engine, Totals
from .sim_machine import SimMachine
from .system import Runtime


class SimulatedRuntime(Runtime):
    """A `Runtime` over a `SimMachine`. Programs are written as for any other.

    Tracing, lowering, the scheduler's order and windows, the store and sequential dispatch are
    the real ones; a node, instead of running, is given to the model, whose clock moves when the
    controller sends and when it waits. One client thread gives the same times every time.

    Arguments that are `jax.ShapeDtypeStruct`s are there from the beginning; arrays of numbers
    travel from the controller's host. Results have shapes, and no numbers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from byways import runtime as rt
        >>> machine = rt.SimMachine(islands=4, hosts=128, devices=4)
        >>> system = rt.SimulatedRuntime(machine, {"step": 0.02})
        >>> part = system.virtual_devices("island0").add_slice(512)
        >>> step = rt.computation(lambda x: x + 1, part, name="step")
        >>> @rt.program
        ... def ten(x):
        ...     for _ in range(10):
        ...         x = step(x)
        ...     return x
        >>> _ = ten(jax.ShapeDtypeStruct((), jnp.float32)).result()
        >>> round(system.now, 3), system.totals.nodes  # 10 x 20 ms, and the way there
        (0.202, 10)

    Attributes:
        engine: the model's state.
    """

    def __init__(
        self,
        machine: SimMachine,
        costs: Mapping[str, Any],
        *,
        memory_budget: int | None = None,
        window: int = 16,
        fair: bool = True,
        patience: float | None = None,
        sequential: bool = False,
    ):
        """Args:
            machine: topology and constants.
            costs: of computations, by name or pattern (`{"forward *": …, "*": "xla"}`): seconds, a
                `SimCost`, a function of the inputs' shapes that makes one, or `xla`: FLOPs by the
                compiler's count.
            memory_budget, window, fair, sequential: as of a `Runtime`.
            patience: simulated seconds.

        Raises:
            ValueError: what is no cost, or as of a `Runtime`.
        """
        self.engine = Engine(machine)
        self._model = SimBackend(self.engine, CostBook(costs))
        super().__init__(
            machine.islands_of_devices(),
            memory_budget=memory_budget,
            window=window,
            fair=fair,
            patience=patience,
            sequential=sequential,
            backend=self._model,
        )

    @property
    def machine(self) -> SimMachine:
        """Topology and constants."""
        return self.engine.machine

    @property
    def now(self) -> float:
        """The controller's clock, simulated seconds."""
        return self.engine.now

    @property
    def end(self) -> float:
        """When all that was sent has ended, simulated seconds; does not wait for it."""
        return self.engine.finish()

    @property
    def totals(self) -> Totals:
        """Nodes, messages and bytes so far."""
        return self.engine.totals

    def busy(self, part: Any) -> float:
        """Seconds for which a slice's own nodes have kept it busy, those to come too."""
        return self._model.group(part).busy
