"""`byways bench moe` and `byways bench vit`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from .bench.settings import DEFAULT, SCALING, BenchMoe, check
from .bench.vit_settings import VIT_B16, BenchVit, check_vit
from .cli_bench_output import JsonOption
from .cli_options import parse
from .errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchOptions(JsonOption):
    """Time sparse layers beside a dense MLP of the same work, in adjacent pairs.

    Attributes:
        config: what is timed.
        against: `module:function` of layers of others to time beside ours; the function takes
            these settings and gives (params, apply), apply(params, x, train) the outputs.
        scaling: time the index path alone with 8, 32 and 128 experts, in one group of 8,192
            tokens unless --tokens says otherwise.
        profile: print the so many longest operations of each program, too.
    """

    config: Annotated[BenchMoe, tyro.conf.arg(name="")] = DEFAULT
    against: tuple[str, ...] = ()
    scaling: bool = False
    profile: int = 0


def bench_moe(arguments: Sequence[str]) -> int:
    """`byways bench moe [--json] [--scaling] [--against module:function] [options]`"""
    default = BenchOptions()
    if "--scaling" in arguments:
        default = dataclasses.replace(default, config=SCALING)
    options = parse(BenchOptions, arguments, "byways bench moe", default)
    check(options.config)
    if options.scaling and (options.against or options.profile):
        raise UsageError("--scaling times the index path alone: leave --against and --profile out")

    # Before JAX is imported: both layers gain by it, the dense one more.
    from .huge_pages import restart_with_huge_pages

    restart_with_huge_pages()

    from .bench.moe import bench_moe
    from .bench.scaling import bench_scaling
    from .bench.table import print_moe, print_scaling
    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    if options.scaling:
        result, show = bench_scaling(options.config), print_scaling
    else:
        result, show = bench_moe(options.config, options.against, options.profile), print_moe
    return options.tell(result, show)


@dataclasses.dataclass(frozen=True)
class VitOptions(JsonOption):
    """Time the forward pass of a dense ViT beside the same in flax.linen's own layers alone.

    Attributes:
        config: what is timed.
    """

    config: Annotated[BenchVit, tyro.conf.arg(name="")] = VIT_B16


def bench_vit(arguments: Sequence[str]) -> int:
    """`byways bench vit [--json] [options]`"""
    options = parse(VitOptions, arguments, "byways bench vit", VitOptions())
    check_vit(options.config)

    from .huge_pages import restart_with_huge_pages

    restart_with_huge_pages()

    from .bench.vit import bench_vit, print_vit
    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    result = bench_vit(options.config)
    return options.tell(result, print_vit)
