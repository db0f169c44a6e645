"""`byways bench transfer`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from .bench.transfer_settings import BenchTransfer, check_transfer
from .cli_bench_output import BenchOutput
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class TransferOptions(BenchOutput):
    """Time arrays between two processes: our adapter, bare jax.experimental.transfer, Ray's store.

    Attributes:
        config: sizes.
    """

    config: Annotated[BenchTransfer, tyro.conf.arg(name="")] = BenchTransfer()  # noqa: RUF009


def bench_transfer(arguments: Sequence[str]) -> int:
    """`byways bench transfer [--json] [options]`"""
    options = parse(TransferOptions, arguments, "byways bench transfer", TransferOptions())
    check_transfer(options.config)

    from .bench.transfer_table import print_transfer

    def run() -> dict[str, Any]:
        from .bench.transfer import bench_transfer

        return bench_transfer(options.config)

    return options.give(run, print_transfer)
