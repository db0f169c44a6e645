"""`byways bench islands`: options, and what is printed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated

import tyro

from .bench.islands_settings import BenchIslands, check_islands
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class IslandsOptions:
    """Time tiny nodes on an island of another process, beside this process and plain Ray actors.

    Attributes:
        config: the chain.
        json: print one JSON object rather than tables.
    """

    config: Annotated[BenchIslands, tyro.conf.arg(name="")] = BenchIslands()  # noqa: RUF009
    json: bool = False


def bench_islands(arguments: Sequence[str]) -> int:
    """`byways bench islands [--json] [options]`"""
    options = parse(IslandsOptions, arguments, "byways bench islands", IslandsOptions())
    check_islands(options.config)

    from .bench.islands import bench_islands
    from .bench.islands_table import print_islands

    result = bench_islands(options.config)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        print_islands(result)
    return 0
