"""Whether our modules cost anything: a dense ViT of ours beside one of plain `flax.linen`."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from ...models import MoeConfig, Vmoe, VmoeConfig
from .layers import Layer
from .moe import circumstances
from .pairs import time_pairs
from .plain_vit import PlainVit
from .programs import Program, build
from .vit_settings import BenchVit, check_vit


def bench_vit(settings: BenchVit) -> dict[str, Any]:
    """Time the forward pass of both, with the same parameters and images, in adjacent pairs.

    Args:
        settings: sizes.

    Returns:
        `ratio` (median over pairs of ours over the plain one's time), `quartiles`, `fastest` (the
        ratio of the fastest calls), `flop_ratio` by XLA's count; of `ours` and `plain` each {"ms",
        "images_per_second", "gflop", "temporary_bytes"}; `difference`, the largest between logits;
        `settings`, `device`, `versions`, `load` (of the machine, as it began).

    Raises:
        UsageError: settings that make no model.
    """
    check_vit(settings)
    load = os.getloadavg()[0]
    ours, plain = programs(settings)
    difference = jnp.max(jnp.abs(ours.run() - plain.run()))
    pairs = time_pairs(ours.run, plain.run, settings.repeats)
    return {
        "ratio": pairs.ratio,
        "quartiles": pairs.quartiles,
        "fastest": pairs.fastest,
        "flop_ratio": ours.flops / plain.flops,
        "ours": _costs(ours, pairs.first_median, settings),
        "plain": _costs(plain, pairs.second_median, settings),
        "difference": float(difference),
        **circumstances(settings),
        "load": load,
    }


def programs(settings: BenchVit) -> tuple[Program, Program]:
    """The forward passes of ours and of the plain model, compiled."""
    s = settings
    config = VmoeConfig(
        image_size=s.image_size,
        patch_size=s.patch_size,
        width=s.width,
        hidden=s.hidden,
        depth=s.depth,
        heads=s.heads,
        num_classes=s.num_classes,
        dtype=s.dtype,
        moe=MoeConfig(placement="none"),
    )
    model, plain = Vmoe(config), PlainVit(s)
    shape = (s.batch, s.image_size, s.image_size, 3)
    images = jax.random.normal(jax.random.key(s.seed), shape)
    params = _parameters(jax.eval_shape(model.init, jax.random.key(0), images), s.seed)

    def apply_ours(params: Any, images: Any, train: bool) -> tuple[Any, Any]:
        out: Any = model.apply(params, images)
        return out.logits, 0.0

    def apply_plain(params: Any, images: Any, train: bool) -> tuple[Any, Any]:
        return plain.apply(params, images), 0.0

    first, second = (
        build(Layer(name, params, apply), images, "forward", {})
        for name, apply in (("ours", apply_ours), ("plain", apply_plain))
    )
    return first, second


def print_vit(result: dict[str, Any], console: Console | None = None) -> None:
    """`bench_vit`'s result."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("forward", no_wrap=True)
    for column in ("ms", "images/s", "GFLOP", "temp MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, title in (("ours", "byways"), ("plain", "flax.linen alone")):
        part = result[name]
        table.add_row(
            title,
            f"{part['ms']:.1f}",
            f"{part['images_per_second']:.2f}",
            f"{part['gflop']:.2f}",
            f"{part['temporary_bytes'] / 1e6:.1f}",
        )
    console.print(table)
    low, high = result["quartiles"]
    console.print(
        f"\ntime [bold]{result['ratio']:.3f}[/] ({low:.3f}–{high:.3f}; fastest calls "
        f"{result['fastest']:.3f}), FLOPs {result['flop_ratio']:.4f}, of the plain model's; logits "
        f"differ by {result['difference']:.1e}",
        highlight=False,
    )
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"{s['batch']} images of {s['image_size']} px, patches of {s['patch_size']}, "
        f"D={s['width']}, H={s['hidden']}, L={s['depth']}, {s['dtype']}, "
        f"medians of {s['repeats']} adjacent pairs; "
        f"{device['kind']} ({device['platform']}, {device['cpus']} cores), "
        f"JAX {versions['jax']}, Python {versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )


def _parameters(shapes: Any, seed: int) -> Any:
    """Small random numbers everywhere: no bias is zero, and the logits tell the models apart."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    made = [0.05 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return structure.unflatten(made)


def _costs(program: Program, milliseconds: float, settings: BenchVit) -> dict[str, float]:
    return {
        "ms": milliseconds,
        "images_per_second": 1e3 * settings.batch / milliseconds,
        "gflop": program.flops / 1e9,
        "temporary_bytes": program.temporary_bytes,
    }
