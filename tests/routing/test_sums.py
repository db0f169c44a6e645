"""Sums add up what every router did, merge exactly, and are the same over devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    auxiliary_losses,
    route_expert_choice,
    route_hash,
    route_random,
    route_sigmoid,
    route_top_k,
    routing_sums,
)

from . import reference

NAMES = ("image", "text")
SCOPES = ("group", "device", "global")


def sums_of(logits, mask, modality, noise, capacity=4):
    routing = route_top_k(logits, mask, selected=2, capacity=capacity, noise=noise)
    return routing_sums(routing, modality, 2)


compiled = jax.jit(sums_of, static_argnames="capacity")


def example(groups=4, tokens=10, experts=4):
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.standard_normal((groups, tokens, experts)), jnp.float32),
        jnp.asarray(rng.uniform(size=(groups, tokens)) < 0.8),
        jnp.asarray(rng.integers(0, 2, (groups, tokens))),
        jnp.asarray(rng.standard_normal((groups, tokens, experts)), jnp.float32),
    )


def test_chunks_merge_to_the_whole_with_its_losses_and_gradients():
    arrays = example()

    def loss(sums):
        return sum(
            auxiliary_losses(
                sums,
                NAMES,
                importance=True,
                load=True,
                z=True,
                local=("text",),
                thresholds={"image": 4.0, "text": 4.0},
            ).values()
        )

    def whole(logits):
        sums = sums_of(logits, *arrays[1:])
        return loss(sums), sums

    def chunked(logits):
        first = sums_of(logits[:1], *(a[:1] for a in arrays[1:]))
        rest = sums_of(logits[1:], *(a[1:] for a in arrays[1:]))
        sums = first.merge(rest)
        return loss(sums), sums

    (one, sums), slope = jax.jit(jax.value_and_grad(whole, has_aux=True))(arrays[0])
    (two, merged), other = jax.jit(jax.value_and_grad(chunked, has_aux=True))(arrays[0])
    assert one == pytest.approx(float(two), rel=1e-5)
    np.testing.assert_allclose(slope, other, rtol=1e-4, atol=1e-6)
    for a, b in zip(jax.tree.leaves(sums), jax.tree.leaves(merged), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_training_and_evaluation_do_not_merge():
    sums = compiled(*example())
    with pytest.raises(ValueError, match="stochastic"):
        sums.merge(dataclasses.replace(sums, stochastic=False))


def loops(routing, mask, modality):
    """Counts of pairs and tokens, from the Assignment alone."""
    a = routing.assignment
    count = {name: np.zeros((2, 4)) for name in ("assigned", "kept")}
    count |= {name: np.zeros(2) for name in ("processed", "weight", "tokens")}
    for g in range(a.token.shape[0]):
        done = set()
        for p in range(a.token.shape[1]):
            t, e = a.token[g, p], a.expert[g, p]
            if a.routed[g, p]:
                count["assigned"][modality[g, t], e] += 1
            if a.kept[g, p]:
                count["kept"][modality[g, t], e] += 1
                count["weight"][modality[g, t]] += a.weight[g, p]
                done.add(t)
        for t in done:
            count["processed"][modality[g, t]] += 1
    count["tokens"][:] = [(mask & (modality == m)).sum() for m in range(2)]
    return count


ROUTES = {
    "top_k": lambda logits, mask, noise: route_top_k(
        logits, mask, selected=2, capacity=4, noise=noise
    ),
    "biased": lambda logits, mask, noise: route_top_k(
        logits, mask, selected=2, capacity=4, noise=noise, bias=jnp.asarray([0.0, 0.5, 0.0, 0.0])
    ),
    "sigmoid": lambda logits, mask, noise: route_sigmoid(
        logits, mask, selected=2, capacity=4, noise=noise
    ),
    "hash": lambda logits, mask, noise: route_hash(
        jnp.arange(40).reshape(4, 10), mask, num_experts=4, selected=2, capacity=4
    ),
    "random": lambda logits, mask, noise: route_random(
        jax.random.key(0), mask, 4, selected=2, capacity=4
    ),
    "expert_choice": lambda logits, mask, noise: route_expert_choice(
        logits, mask, capacity=4, noise=noise
    ),
    "dropless": lambda logits, mask, noise: route_top_k(logits, mask, selected=2, capacity=None),
}


@functools.cache
def routed_and_summed(router):
    """The compiled router, its sums, and their balance losses by scope."""

    @jax.jit
    def run(logits, mask, modality, noise):
        routing = ROUTES[router](logits, mask, noise)
        sums = routing_sums(routing, modality, 2, devices=2)
        wanted = {"importance": True, "load": sums.stochastic, "gshard": True, "switch": True}
        found = {s: auxiliary_losses(sums, NAMES, **wanted, scope=s) for s in SCOPES}
        return routing, sums, found

    return run


@pytest.mark.parametrize("router", ROUTES)
def test_every_router_against_loops(router):
    arrays = example()
    arrays = (arrays[0], arrays[1].at[3].set(False), *arrays[2:])  # a group of padding
    routing, sums, found = jax.device_get(routed_and_summed(router)(*arrays))
    mask, modality = np.asarray(arrays[1]), np.asarray(arrays[2])
    for name, count in loops(routing, mask, modality).items():
        np.testing.assert_allclose(getattr(sums, name), count, rtol=1e-6)
    kept = sums.kept.sum()
    assert sums.slots == (kept if router == "dropless" else 3 * 4 * 4)
    for m in range(2):
        ranked = -np.sort(-routing.probs[mask & (modality == m)].astype(np.float64), axis=-1)
        assert sums.top_gate[m] == pytest.approx(ranked[:, 0].sum(), rel=1e-5)
        assert sums.gap[m] == pytest.approx((ranked[:, 0] - ranked[:, 1]).sum(), abs=1e-5)
        probs = routing.probs[mask & (modality == m)].sum(0)
        np.testing.assert_allclose(sums.probs[m], probs, rtol=1e-5)

    # The balance losses, in each scope, from gates and choices.
    noisy = router in ("top_k", "biased", "sigmoid")
    assert sums.stochastic == noisy
    assert sums.per_group.count == 3.0
    pools = {"group": [[0], [1], [2]], "device": [[0, 1], [2, 3]], "global": [[0, 1, 2, 3]]}
    for scope, cut in pools.items():
        expected = {name: [] for name in ("importance", "load", "gshard", "switch")}
        for pool in cut:
            valid, n = mask[pool], mask[pool].sum()
            gates = routing.gates[pool][valid].sum(0) / n
            wanted = loops(cut_groups(routing, pool), valid, modality[pool])["assigned"].sum(0)
            first = np.bincount(routing.gates[pool][valid].argmax(-1), minlength=4)
            expected["importance"].append(reference.cv2(routing.probs[pool][valid].sum(0)))
            expected["gshard"].append(16 * np.mean(first / n * gates))
            expected["switch"].append(4 * np.sum(wanted / n * gates))
            load = [
                reference.load(*(np.asarray(x[g], np.float64) for x in
                    (routing.logits, routing.noisy_logits)), mask[g], 2, 1 / 4)
                for g in pool
            ]  # fmt: skip
            expected["load"].append(reference.cv2(sum(load)))
        for name, value in found[scope].items():
            assert value == pytest.approx(np.mean(expected[name]), rel=1e-3, abs=1e-6), scope


def cut_groups(routing, groups):
    return jax.tree.map(lambda leaf: leaf[np.asarray(groups)], routing)


def test_devices_that_sum_up_their_shards_are_the_whole():
    """Inside shard_map with `across`, with all losses and gradients, against no devices."""
    arrays = example()
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("data",))
    part = jax.sharding.PartitionSpec("data")

    def total(sums):
        wanted = {"importance": True, "load": True, "gshard": True, "switch": True}
        wanted |= {"z": True, "local": NAMES, "thresholds": {"text": 3.9}}
        wanted |= {"task_information": True, "token_information": True}
        return sum(
            (index + 1) * value
            for scope in SCOPES
            for index, value in enumerate(
                auxiliary_losses(sums, NAMES, **wanted, scope=scope).values()
            )
        )

    def sum_up(devices, *arrays):
        routing = route_top_k(*arrays[:2], selected=2, capacity=4, noise=arrays[3])
        return routing_sums(routing, arrays[2], 2, devices=devices)

    def whole(logits):
        sums = sum_up(2, logits, *arrays[1:])
        return total(sums), sums

    def sharded(logits):
        local = jax.shard_map(
            lambda *arrays: sum_up(1, *arrays).across("data"),
            mesh=mesh,
            in_specs=part,
            out_specs=jax.sharding.PartitionSpec(),
        )
        sums = local(logits, *arrays[1:])
        return total(sums), sums

    (one, sums), slope = jax.jit(jax.value_and_grad(whole, has_aux=True))(arrays[0])
    (two, merged), other = jax.jit(jax.value_and_grad(sharded, has_aux=True))(arrays[0])
    assert one == pytest.approx(float(two), rel=1e-5)
    np.testing.assert_allclose(slope, other, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(sums), jax.tree.leaves(merged), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"devices=3 does not divide G=4 .* \[1, 2, 4\]"):
        jax.eval_shape(functools.partial(sum_up, 3), *arrays)
    with pytest.raises(ValueError, match="pool devices in all calls or in none"):
        sums.merge(dataclasses.replace(sums, per_device=None))
