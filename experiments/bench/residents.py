"""What it costs that experts are fetched when they wake, by the budget of bytes that stay."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...datasets import DataConfig, load_data
from ...models import MoeConfig, Shelf, Vmoe, VmoeConfig, lower, shelve
from .moe import circumstances
from .residents_settings import BenchResidents, Stream, check_residents
from .rounds import time_rounds

_BASE = "on the device"


def bench_residents(settings: BenchResidents) -> dict[str, Any]:
    """Times a stream of batches, with experts on the device and on shelves of several budgets.

    The model is not trained: its router separates images by what they look like, as any does, but
    nothing has balanced it. Each batch's logits are waited for. The file was just written, so that
    its pages are in memory: what is timed are copies, not a disk.

    Returns:
        {"rows": [{"stream", "batch", "budget" (percent), "ms" (a batch), "slowdown" (to all experts
        on the device), "hit_rate", "fetched" (bytes a batch), "peak" (live bytes), "budget_bytes",
        "equal" (logits, bit for bit)}], "base": [{"stream", "batch", "ms", "awake" (mean experts a
        layer and batch)}], "experts": {"bytes", "each"}, …}. Hit rates and bytes are those of a
        pass over the stream after others.

    Raises:
        UsageError: settings that cannot be measured.
    """
    check_residents(settings)
    load = os.getloadavg()[0]
    params, apply = _model(settings)
    rows, base = [], []
    for stream in settings.streams:
        images = _images(stream, settings)
        for batch in settings.batches:
            with tempfile.TemporaryDirectory() as folder:
                found, plain = _sizes(settings, params, apply, images, batch, Path(folder))
            rows += [{"stream": stream, **row} for row in found]
            base.append({"stream": stream, **plain})
    return {
        "rows": rows,
        "base": base,
        "experts": {"bytes": settings.all_bytes, "each": settings.expert_bytes},
        **circumstances(settings),
        "load": load,
    }


def _sizes(
    settings: BenchResidents,
    params: Any,
    apply: Callable[..., Any],
    images: np.ndarray,
    batch: int,
    folder: Path,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    batches = [jnp.asarray(part) for part in np.split(images, len(images) // batch)]
    low = lower(apply, params, batches[0], together=settings.together)
    args = low.split(params, batches[0])[0]
    shelves = {
        budget: shelve(
            low,
            (args, batches[0]),
            settings.all_bytes * budget // 100,
            path=folder / f"{batch}-{budget}",
        )
        for budget in settings.budgets
    }

    def road(tree: Any) -> Callable[[], list[Any]]:
        return lambda: [jax.block_until_ready(low(tree, part)) for part in batches]

    roads = {_BASE: road(args)}
    roads |= {str(budget): road(shelf.args[0]) for budget, shelf in shelves.items()}
    try:
        times = time_rounds(roads, settings.repeats)
        wanted, awake = [], []
        for part in batches:
            wanted.append(np.asarray(low(args, part)))
            awake.append(np.mean([(sizes > 0).sum() for sizes in low.awake()]))
        rows = []
        for budget, shelf in shelves.items():
            rows.append(
                {
                    "batch": batch,
                    "budget": budget,
                    "ms": 1e3 * times.median(str(budget)) / len(batches),
                    "slowdown": times.ratio(str(budget), _BASE),
                    **_pass(shelf, roads[str(budget)], wanted),
                }
            )
    finally:
        for shelf in shelves.values():
            shelf.close()
    ms = 1e3 * times.median(_BASE) / len(batches)
    return rows, {"batch": batch, "ms": ms, "awake": float(np.mean(awake))}


def _pass(shelf: Shelf, road: Callable[[], list[Any]], wanted: list[np.ndarray]) -> dict[str, Any]:
    """What one more pass finds and fetches."""
    before = shelf.residents.stats()
    found = road()
    stats = shelf.residents.stats() - before
    pairs = zip(found, wanted, strict=True)
    return {
        "hit_rate": stats.hit_rate,
        "fetched": stats.fetched / len(wanted),
        "peak": stats.peak,
        "budget_bytes": stats.budget,
        "equal": all(np.array_equal(np.asarray(one), want) for one, want in pairs),
    }


def _model(settings: BenchResidents) -> tuple[Any, Callable[..., Any]]:
    config = VmoeConfig(
        image_size=32,
        patch_size=settings.patch,
        width=settings.width,
        hidden=settings.hidden,
        depth=settings.depth,
        heads=4,
        num_classes=16,
        moe=MoeConfig(
            placement="every",
            n=2,
            num_experts=settings.experts,
            selected=1,
            capacity_factor=None,
            eval_capacity_factor=None,
            group_size=2**20,
            dispatcher="pathways",
        ),
    )
    module = Vmoe(config)
    blank = jnp.zeros((1, 32, 32, 3))
    params = jax.jit(module.init)(jax.random.key(settings.seed), blank)
    # A head begins at zero, and would hide every difference.
    head = params["params"]["head"]["kernel"]
    noise = jax.random.normal(jax.random.key(settings.seed + 1), head.shape)
    params["params"]["head"]["kernel"] = noise / settings.width**0.5
    return params, lambda p, x: module.apply(p, x).logits  # pyright: ignore


def _images(stream: Stream, settings: BenchResidents) -> np.ndarray:
    """(images, 32, 32, 3) float32 in -1..1; art is on white."""
    if stream == "noise":
        rng = np.random.default_rng(settings.seed)
        return rng.uniform(-1, 1, (settings.images, 32, 32, 3)).astype(np.float32)
    examples = load_data(DataConfig())
    rows = np.resize(examples.rows("test"), settings.images)
    rgba = examples.rgba[rows].astype(np.float32) / 255
    alpha = rgba[..., 3:]
    return 2 * (rgba[..., :3] * alpha + 1 - alpha) - 1
