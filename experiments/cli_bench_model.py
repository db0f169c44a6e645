"""`byways bench model`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from .bench.whole_settings import BenchWhole, check_whole
from .cli_bench_output import JsonOption
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class ModelOptions(JsonOption):
    """Time a trained sparse model's training step and inference, fused and by pathways.

    Attributes:
        run: folder of a contrastive run.
        config: sizes.
    """

    run: Annotated[Path, tyro.conf.Positional]
    config: Annotated[BenchWhole, tyro.conf.arg(name="")] = BenchWhole()  # noqa: RUF009


def bench_model(arguments: Sequence[str]) -> int:
    """`byways bench model RUN [--json] [options]`"""
    options = parse(ModelOptions, arguments, "byways bench model")
    check_whole(options.config)

    # Both before JAX is imported; each begins the process again at most once.
    from .huge_pages import restart_with_huge_pages
    from .virtual_devices import restart_with_devices

    restart_with_devices(options.config.devices)
    restart_with_huge_pages()

    from .bench.whole import bench_whole
    from .bench.whole_table import print_whole
    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    result = bench_whole(options.run, options.config)
    return options.tell(result, print_whole)
