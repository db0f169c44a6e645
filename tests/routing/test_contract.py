"""What every router and every dispatcher promises, whichever two are put together.

The programs are in `contract.py`; here only data change, so that little is compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import ExpertMlp, mlp
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
    T,
    agree,
    dispatcher,
    drawn,
    drawn_layer,
    forward,
    kinds,
    programs,
    reference_pairs,
    router,
    routings,
    zeros,
)

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
            expected.append(reference.moe(weights.weights, pairs, x[g]))
        # All variants share one form of assignment: a few meet all dispatchers.
        runs = programs(routing.assignment)
        if (variant, kind) not in kinds(name, selected)[:4]:
            runs = dict([runs.popitem()])
        for run in runs.values():
            out, _ = run(routing.assignment, x, weights)
            assert out.dtype == jnp.float32
            agree(out, np.asarray(expected))
            assert not np.asarray(out)[~data["mask"]].any()


@cases
@few
@loads
def test_dispatchers_agree_on_gradients(name, selected, skew, share, seed):
    data, layer = drawn(seed, skew=skew, share=share), drawn_layer(seed)
    for (_, kind), routing in list(routings(name, selected, data).items())[:2]:
        runs = programs(routing.assignment)
        made = [run(routing.assignment, *layer)[1] for run in runs.values()]
        expected, *others = filter(None, made)
        assert others or selected != 2 or kind == "dropless"
        for other in others:
            agree(other, expected, 1e-3)


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
    for routing in routings(name, selected, data).values():
        a = jax.device_get(routing.assignment)
        gates = np.zeros((G, T))
        for g in range(G):
            for p in np.flatnonzero(a.kept[g]):
                gates[g, a.token[g, p]] += a.weight[g, p]
        for run in programs(a).values():
            agree(run(routing.assignment, x, same)[0], gates[..., None] * x, 1e-5)


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
        run = next(iter(programs(routing.assignment).values()))
        straight, _ = run(routing.assignment, x, weights)
        turned, _ = run(after[key].assignment, x[:, order], weights)
        agree(turned, np.asarray(straight)[:, order], 1e-5)


@cases
def test_gradients_against_finite_differences(name, selected):
    """Through the whole of router, gates, dispatch and experts: differences of float64 loops."""
    data, (x, weights) = drawn(11, skew=1.0, share=0.8), drawn_layer(11)
    cotangents = zeros(name, selected)
    made = router(name, selected)(data, cotangents)
    by_layer = {}
    for key, (routing, _, _) in made.items():
        how = "index" if key[1] == "capacity" else "blocked"
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
    dense = jax.device_get(mlp(*(leaf[0] for leaf in weights.weights), jnp.asarray(x)))
    for (_, kind), routing in routings(name, 1, data).items():
        a = jax.device_get(routing.assignment)
        gates = np.zeros((G, T))
        for g in range(G):
            gates[g, a.token[g, a.kept[g]]] = a.weight[g, a.kept[g]]
        if name != "sigmoid":
            assert set(gates.ravel()) <= {0.0, 1.0}
        assert ((gates > 0).sum(1) == np.minimum(data["mask"].sum(1), CAPACITIES[kind] or T)).all()
        for how in programs(a) if name == "top_k" else []:
            agree(forward(how)(a, x, weights)[0], gates[..., None] * dense)


def test_capacity_is_tight_and_loose_here():
    """The draws of this suite do drop pairs, and do not, and fill experts evenly and unevenly."""
    drops = {
        skew: int((~made.assignment.kept).sum())
        for skew in (0.0, 4.0)
        for (variant, kind), made in routings("top_k", 1, drawn(0, skew=skew)).items()
        if (variant, kind) == ("off", "capacity")
    }
    assert drops[4.0] >= G * (T - C) - 2 > drops[0.0]
