"""`byways bench islands`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from .bench.islands_settings import BenchIslands, check_islands
from .cli_bench_output import BenchOutput
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class IslandsOptions(BenchOutput):
    """Time programs over islands of other processes, beside plain Ray actors and one device.

    Attributes:
        config: sizes.
        only: chain, control, pipeline or experts; all, if none is named.
    """

    config: Annotated[BenchIslands, tyro.conf.arg(name="")] = BenchIslands()  # noqa: RUF009
    only: tuple[str, ...] = ()


def bench_islands(arguments: Sequence[str]) -> int:
    """`byways bench islands [--json] [--only NAME …] [options]`"""
    options = parse(IslandsOptions, arguments, "byways bench islands", IslandsOptions())
    check_islands(options.config, options.only)

    from .bench.islands_table import print_islands

    def run() -> dict[str, Any]:
        from .bench.islands import bench_islands

        return bench_islands(options.config, options.only)

    return options.give(run, print_islands)
