"""`byways bench islands`: programs over islands in other processes, and what they must reach."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from ... import runtime as rt
from ..errors import RunError
from .islands_chain import bench_chain
from .islands_control import bench_control
from .islands_experts import bench_experts
from .islands_pipeline import bench_pipeline
from .islands_settings import NAMES, BenchIslands, check_islands
from .islands_targets import targets
from .moe import circumstances

# Over two islands that keep to a core each; a chain is on one that has all.
_PAIRS = {"control": bench_control, "pipeline": bench_pipeline, "experts": bench_experts}


def bench_islands(settings: BenchIslands, only: Sequence[str] = ()) -> dict[str, Any]:
    """Runs the benchmarks, or those that are named.

    Returns:
        by name what each returns; `targets`, [{"name", "value", "wanted", "met"}], of those that
        ran; `settings`, `device`, `versions`, `load` (of the machine, as it began).

    Raises:
        UsageError: settings that cannot be measured, or no such benchmark.
        RunError: Ray is not installed, not there, or does not start; or a way makes other numbers.
    """
    check_islands(settings, tuple(only))
    load = os.getloadavg()[0]
    wanted = [name for name in NAMES if not only or name in only]
    results: dict[str, Any] = {}
    if "chain" in wanted:
        with _islands(settings, 1) as system:
            results["chain"] = bench_chain(system, settings)
    pairs = [name for name in wanted if name in _PAIRS]
    if pairs:
        with _islands(settings, 2, cores=1) as system:
            results |= {name: _PAIRS[name](system, settings) for name in pairs}
    return {**results, "targets": targets(results), **circumstances(settings), "load": load}


@contextlib.contextmanager
def _islands(settings: BenchIslands, count: int, cores: int | None = None) -> Iterator[rt.Runtime]:
    try:
        hosts = rt.RayIslands(count, cores=cores, address=settings.address)
    except rt.RayMissing as error:
        raise RunError(str(error)) from error
    with hosts, rt.RayRuntime(hosts=hosts) as system:
        yield system
