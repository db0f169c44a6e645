"""`byways bench island-training`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from .bench.island_training_settings import BenchIslandTraining, check_island_training
from .cli_bench_output import BenchOutput
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class IslandTrainingOptions(BenchOutput):
    """Time training over two islands beside one with half of the batch.

    Attributes:
        config: what is trained.
    """

    config: Annotated[BenchIslandTraining, tyro.conf.arg(name="")] = BenchIslandTraining()  # noqa: RUF009


def bench_island_training(arguments: Sequence[str]) -> int:
    """`byways bench island-training [--json] [options]`"""
    program = "byways bench island-training"
    options = parse(IslandTrainingOptions, arguments, program, IslandTrainingOptions())
    check_island_training(options.config)

    from .bench.island_training_table import print_island_training

    def measure() -> dict[str, Any]:
        from .bench.island_training import bench_island_training

        return bench_island_training(options.config)

    return options.give(measure, print_island_training)
