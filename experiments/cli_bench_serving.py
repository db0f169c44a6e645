"""`byways bench serving`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from .bench.serving_settings import BenchServing, check_serving
from .cli_bench_output import BenchOutput
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class ServingOptions(BenchOutput):
    """Time continuous batching beside single texts and fixed batches, and its cost a step.

    Attributes:
        config: sizes.
        only: throughput or step; both, if none is named.
    """

    config: Annotated[BenchServing, tyro.conf.arg(name="")] = BenchServing()  # noqa: RUF009
    only: tuple[str, ...] = ()


def bench_serving(arguments: Sequence[str]) -> int:
    """`byways bench serving [--json] [--only NAME …] [options]`"""
    options = parse(ServingOptions, arguments, "byways bench serving", ServingOptions())
    check_serving(options.config, options.only)

    from .bench.serving_table import print_serving

    def measure() -> dict[str, Any]:
        from .bench.serving import bench_serving

        return bench_serving(options.config, options.only)

    return options.give(measure, print_serving)
