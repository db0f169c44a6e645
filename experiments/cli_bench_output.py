"""How a benchmark's result is given: tables, JSON, tables for the docs, or those of an old one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonOption:
    """The option that all benchmarks have.

    Attributes:
        json: print one JSON object rather than tables.
    """

    json: bool = False

    def tell(self, result: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> int:
        """Prints a result, by `show` unless --json; the exit code."""
        if self.json:
            print(json.dumps(result, ensure_ascii=False))
        else:
            show(result)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOutput(JsonOption):
    """And those of benchmarks whose tables stand in the docs.

    Attributes:
        markdown: print the tables as the docs have them.
        show: print the tables of a file that --json made, and measure nothing.
    """

    markdown: bool = False
    show: Path | None = None

    def give(
        self, measure: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any], bool], None]
    ) -> int:
        """Measures, or reads what was measured, and prints it; the exit code.

        Raises:
            UsageError: --json with an option for tables; a file that --json did not make.
        """
        if self.json and (self.markdown or self.show):
            raise UsageError("--json prints no tables: leave --markdown and --show out")
        if self.show is None:
            return self.tell(measure(), lambda result: show(result, self.markdown))
        try:
            return self.tell(_read(self.show), lambda result: show(result, self.markdown))
        except (KeyError, TypeError) as error:
            raise UsageError(f"--show {self.show}: it is not of this benchmark") from error


def _read(path: Path) -> dict[str, Any]:
    why = "it has no targets"
    try:
        # What programs print before it stands on lines of its own.
        found = json.loads(path.read_text(encoding="utf-8").strip().rpartition("\n")[2])
        if isinstance(found, dict) and "targets" in found:
            return found
    except (OSError, ValueError) as error:
        why = str(error)
    raise UsageError(f"--show {path}: it is no result of --json ({why})")
