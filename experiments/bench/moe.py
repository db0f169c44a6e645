"""How much a sparse layer costs beside a dense one that does the same work per token."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterable
from typing import Any

import jax

from ...routing import expert_capacity, group_size
from .compiler_options import fast_options
from .hlo_profile import profile_operations
from .layers import Layer, dense_layer, foreign_layer, inputs, sparse_layer
from .pairs import time_pairs
from .programs import Program, What, build
from .settings import DEFAULT, BenchMoe, check

WHATS: tuple[What, What] = ("forward", "train")


def bench_moe(
    settings: BenchMoe = DEFAULT, against: Iterable[str] = (), profile: int = 0
) -> dict[str, Any]:
    """Time every dispatcher beside the dense MLP, in adjacent pairs.

    Each program is compiled with XLA's usual options and with those of `fast_options`, and counts
    with whichever are faster *for it*: neither side is slowed down to suit the other. The rows
    that the capacity pads are part of the sparse layer's cost. `forward` is the layer at
    inference with the training's capacity; `train` is forward and backward with noise and
    balance losses.

    Args:
        settings: sizes and dispatchers.
        against: `module:function` of layers of others; see `foreign_layer`.
        profile: so many of the longest HLO operations of each program, too.

    Returns:
        `rows`, one for each dispatcher, dropless or not, and foreign layer: {"name", "forward",
        "train"}, each of these {"ms", "dense_ms", "ratio" (median of the pairs'), "quartiles",
        "fastest" (ratio of the fastest calls), "options" ("usual" or "ours"), "gflop",
        "temporary_bytes", "of_a" (those over the bytes of A = E*C*G*(2D+H) elements)};
        `dense_programs`, the same of the dense layer, without times; of the first row (`index`,
        unless it was left out) also `forward_ratio`, `train_ratio`, and the milliseconds `moe`
        and `dense`, {"forward", "train"}; `settings`, `device`, `versions`, `load` (of the
        machine, as it began).

    Raises:
        UsageError: settings that make no layer; `against` leads nowhere.
    """
    check(settings)
    load = os.getloadavg()[0]
    x = inputs(settings)
    layers = [foreign_layer(settings, where) for where in against]
    layers = [sparse_layer(settings, *row) for row in settings.rows] + layers
    dense = {what: _fastest(dense_layer(settings), x, what) for what in WHATS}
    rows = []
    for layer in layers:
        row: dict[str, Any] = {"name": layer.name}
        for what in WHATS:
            options, program = _fastest(layer, x, what)
            pairs = time_pairs(program.run, dense[what][1].run, settings.repeats)
            row[what] = {
                "ms": pairs.first_median,
                "dense_ms": pairs.second_median,
                "ratio": pairs.ratio,
                "quartiles": pairs.quartiles,
                "fastest": pairs.fastest,
                "options": options,
                **_costs(program, settings, profile),
            }
        rows.append(row)
    return {
        "forward_ratio": rows[0]["forward"]["ratio"],
        "train_ratio": rows[0]["train"]["ratio"],
        "moe": {what: rows[0][what]["ms"] for what in WHATS},
        "dense": {what: rows[0][what]["dense_ms"] for what in WHATS},
        "rows": rows,
        "dense_programs": {
            what: {"options": options, **_costs(program, settings, profile)}
            for what, (options, program) in dense.items()
        },
        **circumstances(settings),
        "load": load,
    }


def circumstances(settings: Any) -> dict[str, Any]:
    """What every figure must be read with; the settings are a dataclass."""
    device = jax.devices()[0]
    return {
        "settings": dataclasses.asdict(settings),
        "device": {"platform": device.platform, "kind": device.device_kind, "cpus": os.cpu_count()},
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
    }


def _fastest(layer: Layer, x: jax.Array, what: What) -> tuple[str, Program]:
    """The program with the options that suit it, and their name."""
    usual = build(layer, x, what, {})
    if not fast_options():
        return "usual", usual
    ours = build(layer, x, what, fast_options())
    trial = time_pairs(ours.run, usual.run, repeats=15)
    return ("ours", ours) if trial.fastest < 1 else ("usual", usual)


def _costs(program: Program, settings: BenchMoe, profile: int) -> dict[str, Any]:
    costs: dict[str, Any] = {
        "gflop": program.flops / 1e9,
        "temporary_bytes": program.temporary_bytes,
        "of_a": program.temporary_bytes / _buffer_bytes(settings),
    }
    if profile:
        operations = profile_operations(program.compiled, program.run)[:profile]
        costs["profile"] = [dataclasses.asdict(operation) for operation in operations]
    return costs


def _buffer_bytes(settings: BenchMoe) -> int:
    """Bytes of A, what the experts' inputs, outputs and hidden units take: E*C*G*(2D+H)."""
    size = group_size(settings.tokens, settings.group)
    capacity = expert_capacity(size, settings.experts, settings.selected, settings.capacity)
    rows = settings.experts * capacity * (settings.tokens // size)
    item = 2 if settings.dtype == "bfloat16" else 4
    return rows * (2 * settings.width + settings.hidden) * item
