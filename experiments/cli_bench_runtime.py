"""`byways bench runtime`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from .bench.runtime_settings import BenchRuntime, check_runtime
from .cli_bench_output import JsonOption
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class RuntimeOptions(JsonOption):
    """Time the runtime beside plain JAX and Ray: dispatch, clients, pipelines, a training step.

    Attributes:
        config: sizes.
        only: dispatch, parity, order, clients, shares, pipeline or spmd; all, if none is named.
    """

    config: Annotated[BenchRuntime, tyro.conf.arg(name="")] = BenchRuntime()  # noqa: RUF009
    only: tuple[str, ...] = ()


def bench_runtime(arguments: Sequence[str]) -> int:
    """`byways bench runtime [--json] [--only NAME …] [options]`"""
    options = parse(RuntimeOptions, arguments, "byways bench runtime", RuntimeOptions())
    check_runtime(options.config, options.only)

    # Both before JAX is imported; each begins the process again at most once.
    from .huge_pages import restart_with_huge_pages
    from .virtual_devices import restart_with_devices

    restart_with_devices(options.config.devices)
    restart_with_huge_pages()

    from .bench.runtime import bench_runtime
    from .bench.runtime_table import print_runtime

    result = bench_runtime(options.config, options.only)
    return options.tell(result, print_runtime)
