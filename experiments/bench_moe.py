"""How much a sparse layer costs beside a dense one that does the same work per token."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..models import Mlp, Moe, MoeConfig
from ..routing import auxiliary_losses, group_size
from .compiler_options import fast_options


@dataclasses.dataclass(frozen=True)
class BenchMoe:
    """Time the MoE layer against one dense MLP of width K*H, in turns.

    Both are whole Linen layers, compiled, float32: the sparse one with router, noise,
    assignment, dispatch and (in training) V-MoE's two balance losses; the dense one
    meets every token with as many hidden units as a token has in its K experts. The rows that
    the capacity pads are part of the sparse layer's cost.

    Attributes:
        tokens: G*T.
        group: wished T.
        width: D.
        hidden: H of one expert.
        experts: E.
        selected: K.
        capacity: capacity factor.
        batch_priority: serve tokens by descending gate, which is one more sort.
        repeats: timed pairs; medians are over these.
        seed: of the data.
    """

    tokens: int = 1024
    group: int = 256
    width: int = 256
    hidden: int = 1024
    experts: int = 8
    selected: int = 2
    capacity: float = 1.05
    batch_priority: bool = False
    repeats: int = 40
    seed: int = 0


def bench_moe(settings: BenchMoe = BenchMoe()) -> dict[str, Any]:
    """Run the benchmark.

    Each layer is compiled with XLA's usual options and with those of our training step, and
    counts with whichever are faster *for it*: neither is slowed down to suit the other.

    Returns:
        `train_ratio`, `forward_ratio`: median of sparse over dense time of a pair;
        `moe`, `dense`: median milliseconds, `{"forward": ..., "train": ...}`, and under `options`
        which options were faster; `spread`: quartiles of the ratios; `all`: every median;
        `settings`, `device`, `versions`, `load` (of the machine, as it began).

    Raises:
        ValueError: the settings make no layer (K > E, capacity below one slot).
    """
    steps = {("usual", *name): step for name, step in _steps(settings, {}).items()}
    if fast_options():
        steps |= {("ours", *name): step for name, step in _steps(settings, fast_options()).items()}
    for step in steps.values():  # compile, then warm the caches
        jax.block_until_ready(step())
        jax.block_until_ready(step())
    times: dict[tuple[str, ...], list[float]] = {name: [] for name in steps}
    load = os.getloadavg()[0]
    for i in range(settings.repeats):
        # In turns, and in turns first, so that a busy moment falls on both sides.
        names = list(steps)
        for name in names if i % 2 else names[::-1]:
            begin = time.perf_counter()
            jax.block_until_ready(steps[name]())
            times[name].append(1e3 * (time.perf_counter() - begin))
    medians = {name: statistics.median(values) for name, values in times.items()}
    result: dict[str, Any] = {"moe": {}, "dense": {}, "options": {}, "spread": {}}
    for what in ("forward", "train"):
        best = {
            layer: min((n for n in steps if n[1:] == (layer, what)), key=medians.__getitem__)
            for layer in ("moe", "dense")
        }
        ratios = [a / b for a, b in zip(times[best["moe"]], times[best["dense"]], strict=True)]
        result[f"{what}_ratio"] = statistics.median(ratios)
        result["spread"][what] = [float(q) for q in np.quantile(ratios, (0.25, 0.75))]
        for layer, name in best.items():
            result[layer][what] = medians[name]
            result["options"][f"{layer}/{what}"] = name[0]
    device = jax.devices()[0]
    return result | {
        "all": {"/".join(name): value for name, value in medians.items()},
        "settings": dataclasses.asdict(settings),
        "device": {"platform": device.platform, "kind": device.device_kind, "cpus": os.cpu_count()},
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "load": load,
    }


def _steps(settings: BenchMoe, options: dict[str, str]) -> dict[tuple[str, str], Callable[[], Any]]:
    """The four timed programs: (moe or dense, forward or train)."""
    s = settings
    size = group_size(s.tokens, s.group)
    config = MoeConfig(
        num_experts=s.experts,
        selected=s.selected,
        capacity_factor=s.capacity,
        group_size=size,
        batch_priority=s.batch_priority,
    )
    moe = Moe(config, hidden=s.hidden, num_modalities=1, shared_init=False)
    dense = Mlp(s.selected * s.hidden)
    key = jax.random.key(s.seed)
    shape = (s.tokens // size, size, s.width)
    x, cotangent = (jax.random.normal(k, shape) for k in jax.random.split(key))
    mask, modality = jnp.ones(shape[:2], bool), jnp.zeros(shape[:2], jnp.int32)
    noise_keys = jax.random.split(key, shape[0])
    # Evaluation mode, which makes the same parameters, needs no keys; compiled, it is quick.
    sparse_params = jax.jit(lambda k: moe.init(k, x, mask, modality, train=False))(key)
    dense_params = jax.jit(dense.init)(key, x)

    def compiled(function):
        return jax.jit(function, compiler_options=options)

    def sparse_forward(params, x) -> Any:
        return moe.apply(params, x, mask, modality, train=True, noise_keys=noise_keys)

    def sparse_loss(params, x, cotangent):
        out, sums, _ = sparse_forward(params, x)
        balance = auxiliary_losses(sums, ["all"], importance=True, load=True)
        loss = jnp.vdot(out, cotangent) + 0.005 * (balance["importance"] + balance["load"])
        return loss, out

    def dense_loss(params, x, cotangent):
        out: Any = dense.apply(params, x)
        return jnp.vdot(out, cotangent), out

    # The outputs are returned beside the gradients. Were they not, the compiler would
    # leave out the dense layer's last product, which no gradient of its own needs.
    def train_step(loss):
        return compiled(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))

    forward = {
        "moe": (compiled(lambda p, x: sparse_forward(p, x)[0]), sparse_params),
        "dense": (compiled(dense.apply), dense_params),
    }
    train = {
        "moe": (train_step(sparse_loss), sparse_params),
        "dense": (train_step(dense_loss), dense_params),
    }
    steps: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, (function, params) in forward.items():
        steps[name, "forward"] = lambda f=function, p=params: f(p, x)
    for name, (function, params) in train.items():
        steps[name, "train"] = lambda f=function, p=params: f(p, x, cotangent)
    return steps
