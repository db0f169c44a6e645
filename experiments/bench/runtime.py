"""`byways bench runtime`: the Pathways paper's figures, and what the runtime must reach."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .moe import circumstances
from .runtime_clients import bench_clients, bench_shares
from .runtime_dispatch import bench_dispatch
from .runtime_order import bench_order
from .runtime_parity import bench_parity
from .runtime_pipeline import bench_pipeline
from .runtime_settings import NAMES, BenchRuntime, check_runtime
from .runtime_spmd import bench_spmd
from .runtime_targets import targets

_BENCHES = {
    "dispatch": bench_dispatch,
    "parity": bench_parity,
    "order": bench_order,
    "clients": bench_clients,
    "shares": bench_shares,
    "pipeline": bench_pipeline,
    "spmd": bench_spmd,
}


def bench_runtime(settings: BenchRuntime, only: Sequence[str] = ()) -> dict[str, Any]:
    """Runs the benchmarks, or those that are named.

    Returns:
        by name what each returns; `targets`, [{"name", "value", "wanted", "met"}], of those that
        ran; `settings`, `device`, `versions`, `load` (of the machine, as it began).

    Raises:
        UsageError: settings that cannot be measured, or no such benchmark.
    """
    check_runtime(settings, tuple(only))
    load = os.getloadavg()[0]
    results = {name: _BENCHES[name](settings) for name in NAMES if not only or name in only}
    return {**results, "targets": targets(results), **circumstances(settings), "load": load}
