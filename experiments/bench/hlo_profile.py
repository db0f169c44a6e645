"""Where a compiled program's time goes: milliseconds per HLO operation, from JAX's own profiler."""

from __future__ import annotations

import collections
import dataclasses
import gzip
import json
import re
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a compiled program.

    Attributes:
        name: in the HLO.
        milliseconds: per call of the program; those that run side by side both count.
        shape: of its result, as HLO writes it.
        source: the JAX operation that it came from.
    """

    name: str
    milliseconds: float
    shape: str
    source: str


def profile_operations(
    program: jax.stages.Compiled, run: Callable[[], Any], repeats: int = 9
) -> list[Operation]:
    """Trace some calls; the time of each operation, the longest first.

    Args:
        program: the compiled program, for shapes and sources.
        run: calls it once.
        repeats: calls.
    """
    jax.block_until_ready(run())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(repeats):
                jax.block_until_ready(run())
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    times: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        operation = event.get("args", {}).get("hlo_op")
        if event.get("ph") == "X" and operation:
            times[operation].append(event["dur"] / 1e3)
    # The median, so that a busy moment does not look like a slow operation; times how often it
    # runs in a call, where it is inside a loop.
    spent = {name: statistics.median(each) * len(each) / repeats for name, each in times.items()}
    text = program.as_text() or ""
    longest = sorted(spent, key=spent.__getitem__, reverse=True)
    return [_describe(name, spent[name], text) for name in longest]


def _describe(name: str, milliseconds: float, text: str) -> Operation:
    line = re.search(r"^\s*(?:ROOT )?%?" + re.escape(name) + r" = (.*)$", text, re.M)
    definition = line.group(1) if line else ""
    source = re.search(r'op_name="([^"]*)"', definition)
    return Operation(
        name,
        milliseconds,
        definition.split("{")[0].split(" ")[0],
        source.group(1) if source else "",
    )
