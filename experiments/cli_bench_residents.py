"""`byways bench residents`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from .bench.residents_settings import BenchResidents, check_residents
from .cli_bench_output import JsonOption
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class ResidentsOptions(JsonOption):
    """Time a V-MoE whose experts are fetched from a file when they wake, by budget.

    Attributes:
        config: sizes.
    """

    config: Annotated[BenchResidents, tyro.conf.arg(name="")] = BenchResidents()  # noqa: RUF009


def bench_residents(arguments: Sequence[str]) -> int:
    """`byways bench residents [--json] [options]`"""
    options = parse(ResidentsOptions, arguments, "byways bench residents", ResidentsOptions())
    check_residents(options.config)

    # Before JAX is imported.
    from .huge_pages import restart_with_huge_pages

    restart_with_huge_pages()

    from .bench.residents import bench_residents
    from .bench.residents_table import print_residents
    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    result = bench_residents(options.config)
    return options.tell(result, print_residents)
