"""The sparse MLP block: a router, and E experts of which each token meets K."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..routing import (
    Assignment,
    ExpertMlp,
    RoutingSums,
    dispatch,
    expert_capacity,
    route_top_k,
    router_noise,
    routing_sums,
)
from .config import MoeConfig
from .mlp import BIAS_INIT, KERNEL_INIT


class Moe(nn.Module):
    """Mixture of experts with token choice, in place of an `Mlp`.

    Parameters are named as in V-MoE's published tree: Router/dense/kernel (D, E);
    Mlp/Dense_0/{kernel (E, D, H), bias (E, H)}; Mlp/Dense_1/{kernel (E, H, D), bias (E, D)}.

    Attributes:
        config: the routing.
        hidden: H of one expert.
        num_modalities: M, of the statistics.
        dtype: of the activations; the router and its gates are always float32.
        shared_init: all experts start equal, as V-MoE's do, rather than independent.
    """

    config: MoeConfig
    hidden: int
    num_modalities: int
    dtype: DTypeLike = jnp.float32
    shared_init: bool = True

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "G T D"],
        mask: Bool[Array, "G T"],
        modality: Int[Array, "G T"],
        *,
        train: bool,
        noise_keys: Key[Array, " G"] | None = None,
    ) -> tuple[Float[Array, "G T D"], RoutingSums, Assignment]:
        """Route, dispatch, combine.

        Training noise is drawn from a key per group, so that it does not depend on how the
        groups are cut into chunks or spread over devices; evaluation has none.
        With `eval_capacity_factor` None, evaluation is dropless.

        Args:
            tokens: of all modalities; T is a group, the tokens that share buffers.
            mask: true for real tokens; what the others hold changes nothing.
            modality: 0..M-1.
            train: noise and training capacity.
            noise_keys: needed where `train` and `noise_std` > 0.

        Raises:
            ValueError: noise is wanted and there are no keys; or as `route_top_k`.

        Returns:
            Outputs (G, T, D) in `dtype`, zero where masked or dropped by every expert (the
            residual connection around this block is what carries those on); the sums
            that make losses and statistics; and who went where.
        """
        config = self.config
        experts = config.num_experts
        _, num_tokens, width = tokens.shape
        clean = jnp.where(mask[..., None], tokens, 0)
        logits = Router(experts, name="Router")(clean)
        noise = None
        if train and config.noise_std > 0:
            if noise_keys is None:
                raise ValueError(
                    f"noise_std={config.noise_std} needs noise_keys, one for each of the "
                    f"{tokens.shape[0]} groups: pass them, or set noise_std to 0"
                )
            noise = jax.vmap(lambda key: router_noise(key, logits.shape[1:]))(noise_keys)
        factor = config.capacity_factor if train else config.eval_capacity_factor
        capacity = None
        if factor is not None:
            capacity = expert_capacity(num_tokens, experts, config.selected, factor)
        routing = route_top_k(
            logits,
            mask,
            selected=config.selected,
            capacity=capacity,
            batch_priority=config.batch_priority,
            noise=noise,
            noise_std=config.noise_std,
        )
        outputs = dispatch(
            "blocked" if capacity is None else config.dispatcher,
            routing.assignment,
            clean.astype(self.dtype),
            Experts(experts, self.hidden, self.shared_init, name="Mlp")(width),
        )
        sums = routing_sums(routing, modality, self.num_modalities)
        return outputs.astype(self.dtype), sums, routing.assignment


class Router(nn.Module):
    """Logits of each expert: a linear map without bias, always in float32."""

    num_experts: int

    @nn.compact
    def __call__(self, x: Float[Array, "G T D"]) -> Float[Array, "G T E"]:
        """(G, T, D) to (G, T, E) float32."""
        dense = nn.Dense(
            self.num_experts,
            use_bias=False,
            dtype=jnp.float32,
            precision="highest",  # accelerators would multiply in fewer bits
            name="dense",
        )
        return dense(x.astype(jnp.float32))


class Experts(nn.Module):
    """The parameters of E experts."""

    num_experts: int
    hidden: int
    shared_init: bool

    @nn.compact
    def __call__(self, width: int) -> ExpertMlp:
        """The experts for tokens of width D."""
        up, up_bias = self._dense("Dense_0", width, self.hidden)
        down, down_bias = self._dense("Dense_1", self.hidden, width)
        return ExpertMlp(up, up_bias, down, down_bias)

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
