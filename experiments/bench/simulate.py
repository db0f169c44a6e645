"""`byways simulate`: programs on machines that are not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .moe import circumstances
from .simulate_control import simulate_control
from .simulate_islands import simulate_islands
from .simulate_order import simulate_order
from .simulate_parity import simulate_parity
from .simulate_pipeline import simulate_pipeline
from .simulate_settings import NAMES, SimulateSettings, check_simulate

_SIMULATIONS = {
    "parity": simulate_parity,
    "order": simulate_order,
    "islands": simulate_islands,
    "pipeline": simulate_pipeline,
    "control": simulate_control,
}


def simulate(settings: SimulateSettings, names: Sequence[str] = ()) -> dict[str, Any]:
    """Runs the simulations, or those that are named.

    Returns:
        by name what each returns; `settings`, `device`, `versions`, `load` of the real machine.

    Raises:
        UsageError: settings that cannot be simulated, or no such simulation.
    """
    check_simulate(settings, names)
    load = os.getloadavg()[0]
    found = {name: _SIMULATIONS[name](settings) for name in NAMES if not names or name in names}
    return {**found, **circumstances(settings), "load": load}
