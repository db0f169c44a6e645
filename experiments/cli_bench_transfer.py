"""`byways bench transfer`: options, and what is printed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated

import tyro

from .bench.transfer_settings import BenchTransfer, check_transfer
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class TransferOptions:
    """Time arrays between two processes: our adapter, bare jax.experimental.transfer, Ray's store.

    Attributes:
        config: sizes.
        json: print one JSON object rather than tables.
    """

    config: Annotated[BenchTransfer, tyro.conf.arg(name="")] = BenchTransfer()  # noqa: RUF009
    json: bool = False


def bench_transfer(arguments: Sequence[str]) -> int:
    """`byways bench transfer [--json] [options]`"""
    options = parse(TransferOptions, arguments, "byways bench transfer", TransferOptions())
    check_transfer(options.config)

    from .bench.transfer import bench_transfer
    from .bench.transfer_table import print_transfer

    result = bench_transfer(options.config)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        print_transfer(result)
    return 0
