"""The mergeable state of a routing layer: sums, from which losses and statistics are made."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from .balance import PoolSums, entropy, load_probabilities, pool_sums
from .leaf import Leaf, OptionalBranch
from .routed import Routing
from .tallies import by_modality, first_choices, last_logit, per_expert, per_token, top_two


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
        per_group: balance losses of the groups.
        per_device: balance losses of the devices' pools; None where `devices` was.
        load_e: (E,), smooth load (expected number of tokens, under fresh noise, that would pick
            the expert); 0 unless `stochastic`.
        gates_e: (E,), sum of the gates that the choice was made on (noisy if there was noise).
        first_e: (E,), tokens whose largest noisy gate is the expert's.
        z: (), sum of logsumexp(clean logits)^2.
        slots: (), E*C of each group with a valid token; for a dropless router, which has no
            slots to leave empty, the number of kept pairs.
        tokens: (M,), tokens n_m.
        probs: (M, E), sum of clean probabilities.
        entropy: (M,), sum of H(p_i) in nats, clean.
        top_gate: (M,), sum of the largest clean probability.
        gap: (M,), sum of the largest less the second largest clean probability.
        weight: (M,), sum of the combine weights of kept pairs (noisy gates).
        assigned: (M, E), pairs wanted, before drops.
        kept: (M, E), pairs that got a slot, after drops.
        processed: (M,), tokens with at least one kept pair.
        stochastic: noise was on and the router is one of token choice: `load` means something.
        selected: K; 0 for expert choice.
    """

    per_group: PoolSums
    per_device: OptionalBranch[PoolSums]
    load_e: Leaf
    gates_e: Leaf
    first_e: Leaf
    z: Leaf
    slots: Leaf
    tokens: Leaf
    probs: Leaf
    entropy: Leaf
    top_gate: Leaf
    gap: Leaf
    weight: Leaf
    assigned: Leaf
    kept: Leaf
    processed: Leaf
    stochastic: bool = dataclasses.field(metadata={"static": True})
    selected: int = dataclasses.field(metadata={"static": True})

    @property
    def groups(self) -> Leaf:
        """(), groups with at least one valid token."""
        return self.per_group.count

    @property
    def importance(self) -> Leaf:
        """(), sum over those of CV^2 over experts of the summed clean gates."""
        return self.per_group.importance

    @property
    def load(self) -> Leaf:
        """(), sum over those of CV^2 of the smooth load; 0 unless `stochastic`."""
        return self.per_group.load

    def merge(self, other: RoutingSums) -> RoutingSums:
        """The state of both calls together.

        Raises:
            ValueError: one call had router noise and the other had not, their K differs, or only
                one has pools of devices.
        """
        mine, theirs = (
            (sums.stochastic, sums.selected, sums.per_device is not None) for sums in (self, other)
        )
        if mine != theirs:
            raise ValueError(
                "cannot merge routing sums with (stochastic, K, pools of devices) = "
                f"{mine} and {theirs}: keep training and evaluation, and layers of different K, "
                "apart, and pool devices in all calls or in none"
            )
        return jax.tree.map(lambda a, b: a + b, self, other)

    def across(self, axis_name: str | tuple[str, ...]) -> RoutingSums:
        """The state of all devices along a mesh axis; inside `jax.shard_map` (or vmap).

        Each device sums up its shard with `devices=1` and merges: the losses, and their gradients,
        are those of the whole batch.
        """
        return jax.tree.map(lambda leaf: lax.psum(leaf, axis_name), self)


def routing_sums(
    routing: Routing,
    modality: Int[Array, "G T"],
    num_modalities: int,
    *,
    devices: int | None = None,
) -> RoutingSums:
    """Sum up one call of a router.

    Args:
        routing: of any router.
        modality: 0..M-1 for each token (anything where masked). Any other grouping of tokens
            will do, such as tasks.
        num_modalities: M.
        devices: cut the groups into so many runs of G/devices consecutive ones, as a batch is
            sharded, for losses of scope `device`; None goes without.

    Raises:
        ValueError: `modality` has another shape than the mask; the devices do not divide G.
    """
    mask, pairs = routing.mask, routing.assignment
    if modality.shape != mask.shape:
        raise ValueError(f"modality has shape {modality.shape}, expected (G, T) = {mask.shape}")
    groups, probs = mask.shape[0], routing.probs
    if devices is not None and (devices < 1 or groups % devices):
        fits = [n for n in range(1, groups + 1) if groups % n == 0]
        raise ValueError(
            f"devices={devices} does not divide G={groups} groups, and a device's pool is a run "
            f"of whole groups: choose one of {fits}, or another number of groups"
        )
    stochastic = routing.sigma > 0 and pairs.layout == "token"
    valid = mask[..., None].astype(jnp.float32)
    wanted, kept = per_expert(pairs, pairs.routed), per_expert(pairs, pairs.kept)

    # Per group, what the balance losses compare between experts. Each of these is a
    # reduction of its own, so that jit drops those that no loss asks for.
    load = jnp.zeros((groups, pairs.num_experts))
    if stochastic:
        wins = load_probabilities(routing.logits, last_logit(routing), routing.sigma)
        load = jnp.sum(wins * valid, axis=1)
    balance = (
        jnp.sum(valid, axis=(1, 2)),
        jnp.sum(probs * valid, axis=1),
        load,
        jnp.sum(routing.gates * valid, axis=1),
        jnp.sum(first_choices(routing) * valid, axis=1),
        jnp.sum(wanted, axis=1),
    )
    per_device = None
    if devices is not None:
        per_device = pool_sums(*(jnp.sum(x.reshape(devices, -1, *x.shape[1:]), 1) for x in balance))

    # Per modality, everything else: the columns of one product with the membership matrix,
    # since many small products cost more than they compute.
    weight = lax.stop_gradient(jnp.where(pairs.kept, pairs.weight, 0.0))
    top_gate, gap = top_two(lax.stop_gradient(probs))
    logsumexp = jax.nn.logsumexp(routing.logits, axis=-1)
    columns = {
        "probs": probs,
        "assigned": wanted,
        "kept": kept,
        "entropy": entropy(probs),
        "top_gate": top_gate,
        "gap": gap,
        "weight": per_token(pairs, weight),
        "processed": jnp.minimum(jnp.sum(kept, axis=-1), 1.0),
        "tokens": valid[..., 0],
        "z": jnp.square(logsumexp),
    }
    member = mask[..., None] & (modality[..., None] == jnp.arange(num_modalities))
    total = by_modality(columns, member)
    occupied = jnp.sum((balance[0] > 0).astype(jnp.float32))
    every = jnp.sum(total["kept"])
    return RoutingSums(
        per_group=pool_sums(*balance),
        per_device=per_device,
        load_e=jnp.sum(load, axis=0),
        gates_e=jnp.sum(balance[3], axis=0),
        first_e=jnp.sum(balance[4], axis=0),
        slots=every if pairs.capacity is None else occupied * pairs.num_experts * pairs.capacity,
        stochastic=stochastic,
        selected=routing.selected,
        **total | {"z": jnp.sum(total["z"])},
    )
