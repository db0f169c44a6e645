"""`byways data build` and `byways data peek`: options for the data room's two functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from .cli_options import parse
from .errors import UsageError
from .files import check_place


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """Build a data set from its sources: emoji_art, which is compared with what ships, or
    openclipart, out of the package `openclipart-svg` of Debian and Ubuntu.

    Attributes:
        output: folder to write NAME/VERSION in; by default `data`, and for openclipart this
            user's cache, where it is found by its name.
        cache: folder of npm tarballs (emoji_art); by default in this user's cache.
        source: folder of SVGs (openclipart); by default the package's.
    """

    output: Path | None = None
    cache: Path | None = None
    source: Path | None = None


@dataclasses.dataclass(frozen=True)
class PeekOptions:
    """Show elements of a data set and write a contact sheet.

    Attributes:
        count: how many elements, spread over the split.
        split: which part of it.
        output: the contact sheet, a PNG; by default NAME.png.
        data_dir: where prepared data sets are, for one that does not ship with byways.
        seed: of emoji_scenes.
    """

    count: int = 32
    split: str = "train"
    output: Path | None = None
    data_dir: Path | None = None
    seed: int = 0


def build(name: str, arguments: Sequence[str]) -> int:
    """`byways data build NAME [--output DIR] [--cache DIR] [--source DIR]`"""
    options = parse(BuildOptions, arguments, f"byways data build {name}")

    from ..datasets import build as build_data

    try:
        folder = build_data(name, options.output, options.cache, options.source)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from error
    same = ": the same as the shipped records" if name == "emoji_art" else ""
    print(f"{folder}{same}")
    return 0


def peek(name: str, arguments: Sequence[str]) -> int:
    """`byways data peek NAME [--count N] [--split SPLIT] [--output FILE]`"""
    options = parse(PeekOptions, arguments, f"byways data peek {name}")
    sheet = options.output or Path(f"{name.replace('/', '-')}.png")
    check_place(sheet)

    from ..datasets import peek as peek_data

    try:
        peek_data(
            name,
            sheet,
            split=options.split,
            count=options.count,
            data_dir=options.data_dir,
            seed=options.seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return 0
