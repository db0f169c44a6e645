"""The sparse MLP block: a router, and E experts of which each token meets K."""

from __future__ import annotations

import dataclasses
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..routing import (
    BIASED,
    NEED_CAPACITY,
    NOT_CAUSAL,
    Assignment,
    RouterName,
    Routing,
    RoutingSums,
    dispatch,
    dispatch_soft,
    expert_capacity,
    keep_experts,
    route,
    router_noise,
    routing_sums,
)
from .config import Activation, MoeConfig
from .experts import Experts
from .mlp import Mlp
from .router import Router, SoftRouter


def draw_keys(
    config: MoeConfig, keys: Key[Array, " G"] | None, groups: int, train: bool
) -> Key[Array, " G"] | None:
    """The keys; or, where the random router is evaluated without any, the same ones each time.

    What folds keys by block or by tower asks here first, so that layers draw apart then, too.
    """
    if keys is None and not train and config.router == "random":
        return jax.random.split(jax.random.key(0), groups)
    return keys


class Moe(nn.Module):
    """Mixture of experts in place of an `Mlp`.

    Parameters are named as in V-MoE's published tree: Router/dense/kernel (D, E);
    Mlp/Dense_0/{kernel (E, D, H), bias (E, H)}; Mlp/Dense_1/{kernel (E, H, D), bias (E, D)}.
    By option there are Router/bias (E,), Router/task (N, E), Router/{mu (D, E, C), scale} of
    the soft router, and Shared/Dense_{0,1} of the shared experts, which are one MLP as wide as
    all of them.

    Attributes:
        config: the routing.
        hidden: H of one expert (before any granularity).
        num_modalities: M, of the statistics, and of the tasks.
        dtype: of the activations; the router and its gates are always float32.
        shared_init: all experts start equal, as V-MoE's do, rather than independent.
        kept: numbers of the experts that are there, of a pathway (`cut_pathway`); None is all.
            The router knows all of them still, and a token loses those that are gone.
        activation: of the experts.
    """

    config: MoeConfig
    hidden: int
    num_modalities: int
    dtype: DTypeLike = jnp.float32
    shared_init: bool = True
    kept: tuple[int, ...] | None = None
    activation: Activation = "gelu_tanh"

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "G T D"],
        mask: Bool[Array, "G T"],
        modality: Int[Array, "G T"],
        *,
        train: bool,
        noise_keys: Key[Array, " G"] | None = None,
        noise: Float[Array, "G T E"] | None = None,
        ids: Int[Array, "G T"] | None = None,
    ) -> tuple[Float[Array, "G T D"], RoutingSums | None, Assignment | None]:
        """Route, dispatch, combine.

        Training noise is drawn from a key per group, so that it does not depend on how the
        groups are cut into chunks or spread over devices; evaluation has none.
        With `capacity_factor` None training is dropless, with `eval_capacity_factor` evaluation.

        Args:
            tokens: of all modalities; T is a group, the tokens that share buffers.
            mask: true for real tokens; what the others hold changes nothing.
            modality: 0..M-1.
            train: noise and training capacity.
            noise_keys: needed where `train` and `noise_std` > 0, and by the random router, which
                at evaluation has fixed ones without (`draw_keys`).
            noise: standard normal, instead of what the keys would draw.
            ids: what each token is, for the hash router.

        Raises:
            ValueError: noise is wanted and there are no keys; the granularity does not divide
                `hidden`; or as `route` and `keep_experts`.

        Returns:
            Outputs (G, T, D) in `dtype`, zero where masked or dropped by every expert (the
            residual connection around this block is what carries those on); the sums
            that make losses and statistics; and who went where (None, None of soft routing).
        """
        config, width = self.config, tokens.shape[-1]
        if mask.shape != tokens.shape[:2]:
            raise ValueError(f"mask has shape {mask.shape}, expected (G, T) = {tokens.shape[:2]}")
        if self.hidden % config.granularity:
            raise ValueError(
                f"hidden={self.hidden} does not divide into granularity={config.granularity} parts"
            )
        hidden = self.hidden // config.granularity
        clean = jnp.where(mask[..., None], tokens, 0)
        there = config.routed_experts if self.kept is None else len(self.kept)
        experts = Experts(there, hidden, self.shared_init, self.activation, name="Mlp")
        rows = clean.astype(self.dtype)
        if config.router == "soft":
            if self.kept is not None:
                raise ValueError("soft routing has no pathway: every token is in every slot")
            router = SoftRouter(config.routed_experts, config.soft_slots, name="Router")
            outputs = dispatch_soft(router(clean, mask), rows, experts(width))
            sums = assignment = None
        else:
            routing = self._route(clean, mask, modality, train, noise_keys, noise, ids)
            assignment = among = routing.assignment
            if self.kept is not None:
                among = keep_experts(assignment, self.kept)
                assignment = dataclasses.replace(assignment, kept=among.kept)
                routing = dataclasses.replace(routing, assignment=assignment)
            how = config.dispatcher
            if assignment.capacity is None and how in NEED_CAPACITY:
                how = "blocked"
            outputs = dispatch(how, among, rows, experts(width))
            sums = routing_sums(routing, modality, self.num_modalities)
        outputs = outputs.astype(self.dtype)
        if config.shared_experts:
            wide = config.shared_experts * self.hidden
            shared = Mlp(wide, self.dtype, self.activation, name="Shared")
            outputs += jnp.where(mask[..., None], shared(rows), 0)
        return outputs, sums, assignment

    def _route(
        self,
        tokens: Float[Array, "G T D"],
        mask: Bool[Array, "G T"],
        modality: Int[Array, "G T"],
        train: bool,
        keys: Key[Array, " G"] | None,
        noise: Float[Array, "G T E"] | None,
        ids: Int[Array, "G T"] | None,
    ) -> Routing:
        config, experts = self.config, self.config.routed_experts
        blind = config.router in ("hash", "random")
        router = Router(
            experts,
            biased=config.bias != "none",
            tasks=0 if config.task == "none" else self.num_modalities,
            task_alone=config.task == "alone",
            name="Router",
        )
        # Routers that do not look have no parameters either.
        bias, logits = None, jnp.zeros((*tokens.shape[:2], experts))
        if not blind:
            logits, bias = router(tokens, modality)
        if not train or blind:
            noise = None
        elif noise is None and config.noise_std > 0:
            if keys is None:
                raise ValueError(
                    f"noise_std={config.noise_std} needs noise_keys, one for each of the "
                    f"{tokens.shape[0]} groups: pass them, or set noise_std to 0"
                )
            noise = jax.vmap(lambda key: router_noise(key, logits.shape[1:]))(keys)
        if keys is None and train and config.router == "random":
            raise ValueError("router 'random' needs noise_keys to draw from, one for each group")
        keys = draw_keys(config, keys, tokens.shape[0], train)
        chosen = config.chosen if train else config.eval_chosen
        return route(
            cast(RouterName, config.router),  # soft routing does not come here
            logits,
            mask,
            selected=chosen,
            capacity=self._capacity(tokens.shape[1], chosen, train),
            # Switch and GShard keep their own order; `top_k` with K=1 is the one with priority.
            batch_priority=config.batch_priority if config.router in BIASED else None,
            priority=config.priority,
            renormalize=config.renormalize,
            noise=noise,
            noise_std=config.noise_std,
            bias=bias,
            ids=ids,
            key=keys,
        )

    def _capacity(self, num_tokens: int, chosen: int, train: bool) -> int | None:
        """C, or None for dropless."""
        config = self.config
        factor = config.capacity_factor if train else config.eval_capacity_factor
        if factor is None:
            if config.router not in NOT_CAUSAL:
                return None
            if config.capacity_factor is None:
                raise ValueError(
                    f"router {config.router!r} has no dropless form, an expert takes as many "
                    "tokens as it has slots: give a capacity_factor"
                )
            factor = config.capacity_factor
        return expert_capacity(
            num_tokens,
            config.routed_experts,
            chosen,
            factor,
            multiple_of=config.capacity_multiple_of,
        )
