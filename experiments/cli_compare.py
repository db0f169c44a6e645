"""`byways compare`: runs beside each other."""

from __future__ import annotations

import dataclasses
import json as json_text
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from .cli_options import parse
from .errors import RunError, UsageError


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Set runs beside each other: means with 95 % intervals over seeds, and differences.

    Runs whose configs differ only in their seed are a group. docs/compare.md tells more.

    Attributes:
        runs: folders of runs, or folders that hold runs (a sweep's).
        metric: dotted keys of results.json, or train_seconds, examples_per_second, flops; by
            default the headline scores of the runs' kind, and what training took.
        baseline: the group that the others are held against, by its label or a part of it; by
            default the first.
        html: write a page with tables, intervals and learning curves here.
        markdown: write the tables here.
        json: print one JSON object instead of tables.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    metric: tuple[str, ...] = ()
    baseline: str | None = None
    html: Path | None = None
    markdown: Path | None = None
    json: bool = False


def compare(arguments: Sequence[str]) -> int:
    """`byways compare RUN… [--metric KEY …] [--baseline GROUP] [--html FILE] [--markdown FILE]`"""
    options = parse(CompareOptions, arguments, "byways compare")
    for path in (options.html, options.markdown):
        if path is not None and path.is_dir():
            raise UsageError(f"{path} is a folder; name a file in it")
    if options.html is not None and options.html == options.markdown:
        raise UsageError(f"--html and --markdown both name {options.html}; name two files")

    from .compare.comparing import compare_runs
    from .compare.tables import markdown, print_tables

    found = compare_runs(options.runs, options.metric, options.baseline)
    if options.html is not None:
        from .compare.page import render

        _write(options.html, lambda: render(found))
    if options.markdown is not None:
        _write(options.markdown, lambda: markdown(found))
    if options.json:
        print(json_text.dumps(found.as_dict(), ensure_ascii=False, allow_nan=False))
    else:
        print_tables(found)
        for path in (options.html, options.markdown):
            if path is not None:
                print(path)
    return 0


def _write(path: Path, text: Callable[[], str]) -> None:
    from .files import write_bytes

    try:
        write_bytes(path, text().encode())
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}); name another file"
        ) from error
