"""The mergeable state of a routing layer: sums, from which losses and statistics are made."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .balance import load_probabilities, squared_cv
from .top_k import TopKRouting


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutingSums:
    """Sums over the valid tokens of a routing call; masked tokens are in none of them.

    Everything is added up, nothing averaged, so two states merge by adding their leaves:
    over the chunks of a batch, its devices, or the batches of an evaluation. The sums that
    losses need carry gradients, so a loss over merged chunks has the gradient of
    the loss over the whole. All float32 (exact for counts up to 16.7 million; convert to float64
    before merging longer evaluations).

    Attributes:
        groups: (), groups with at least one valid token.
        importance: (), sum over those of CV^2 over experts of the summed clean gates.
        load: (), sum over those of CV^2 of the smooth load; 0 unless `stochastic`.
        load_e: (E,), smooth load (expected number of tokens, under fresh noise, that would pick
            the expert); 0 unless `stochastic`.
        z: (), sum of logsumexp(clean logits)^2.
        tokens: (M,), tokens n_m.
        probs: (M, E), sum of clean softmax probabilities.
        entropy: (M,), sum of H(p_i) in nats, clean.
        top_gate: (M,), sum of the largest clean probability.
        assigned: (M, E), pairs wanted, before drops.
        kept: (M, E), pairs that got a slot, after drops.
        processed: (M,), tokens with at least one kept pair.
        stochastic: noise was on, and `load` means something.
        selected: K.
    """

    groups: Float[Array, ""]
    importance: Float[Array, ""]
    load: Float[Array, ""]
    load_e: Float[Array, " E"]
    z: Float[Array, ""]
    tokens: Float[Array, " M"]
    probs: Float[Array, "M E"]
    entropy: Float[Array, " M"]
    top_gate: Float[Array, " M"]
    assigned: Float[Array, "M E"]
    kept: Float[Array, "M E"]
    processed: Float[Array, " M"]
    stochastic: bool = dataclasses.field(metadata={"static": True})
    selected: int = dataclasses.field(metadata={"static": True})

    def merge(self, other: RoutingSums) -> RoutingSums:
        """The state of both calls together.

        Raises:
            ValueError: one call had router noise and the other had not, or their K differs.
        """
        mine, theirs = (self.stochastic, self.selected), (other.stochastic, other.selected)
        if mine != theirs:
            raise ValueError(
                f"cannot merge routing sums with (stochastic, K) = {mine} and {theirs}: "
                "keep training and evaluation, and layers of different K, apart"
            )
        return jax.tree.map(lambda a, b: a + b, self, other)


def routing_sums(
    routing: TopKRouting, modality: Int[Array, "G T"], num_modalities: int
) -> RoutingSums:
    """Sum up one call of a router.

    Args:
        routing: of `route_top_k`.
        modality: 0..M-1 for each token (anything where masked).
        num_modalities: M.

    Raises:
        ValueError: `modality` has another shape than the mask.
    """
    mask, logits, pairs = routing.mask, routing.logits, routing.assignment
    if modality.shape != mask.shape:
        raise ValueError(f"modality has shape {modality.shape}, expected (G, T) = {mask.shape}")
    experts = pairs.num_experts
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    probs = jnp.exp(log_probs)
    member = mask[..., None] & (modality[..., None] == jnp.arange(num_modalities))
    member = member.astype(jnp.float32)
    valid = mask.astype(jnp.float32)

    def by_modality(values: Float[Array, "G T"]) -> Float[Array, " M"]:
        return jnp.einsum("gt,gtm->m", values, member)

    occupied = jnp.any(mask, axis=1).astype(jnp.float32)
    per_group = jnp.einsum("gte,gt->ge", probs, valid)
    load_e = jnp.zeros((experts,), jnp.float32)
    load = jnp.zeros((), jnp.float32)
    if routing.sigma > 0:
        wins = load_probabilities(logits, routing.noisy_logits, routing.selected, routing.sigma)
        load_g = jnp.einsum("gte,gt->ge", wins, valid)
        load_e, load = jnp.sum(load_g, axis=0), jnp.sum(squared_cv(load_g) * occupied)

    def pairs_by_modality(which: Array) -> Float[Array, "M E"]:
        one_hot = which[..., None] & (pairs.expert[..., None] == jnp.arange(experts))
        one_hot = one_hot.reshape(*mask.shape, routing.selected, experts)
        return jnp.einsum("gte,gtm->me", jnp.sum(one_hot.astype(jnp.float32), axis=2), member)

    kept = pairs.kept.reshape(*mask.shape, routing.selected)
    return RoutingSums(
        groups=jnp.sum(occupied),
        importance=jnp.sum(squared_cv(per_group) * occupied),
        load=load,
        load_e=load_e,
        z=jnp.sum(jnp.square(jax.nn.logsumexp(logits, axis=-1)) * valid),
        tokens=jnp.sum(member, axis=(0, 1)),
        probs=jnp.einsum("gte,gtm->me", probs, member),
        entropy=by_modality(-jnp.sum(probs * log_probs, axis=-1)),
        top_gate=by_modality(jnp.max(probs, axis=-1)),
        assigned=pairs_by_modality(pairs.routed),
        kept=pairs_by_modality(pairs.kept),
        processed=by_modality(jnp.any(kept, axis=-1).astype(jnp.float32)),
        stochastic=routing.sigma > 0,
        selected=routing.selected,
    )
