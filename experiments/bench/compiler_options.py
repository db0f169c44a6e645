"""Options for XLA that make some programs faster, where this XLA knows them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

# XLA's library fusions (YNN) take matrix products together with their element-wise
# neighbours. For some programs of our sizes plain products with fused loops around them are
# faster, so `byways bench moe` tries both (docs/benchmarks/moe.md); the trainer gains nothing
# by them any more (docs/benchmarks/training.md).
_WANTED = {"xla_cpu_experimental_ynn_fusion_type": ""}


@functools.cache
def fast_options() -> dict[str, str]:
    """Options for `jax.jit(…, compiler_options=…)`; empty where they are not for us.

    Another back end than the CPU, or an XLA that does not know an option, gets none: they
    change speed only, never what is computed (but for rounding).
    """
    if jax.default_backend() != "cpu":
        return {}
    probe = jax.jit(lambda x: x + 1, compiler_options=_WANTED)
    try:
        probe.lower(jnp.zeros(())).compile()
    except Exception:  # XLA's own error type differs between versions
        return {}
    return dict(_WANTED)
