"""What every router and every dispatcher promises, whichever two are put together.

The programs are in `contract.py`; here only data change, so that little is compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    DISPATCHERS,
    ExpertMlp,
    auxiliary_losses,
    mlp,
    routing_statistics,
    routing_sums,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import reference
from .contract import (
    CAPACITIES,
    CASES,
    C,
    D,
    E,
    G,
    H,
    M,
    T,
    dispatcher,
    drawn,
    drawn_layer,
    forward,
    jit,
    kinds,
    reference_pairs,
    router,
    routings,
    zeros,
)

EVERY = sorted(DISPATCHERS)
DROPLESS = sorted({"blocked", "grouped", "expert_parallel"})
cases = pytest.mark.parametrize(("name", "selected"), CASES)
# The first example compiles; that it takes long says nothing.
few = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# How much expert 0 is favoured, how many tokens are valid, and everything else.
loads = given(
    skew=st.sampled_from([0.0, 2.0, 4.0]),
    share=st.sampled_from([0.0, 0.4, 0.8, 1.0]),
    seed=st.integers(0, 2**16),
)


def those_for(kind):
    return EVERY if CAPACITIES[kind] else DROPLESS


def agree(got, want, tolerance=2e-4):
    got, want = jax.device_get((got, want))
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def same_bits(got, want):
    got, want = jax.device_get((got, want))
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.array_equal(left, right), "not the same to the bit"


def leaves(weights):
    return weights.up, weights.up_bias, weights.down, weights.down_bias


def conserved(a, mask):
    """Each slot has one pair at most, each expert no more than C, each token an expert once."""
    a = jax.device_get(a)
    assert not (a.kept & ~a.routed).any()
    for g in range(a.token.shape[0]):
        kept = np.flatnonzero(a.kept[g])
        token, expert, slot = a.token[g, kept], a.expert[g, kept], a.slot[g, kept]
        assert mask[g, token].all()
        assert mask[g, a.token[g, a.routed[g]]].all()
        assert len({*zip(token, expert, strict=True)}) == len(kept)
        assert len({*zip(expert, slot, strict=True)}) == len(kept)
        wanted = np.bincount(a.expert[g, a.routed[g]], minlength=a.num_experts)
        had = np.bincount(expert, minlength=a.num_experts)
        limit = wanted if a.capacity is None else np.minimum(wanted, a.capacity)
        # Nobody is turned away where there is room, and slots are filled from the first.
        np.testing.assert_array_equal(had, limit)
        for e in range(a.num_experts):
            assert sorted(slot[expert == e]) == list(range(had[e]))
        if a.layout == "token":
            wants = np.bincount(a.token[g, a.routed[g]], minlength=a.num_tokens)
            np.testing.assert_array_equal(wants, mask[g] * a.pairs_per_token)


@cases
@few
@loads
def test_conservation_and_the_plain_loops(name, selected, skew, share, seed):
    """Every pair, every output of every dispatcher, against float64 loops."""
    data = drawn(seed, skew=skew, share=share)
    x, weights = drawn_layer(seed)
    for (variant, kind), routing in routings(name, selected, data).items():
        a = jax.device_get(routing.assignment)
        conserved(a, data["mask"])
        expected = []
        for g in range(G):
            pairs = reference_pairs(name, variant, selected, CAPACITIES[kind], data, g)
            at = {(t, e): (slot, weight, kept) for t, _, e, slot, weight, kept in pairs}
            assert len(at) == a.routed[g].sum()
            for p in np.flatnonzero(a.routed[g]):
                slot, weight, kept = at[a.token[g, p], a.expert[g, p]]
                assert (a.slot[g, p], a.kept[g, p]) == (slot, kept)
                np.testing.assert_allclose(a.weight[g, p], weight, rtol=1e-5, atol=1e-6)
            expected.append(reference.moe(leaves(weights), pairs, x[g]))
        # All variants share one form of assignment: a few meet all dispatchers.
        some = those_for(kind) if (variant, kind) in kinds(name, selected)[:4] else ["blocked"]
        for how in some:
            out, _ = dispatcher(how)(routing.assignment, x, weights)
            assert out.dtype == jnp.float32
            agree(out, np.asarray(expected))
            assert not np.asarray(out)[~data["mask"]].any()


@cases
@few
@loads
def test_dispatchers_agree_on_gradients(name, selected, skew, share, seed):
    data, layer = drawn(seed, skew=skew, share=share), drawn_layer(seed)
    for (_, kind), routing in list(routings(name, selected, data).items())[:2]:
        expected = dispatcher("blocked")(routing.assignment, *layer)
        for how in those_for(kind):
            agree(dispatcher(how)(routing.assignment, *layer), expected, 1e-3)


@cases
def test_identity_experts_return_the_sum_of_the_kept_gates(name, selected):
    # gelu(x) - gelu(-x) = x, exactly so for the tanh form as well.
    eye = np.concatenate([np.eye(D), -np.eye(D)], axis=1, dtype=np.float32)
    assert eye.shape == (D, H)
    same = ExpertMlp(
        *(jnp.asarray(np.broadcast_to(a, (E, *a.shape))) for a in (eye, np.zeros(H, np.float32))),
        *(jnp.asarray(np.broadcast_to(a, (E, *a.shape))) for a in (eye.T, np.zeros(D, np.float32))),
    )
    data, (x, _) = drawn(5, skew=2.0, share=0.8), drawn_layer(5)
    for (_, kind), routing in routings(name, selected, data).items():
        a = jax.device_get(routing.assignment)
        gates = np.zeros((G, T))
        for g in range(G):
            for p in np.flatnonzero(a.kept[g]):
                gates[g, a.token[g, p]] += a.weight[g, p]
        for how in those_for(kind):
            agree(dispatcher(how)(routing.assignment, x, same)[0], gates[..., None] * x, 1e-5)


RUBBISH = (1e20, np.nan)


@cases
def test_what_masked_tokens_hold_changes_no_bit_of_the_routing(name, selected):
    """Nor of its gradients; what is computed from the routing alone cannot differ then."""
    data, rng = drawn(6, share=0.7), np.random.default_rng(6)
    cotangents = jax.tree.map(
        lambda z: rng.standard_normal(z.shape).astype(np.float32), zeros(name, selected)
    )
    first = router(name, selected)(data, cotangents)
    hidden = ~data["mask"]
    assert hidden.any()
    for rubbish in (*RUBBISH, "random"):
        other = dict(data)
        for key in ("logits", "noise"):
            value = rng.standard_normal(data[key].shape) if rubbish == "random" else rubbish
            other[key] = np.where(hidden[..., None], value, data[key]).astype(np.float32)
        for key in ("ids", "task"):
            other[key] = np.where(hidden, rng.integers(99, size=hidden.shape), data[key])
            other[key] = other[key].astype(np.int32)
        same_bits(router(name, selected)(other, cotangents), first)
    for _, d_logits, d_noise in first.values():
        assert np.isfinite(d_logits).all()
        assert not np.asarray(d_logits)[hidden].any()
        assert not np.asarray(d_noise)[hidden].any()


@cases
def test_what_masked_tokens_hold_changes_no_bit_of_the_output(name, selected):
    """Nor of the gradients by experts, tokens and gates."""
    data, (x, weights) = drawn(7, share=0.7), drawn_layer(7)
    hidden, rng = ~data["mask"], np.random.default_rng(7)
    for (_, kind), routing in list(routings(name, selected, data).items())[:2]:
        for how in those_for(kind):
            first = dispatcher(how)(routing.assignment, x, weights)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(first)))
            assert not np.asarray(first[1][1])[hidden].any()
            for rubbish in (*RUBBISH, rng.standard_normal(x.shape)):
                other = np.where(hidden[..., None], rubbish, x).astype(np.float32)
                same_bits(dispatcher(how)(routing.assignment, other, weights), first)


@functools.cache
def summary():
    """Jitted: losses, statistics and the losses' gradients by all that a routing holds."""

    def step(routing, modality):
        def total(*dense):
            names = ("logits", "noisy_logits", "probs", "gates")
            made = type(routing)(
                **{f: getattr(routing, f) for f in routing.__dataclass_fields__}
                | dict(zip(names, dense, strict=True))
            )
            sums = routing_sums(made, modality, M, devices=2)
            losses = auxiliary_losses(
                sums,
                ["a", "b"],
                importance=True,
                load=sums.stochastic,
                gshard=True,
                switch=True,
                z=True,
                local=["a"],
                thresholds={"a": 3.0, "b": 4.0},
                token_information=True,
                task_information=True,
            )
            return sum(losses.values()), (losses, sums, routing_statistics(sums))

        dense = (routing.logits, routing.noisy_logits, routing.probs, routing.gates)
        return jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True)(*dense)

    return jit(step)


