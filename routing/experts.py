"""The experts' parameters and arithmetic: E two-layer MLPs of equal shape."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .activations import ACTIVATIONS, ActivationName
from .leaf import Leaf
from .varying import vary_alike

# The leaves of an ExpertMlp; inside loops over experts those of one, without the first axis.
Weights = tuple[Array, Array, Array, Array]


def mlp(
    up: Float[Array, "D H"],
    up_bias: Float[Array, " H"],
    down: Float[Array, "H D"],
    down_bias: Float[Array, " D"],
    x: Float[Array, "... D"],
    activation: ActivationName = "gelu_tanh",
) -> Float[Array, "... D"]:
    """One dense MLP, in the type of `x`."""
    dtype = x.dtype
    h = ACTIVATIONS[activation](x @ up.astype(dtype) + up_bias.astype(dtype))
    return h @ down.astype(dtype) + down_bias.astype(dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpertMlp:
    """E experts, each `activation(x @ up + up_bias) @ down + down_bias`.

    A pytree whose leaves all lead with the axis of experts, so that it can be
    mapped, scanned, sharded or cut by expert.

    Attributes:
        up: (E, D, H).
        up_bias: (E, H).
        down: (E, H, D).
        down_bias: (E, D).
        activation: a form of GELU.

    Inside a scan or map over E, an instance holds one expert, without that axis.
    """

    up: Leaf
    up_bias: Leaf
    down: Leaf
    down_bias: Leaf
    activation: ActivationName = dataclasses.field(metadata={"static": True}, default="gelu_tanh")

    @property
    def weights(self) -> Weights:
        """The leaves, as a tuple."""
        return self.up, self.up_bias, self.down, self.down_bias

    def astype(self, dtype: DTypeLike) -> ExpertMlp:
        """The same experts in another type (done once, before loops over blocks)."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)

    def batched(self, x: Float[Array, "E N D"]) -> Float[Array, "E N D"]:
        """Each expert on its own N rows, in the type of `x`.

        Between the forward and the backward pass only the (E, N, H) sums before the GELU are
        kept. Reverse-mode derivatives only.
        """
        # Cast before they change type, so that devices add up gradients in the weights' own.
        x, experts = vary_alike(x, self)
        out: Array = _batched(self.activation, x, experts.astype(x.dtype).weights)
        return out


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _batched(
    activation: ActivationName, x: Float[Array, "E N D"], weights: Weights
) -> Float[Array, "E N D"]:
    return _batched_fwd(activation, x, weights)[0]


def _batched_fwd(activation, x, weights):
    up, up_bias, down, down_bias = weights
    sums = jnp.einsum("end,edh->enh", x, up) + up_bias[:, None]
    out = jnp.einsum("enh,ehd->end", ACTIVATIONS[activation](sums), down) + down_bias[:, None]
    return out, (x, sums, weights)


def _batched_bwd(activation, residuals, grad):
    """Written out for the sake of memory: each (E, N, H) array is gone before the next is made.

    Automatic differentiation would keep the GELU, its tanh, and the sums, all (E, N, H).
    """
    x, sums, (up, _, down, _) = residuals
    act = ACTIVATIONS[activation]
    d_down = _down_gradient(act(sums), grad)
    # What follows waits for `d_down`, so that the GELU's memory is free again.
    sums, grad, d_down = lax.optimization_barrier((sums, grad, d_down))
    d_hidden = jnp.einsum("end,ehd->enh", grad, down)
    (d_sums,) = jax.vjp(act, sums)[1](d_hidden)
    d_up = jnp.einsum("end,enh->edh", x, d_sums)
    d_x = jnp.einsum("enh,edh->end", d_sums, up)
    return d_x, (d_up, jnp.sum(d_sums, axis=1), d_down, jnp.sum(grad, axis=1))


def _down_gradient(
    hidden: Float[Array, "E N H"], grad: Float[Array, "E N D"]
) -> Float[Array, "E H D"]:
    """The same as hidden^T grad, on CPUs with many rows by way of its transpose.

    XLA's CPU back end takes 10.3 ms for the one and 8.8 for the other, transposition included
    (E=8, N=272, H=1024, D=256, 2 cores). The barrier keeps it from undoing the detour. What is
    gained grows with N, what the transposition costs does not: below 192 rows it does not pay.
    """

    def straight(hidden, grad):
        return jnp.einsum("enh,end->ehd", hidden, grad)

    def turned(hidden, grad):
        product = jnp.einsum("end,enh->edh", grad, hidden)
        return lax.optimization_barrier(product).swapaxes(1, 2)

    if hidden.shape[1] < 192:
        return straight(hidden, grad)
    return lax.platform_dependent(hidden, grad, cpu=turned, default=straight)


_batched.defvjp(_batched_fwd, _batched_bwd)
