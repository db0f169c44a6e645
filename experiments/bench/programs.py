"""Layers compiled into the two programs that are timed: forward, and forward with backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from .layers import Layer

What = Literal["forward", "train"]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program and its arguments.

    Attributes:
        compiled: by XLA.
        run: calls it; the results may not be there yet.
    """

    compiled: jax.stages.Compiled
    run: Callable[[], Any]

    @property
    def flops(self) -> float:
        """By XLA's own count."""
        return float((self.compiled.cost_analysis() or {}).get("flops", 0.0))

    @property
    def bytes_accessed(self) -> float:
        """By XLA's own count: what all operations read and write."""
        return float((self.compiled.cost_analysis() or {}).get("bytes accessed", 0.0))

    @property
    def temporary_bytes(self) -> int:
        """Memory beside arguments and results."""
        analysis: Any = self.compiled.memory_analysis()
        return int(analysis.temp_size_in_bytes)


def build(layer: Layer, x, what: What, options: dict[str, str]) -> Program:
    """Compile one of a layer's programs.

    `forward` gives the outputs. `train` gives outputs, loss, and the gradients of parameters
    and inputs for a fixed cotangent: were the outputs not among them, the compiler would leave out
    the dense layer's last product, which no gradient of its own needs.

    Args:
        layer: which.
        x: (G, T, D).
        what: which program.
        options: XLA's.
    """
    cotangent = jax.random.normal(jax.random.key(1), x.shape)

    def forward(params, x):
        return layer.apply(params, x, False)[0]

    def loss(params, x, cotangent):
        out, auxiliary = layer.apply(params, x, True)
        return jnp.vdot(out.astype(jnp.float32), cotangent) + auxiliary, out

    arguments = (layer.params, x) if what == "forward" else (layer.params, x, cotangent)
    function = forward if what == "forward" else jax.value_and_grad(loss, (0, 1), has_aux=True)
    with layer.context():
        jitted = jax.jit(function, compiler_options=options)
        compiled = jitted.lower(*arguments).compile()

    def run():
        with layer.context():
            return compiled(*arguments)

    return Program(compiled, run)
