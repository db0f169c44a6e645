"""The parameters of E experts."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..routing import ExpertMlp
from .config import Activation
from .mlp import BIAS_INIT, KERNEL_INIT


class Experts(nn.Module):
    """E two-layer MLPs of width H."""

    num_experts: int
    hidden: int
    shared_init: bool
    activation: Activation = "gelu_tanh"

    @nn.compact
    def __call__(self, width: int) -> ExpertMlp:
        """The experts for tokens of width D."""
        up, up_bias = self._dense("Dense_0", width, self.hidden)
        down, down_bias = self._dense("Dense_1", self.hidden, width)
        return ExpertMlp(up, up_bias, down, down_bias, self.activation)

    def _dense(self, name: str, inputs: int, outputs: int) -> tuple[Array, Array]:
        return _ExpertDense(self.num_experts, inputs, outputs, self.shared_init, name=name)()


class _ExpertDense(nn.Module):
    num_experts: int
    inputs: int
    outputs: int
    shared_init: bool

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "E I O"], Float[Array, "E O"]]:
        kernel = self.param("kernel", self._each(KERNEL_INIT), (self.inputs, self.outputs))
        bias = self.param("bias", self._each(BIAS_INIT), (self.outputs,))
        return kernel, bias

    def _each(self, init):
        """An initialiser of E arrays: the fans are those of one expert, never E times them."""

        def initialise(key, shape):
            keys = jnp.stack([key] * self.num_experts)
            if not self.shared_init:
                keys = jax.random.split(key, self.num_experts)
            return jax.vmap(lambda one: init(one, shape, jnp.float32))(keys)

        return initialise
