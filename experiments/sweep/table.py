"""What a person sees of a sweep: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..progress import clock
from .eta import seconds_left
from .plan import Plan
from .status import RunStatus

_STYLES = {
    "running": "bold cyan",
    "done": "green",
    "trained": "green",
    "failed": "bold red",
    "interrupted": "yellow",
}
# Seconds between two plain lines about runs that only went on.
_QUIET = 60.0


class SweepTable:
    """Shows the rows of a sweep, and how long it will take.

    On a terminal it is one live table, the oldest finished rows left out where it would not
    fit; elsewhere there is a line for each change of a state, and one a minute.
    """

    def __init__(self, plan: Plan, workers: int, console: Console | None = None):
        """Args:
        plan: whose runs are shown.
        workers: how many run at a time.
        console: where to; standard error by default.
        """
        self._plan, self._workers = plan, workers
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._states: dict[str, str] = {}
        self._told = time.monotonic()

    def __enter__(self) -> SweepTable:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, rows: Sequence[RunStatus]) -> None:
        """Shows the rows as they are now."""
        if self._live is not None:
            self._live.update(self._table(rows), refresh=True)
            return
        changed = [row for row in rows if self._states.get(row.name, "waiting") != row.state]
        self._states.update({row.name: row.state for row in rows})
        if not changed and time.monotonic() - self._told >= _QUIET:
            changed = [row for row in rows if row.state == "running"]
        for row in changed:
            cells = [f"{name} {text}" for name, text in _cells(row).items() if text]
            self._print(f"{row.name}: {'  '.join([_state(row), *cells])}")
        if changed:
            self._told = time.monotonic()
            self._print(self._summary(rows))

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _summary(self, rows: Sequence[RunStatus]) -> str:
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.state] = counts.get(row.state, 0) + 1
        left = seconds_left(self._plan, rows, self._workers)
        eta = [] if left is None else [f"left {clock(left)}"]
        return f"{self._plan.name}: " + ", ".join(
            [*(f"{n} {state}" for state, n in counts.items()), *eta]
        )

    def _table(self, rows: Sequence[RunStatus]) -> Table:
        # Title, header, rules and the caption take seven lines.
        room = max(3, self._console.height - 8)
        shown = list(rows)
        for state in ("done", "trained", "waiting"):
            if len(shown) > room:
                spare = [row for row in shown if row.state == state]
                gone = spare[: len(shown) - room]
                shown = [row for row in shown if row not in gone]
        hidden = len(rows) - len(shown)
        more = f"; {hidden} rows not shown" if hidden else ""
        table = Table(caption=self._summary(rows) + more, caption_justify="left")
        table.add_column("run", overflow="fold")
        table.add_column("state")
        for name in ("step", "loss", "examples/s", "left", "score"):
            table.add_column(name, justify="right")
        for row in shown[:room]:
            cells = _cells(row)
            table.add_row(row.name, _state(row), *cells.values(), style=_STYLES.get(row.state))
        return table


def _state(row: RunStatus) -> str:
    """A state for people: of a process that has trained all steps, what it does since."""
    return "scoring" if row.state == "running" and row.step >= row.steps else row.state


def _cells(row: RunStatus) -> dict[str, str]:
    score = "" if row.score is None else f"{row.score[0].split('.')[-1]} {row.score[1]:.3f}"
    return {
        "step": f"{row.step}/{row.steps}",
        "loss": "" if row.loss is None else f"{row.loss:.3f}",
        "examples/s": "" if row.examples_per_second is None else f"{row.examples_per_second:.0f}",
        "left": "" if row.seconds_left is None else clock(row.seconds_left),
        "score": score,
    }
