"""`byways bench pathways` and `byways bench auto`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from .bench.auto_settings import BenchAuto, check_auto
from .bench.pathways_settings import BenchPathways, check_pathways
from .cli_bench_output import JsonOption
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class PathwaysOptions(JsonOption):
    """Time a sparse layer as dataflow beside the best dropless program of one `jit`.

    Attributes:
        config: sizes.
        only: balanced, skewed or small; all, if none is named.
    """

    config: Annotated[BenchPathways, tyro.conf.arg(name="")] = BenchPathways()  # noqa: RUF009
    only: tuple[str, ...] = ()


def bench_pathways(arguments: Sequence[str]) -> int:
    """`byways bench pathways [--json] [--only CASE …] [options]`"""
    options = parse(PathwaysOptions, arguments, "byways bench pathways", PathwaysOptions())
    check_pathways(options.config, options.only)

    # Both before JAX is imported; each begins the process again at most once.
    from .huge_pages import restart_with_huge_pages
    from .virtual_devices import restart_with_devices

    restart_with_devices(max(options.config.devices))
    restart_with_huge_pages()

    from .bench.pathways import bench_pathways
    from .bench.pathways_table import print_pathways
    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    result = bench_pathways(options.config, options.only)
    return options.tell(result, print_pathways)


@dataclasses.dataclass(frozen=True)
class AutoOptions(JsonOption):
    """Time sparse layers of many sizes both ways, and see which one the cost model takes.

    Attributes:
        config: sizes.
    """

    config: Annotated[BenchAuto, tyro.conf.arg(name="")] = BenchAuto()  # noqa: RUF009


def bench_auto(arguments: Sequence[str]) -> int:
    """`byways bench auto [--json] [options]`"""
    options = parse(AutoOptions, arguments, "byways bench auto", AutoOptions())
    check_auto(options.config)

    from .huge_pages import restart_with_huge_pages

    restart_with_huge_pages()

    from .bench.auto import bench_auto
    from .bench.auto_table import print_auto
    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    result = bench_auto(options.config)
    return options.tell(result, print_auto)