@pytest.mark.parametrize(("name", "selected"), [("top_k", 2), ("expert_choice", 1)])
def test_losses_and_statistics_see_no_masked_token(name, selected):
    """The routing is the same to the bit (above); a modality may be anything as well."""
    data, rng = drawn(8, share=0.7), np.random.default_rng(8)
    routing = next(iter(routings(name, selected, data).values()))
    modality = rng.integers(0, M, (G, T)).astype(np.int32)
    first = summary()(routing, modality)
    for other in (-1, 7, 2**30):
        same_bits(
            summary()(routing, np.where(data["mask"], modality, other).astype(np.int32)), first
        )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(first)))


SHORT = 6


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_appended_masked_tokens_change_only_the_rounding(name):
    """With capacity held equal: T of 6, and the same with two masked tokens behind."""
    selected = 2 if (name, 2) in CASES else 1
    data, (x, weights) = drawn(9, skew=1.0), drawn_layer(9)
    data["mask"][:, SHORT:] = False
    cut = {
        key: value[:, :SHORT] if key in ("logits", "noise", "mask", "ids", "task") else value
        for key, value in data.items()
    }
    for key, short in routings(name, selected, cut).items():
        a, b = jax.device_get((routings(name, selected, data)[key].assignment, short.assignment))
        many = b.token.shape[1]
        assert not a.routed[:, many:].any()
        for field in ("token", "expert", "slot", "routed", "kept"):
            np.testing.assert_array_equal(getattr(a, field)[:, :many], getattr(b, field))
        np.testing.assert_allclose(a.weight[:, :many], b.weight, rtol=1e-6)
        if name in ("top_k", "expert_choice") and key[0] in ("max", "plain"):
            for how in those_for(key[1]):
                out = np.asarray(dispatcher(how)(a, x, weights)[0])[:, :SHORT]
                agree(forward(how)(b, x[:, :SHORT], weights), out, 1e-5)


