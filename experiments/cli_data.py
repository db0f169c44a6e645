"""`byways data build` and `byways data peek`: options for the data room's two functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """Build a data set again from its sources.

    Attributes:
        output: folder to write it to; by default `data/NAME`.
    """

    output: Path | None = None


@dataclasses.dataclass(frozen=True)
class PeekOptions:
    """Show elements of a data set and write a contact sheet.

    Attributes:
        count: how many elements.
        split: which part of it.
        output: the contact sheet, a PNG; by default `NAME.png`.
        data_dir: where prepared data sets are, for one that does not ship with byways.
    """

    count: int = 32
    split: str = "train"
    output: Path | None = None
    data_dir: Path | None = None


def build(name: str, arguments: Sequence[str]) -> int:
    """`byways data build NAME [--output DIR]`"""
    options = parse(BuildOptions, arguments, f"byways data build {name}")

    from ..datasets import build as build_data

    print(build_data(name, options.output or Path("data") / name))
    return 0


def peek(name: str, arguments: Sequence[str]) -> int:
    """`byways data peek NAME [--count N] [--split SPLIT] [--output FILE]`"""
    options = parse(PeekOptions, arguments, f"byways data peek {name}")

    from ..datasets import peek as peek_data

    sheet = options.output or Path(f"{name.replace('/', '-')}.png")
    peek_data(name, sheet, split=options.split, count=options.count, data_dir=options.data_dir)
    return 0
