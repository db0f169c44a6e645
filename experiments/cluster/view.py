"""What a person sees of a cluster: its islands, clients and names, once or as they change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..progress import clock

# Nodes in flight that are named in a row.
NODES = 3


def watch(
    look: Callable[[], dict[str, Any]], every: float = 1.0, console: Console | None = None
) -> None:
    """Shows how things are, again and again, until the cluster ends or somebody interrupts.

    Args:
        look: tells how things are, as `Watched.status`.
        every: seconds between two looks.
        console: where to; what is no terminal is shown it once.

    Raises:
        ControllerGone: it has ended.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.print(picture(look()))
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            live.update(picture(look()), refresh=True)
            time.sleep(every)


def picture(status: dict[str, Any]) -> Group:
    """Tables of what `Watched.status` gives."""
    kind = f", Ray at {status['ray']}" if status["ray"] else ", islands within"
    head = (
        f"cluster {status['name']}: controller {status['pid']} at {status['address']}{kind}; up "
        f"{clock(status['up'])}, {status['served']} clients so far"
    )
    parts: list[Any] = [Text(head, style="bold"), islands(status)]
    for one in status["islands"]:
        if one["nodes"]:
            more = " …" if len(one["nodes"]) > NODES else ""
            parts.append(Text(f"on {one['name']}: {', '.join(one['nodes'][:NODES])}{more}"))
    if status["clients"]:
        parts.append(clients(status))
    programs, values = status["programs"], status["values"]
    if values:
        parts.append(names(status))
    named = f", named {', '.join(programs['named'])}" if programs["named"] else ""
    parts.append(Text(f"{programs['known']} programs{named}"))
    return Group(*parts)


def islands(status: dict[str, Any]) -> Table:
    """A row for each island: turns that were sent and have not ended, threads that wait for one,
    what it holds, and what it has pulled from others.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("island", "state", "process"):
        table.add_column(name, no_wrap=True)
    for name in ("devices", "sent", "queue", "turns", "arrays", "memory", "moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in status["islands"]:
        moved = one["transfers"]
        table.add_row(
            one["name"],
            Text("lost", style="bold red") if one["lost"] else Text("alive", style="green"),
            str(one["pid"] or ""),
            f"{one['devices']} {'/'.join(one['kind'])}",
            str(one["in flight"]),
            str(one["queue"]),
            str(one["turns"]),
            "" if one["arrays"] is None else str(one["arrays"]),
            size(one["bytes"] if one["held"] is None else one["held"]),
            "" if moved is None else size(moved["pulled_bytes"]),
        )
    return table


def clients(status: dict[str, Any]) -> Table:
    """A row for each client that is attached."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("client", overflow="fold")
    for name in ("weight", "priority", "for", "calls", "running", "values", "memory"):
        table.add_column(name, justify="right")
    for one in status["clients"]:
        table.add_row(
            one["name"],
            f"{one['weight']:g}",
            str(one["priority"]),
            clock(one["for"]),
            str(one["calls"]),
            str(one["running"]),
            str(one["values"]),
            size(one["bytes"]),
        )
    return table


def names(status: dict[str, Any]) -> Table:
    """A row for each named value."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("value", overflow="fold")
    for name in ("arrays", "memory"):
        table.add_column(name, justify="right")
    for one in status["values"]:
        table.add_row(one["name"], str(one["arrays"]), size(one["bytes"]))
    return table


def size(count: int) -> str:
    """Bytes for people.

    Examples:
        >>> size(999), size(1_500_000)
        ('999 B', '1.5 MB')
    """
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