@cases
def test_permuting_the_tokens_permutes_the_outputs(name, selected):
    """Where who is served does not depend on order: batch priority, expert choice, dropless."""
    data, (x, weights) = drawn(10, skew=1.0, share=0.8), drawn_layer(10)
    order = np.random.default_rng(10).permutation(T)
    mixed = {
        key: value[:, order] if key in ("logits", "noise", "mask", "ids", "task") else value
        for key, value in data.items()
    }
    before, after = routings(name, selected, data), routings(name, selected, mixed)
    for key, routing in before.items():
        variant, kind = key
        by_gate = name in ("top_k", "sigmoid") and variant in ("max", "sum", "task")
        if name == "random" or not (kind == "dropless" or by_gate or name == "expert_choice"):
            continue
        straight, _ = dispatcher("blocked")(routing.assignment, x, weights)
        turned, _ = dispatcher("blocked")(after[key].assignment, x[:, order], weights)
        agree(turned, np.asarray(straight)[:, order], 1e-5)


@cases
def test_gradients_against_finite_differences(name, selected):
    """Through the whole of router, gates, dispatch and experts: differences of float64 loops."""
    data, (x, weights) = drawn(11, skew=1.0, share=0.8), drawn_layer(11)
    cotangents = zeros(name, selected)
    made = router(name, selected)(data, cotangents)
    by_layer = {}
    for key, (routing, _, _) in made.items():
        how = those_for(key[1])[0]
        _, (d_weights, d_x, d_gates) = dispatcher(how)(routing.assignment, x, weights)
        by_layer[key] = (d_x, d_weights.up, d_weights.down)
        cotangents["weight"][key] = np.asarray(d_gates)
    through = router(name, selected)(data, cotangents)
    rng = np.random.default_rng(11)
    for variant, kind in made:

        def slow(logits, noise, x, up, down, variant=variant, kind=kind):
            moved = data | {"logits": logits, "noise": noise}
            total = 0.0
            for g in range(G):
                pairs = reference_pairs(name, variant, selected, CAPACITIES[kind], moved, g)
                parts = (up, weights.up_bias, down, weights.down_bias)
                total += np.sin(reference.moe(parts, pairs, x[g])).sum()
            return total

        got = (*through[variant, kind][1:], *by_layer[variant, kind])
        at = [
            np.asarray(value, np.float64)
            for value in (data["logits"], data["noise"], x, weights.up, weights.down)
        ]
        for i, gradient in enumerate(got):
            direction = rng.standard_normal(at[i].shape)
            ends = []
            for sign in (1, -1):
                moved = list(at)
                moved[i] = at[i] + sign * 1e-6 * direction
                ends.append(slow(*moved))
            slope = (ends[0] - ends[1]) / 2e-6
            assert np.vdot(gradient, direction) == pytest.approx(slope, rel=2e-3, abs=2e-3), i


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_one_expert_is_the_dense_mlp(name):
    """Times its gate, which is 1 but for sigmoid gates; capacity permitting."""
    data, (x, weights) = drawn(12, share=0.5, experts=1), drawn_layer(12, experts=1)
    dense = jax.device_get(mlp(*(leaf[0] for leaf in leaves(weights)), jnp.asarray(x)))
    for (_, kind), routing in routings(name, 1, data).items():
        a = jax.device_get(routing.assignment)
        gates = np.zeros((G, T))
        for g in range(G):
            gates[g, a.token[g, a.kept[g]]] = a.weight[g, a.kept[g]]
        if name != "sigmoid":
            assert set(gates.ravel()) <= {0.0, 1.0}
        assert ((gates > 0).sum(1) == np.minimum(data["mask"].sum(1), CAPACITIES[kind] or T)).all()
        # `expert` layouts and dispatchers of no capacity are compiled for top_k alone.
        for how in those_for(kind) if name == "top_k" else ["index"] if kind == "capacity" else []:
            agree(forward(how)(routing.assignment, x, weights), gates[..., None] * dense)


def test_capacity_is_tight_and_loose_here():
    """The draws of this suite do drop pairs, and do not, and fill experts evenly and unevenly."""
    drops = {
        skew: int((~made.assignment.kept).sum())
        for skew in (0.0, 4.0)
        for (variant, kind), made in routings("top_k", 1, drawn(0, skew=skew)).items()
        if (variant, kind) == ("off", "capacity")
    }
    assert drops[4.0] >= G * (T - C) - 2 > drops[0.0]
