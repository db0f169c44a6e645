"""The routers' parameters: what turns tokens into logits."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..routing import SoftRouting, route_soft, task_logits


class Router(nn.Module):
    """Logits of each expert: a linear map without bias, always in float32.

    Attributes:
        num_experts: E.
        biased: there is a loss-free bias (E,), which no gradient moves: the trainer does.
        tasks: N, rows of the learned table of logits by task; 0 is none.
        task_alone: the table is all there is, and the token is not asked.
    """

    num_experts: int
    biased: bool = False
    tasks: int = 0
    task_alone: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "G T D"], task: Int[Array, "G T"]
    ) -> tuple[Float[Array, "G T E"], Float[Array, " E"] | None]:
        """Float32 logits, and the bias or None."""
        logits = None
        if not self.task_alone:
            dense = nn.Dense(
                self.num_experts,
                use_bias=False,
                dtype=jnp.float32,
                precision="highest",  # accelerators would multiply in fewer bits
                name="dense",
            )
            # Over rows, for the reason told in `Mlp`.
            rows = dense(x.astype(jnp.float32).reshape(-1, x.shape[-1]))
            logits = rows.reshape(*x.shape[:2], self.num_experts)
        if self.tasks:
            # Not zeros, or routing by task alone would begin with a tie.
            start = nn.initializers.normal(0.02)
            table = self.param("task", start, (self.tasks, self.num_experts))
            logits = task_logits(table, task, logits)
        assert logits is not None
        bias = None
        if self.biased:
            bias = self.param("bias", nn.initializers.zeros, (self.num_experts,))
        return logits, bias


class SoftRouter(nn.Module):
    """Soft MoE's slot vectors and scale, named as in the published code.

    Attributes:
        num_experts: E.
        slots: C, slots of each expert.
    """

    num_experts: int
    slots: int

    @nn.compact
    def __call__(self, x: Float[Array, "G T D"], mask: Bool[Array, "G T"]) -> SoftRouting:
        """Dense weights of tokens and slots."""
        start = nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
        mu = self.param("mu", start, (x.shape[-1], self.num_experts, self.slots))
        scale = self.param("scale", nn.initializers.ones, ())
        return route_soft(x, mu, scale, mask)
