"""`byways trace`: a training step and a batch of inference, as the devices lived them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from .cli_options import parse
from .errors import UsageError
from .files import check_new
from .run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from .trace_run import PassTrace

# Lines of the critical path that are printed, the longest; the trace has them all.
_LONGEST_PATH = 12


@dataclasses.dataclass(frozen=True)
class TraceOptions:
    """Record one training step and one batch of inference, to open in https://ui.perfetto.dev.

    The model is cut at its experts, of which those alone run that some token chose; each is a
    node with a span of its own.

    Attributes:
        run: the run's folder.
        out: the folder to write; must not exist. By default RUN/trace.
        batch: examples; by default the run's batch size.
        devices: experts are spread over so many, on CPU virtual ones; by default what is there.
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None
    batch: int | None = None
    devices: int | None = None


def trace(arguments: Sequence[str]) -> int:
    """`byways trace RUN [--out DIR] [--batch N] [--devices N]`"""
    options = parse(TraceOptions, arguments, "byways trace")
    for name in ("batch", "devices"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: it takes at least one")
    RunFolder(options.run).read()
    out = options.out or options.run / "trace"
    check_new(out)

    from .virtual_devices import restart_with_devices

    if options.devices is not None:
        restart_with_devices(options.devices)

    from rich.console import Console

    from .compilation_cache import enable_compilation_cache
    from .trace_run import trace_run

    enable_compilation_cache()
    found = trace_run(options.run, out, batch=options.batch, devices=options.devices)
    console = Console()
    many = "1 device" if found.devices == 1 else f"{found.devices} devices"
    console.print(f"step {found.step}, {found.batch} examples, {many}")
    if found.whole:
        console.print(f"{found.whole}: each pass is a single node")
    for one in found.passes:
        _print(console, one)
    return 0


def _print(console: Console, one: PassTrace) -> None:
    from rich.rule import Rule
    from rich.table import Table

    summary = one.summary
    console.print(Rule(f"{one.name}: {summary.wall * 1e3:.1f} ms"))
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_row("nodes", f"{summary.nodes}, {summary.woken} of them woken by routers")
    if summary.transfers:
        facts.add_row("copies", f"{summary.transfers} batches between devices")
    facts.add_row("enqueuing", f"{summary.dispatch * 1e3:.1f} ms")
    facts.add_row("reading counts", f"{summary.reads * 1e3:.1f} ms")
    for (_, device), share in summary.idle.items():
        facts.add_row(f"device {device}", f"idle {share:.0%}")
    console.print(facts)
    if one.awake:
        layers = Table(box=None, pad_edge=False)
        layers.add_column("sparse block")
        layers.add_column("experts awake", justify="right")
        layers.add_column("tokens of the busiest", justify="right")
        for layer, tokens in one.awake.items():
            busiest = f"{tokens.max() / max(tokens.sum(), 1):.0%}"
            layers.add_row(layer, f"{(tokens > 0).sum()} of {len(tokens)}", busiest)
        console.print(layers)
    path = Table(box=None, pad_edge=False)
    of = f"{summary.critical_seconds * 1e3:.1f} of {summary.wall * 1e3:.1f} ms"
    path.add_column(f"critical path: {of}")
    path.add_column("ms", justify="right")
    names = summary.critical_names()
    longest = sorted(names, key=lambda entry: entry[2], reverse=True)[:_LONGEST_PATH]
    shorter = len(names) - len(longest)
    for entry in names:
        if entry in longest:
            name, count, seconds = entry
            path.add_row(name if count == 1 else f"{name} ×{count}", f"{seconds * 1e3:.2f}")
    if shorter:
        rest = summary.critical_seconds - sum(seconds for _, _, seconds in longest)
        path.add_row(f"and {shorter} shorter", f"{rest * 1e3:.2f}")
    console.print(path)
    console.print(f"{one.file}: open it in https://ui.perfetto.dev", soft_wrap=True)
