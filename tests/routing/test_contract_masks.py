"""What masked tokens hold changes nothing, to the bit, of any router or dispatcher.

The programs are in `contract.py`; the process that runs `test_contract.py` has compiled them.
"""

import functools

import jax
import numpy as np
import pytest
from byways.routing import auxiliary_losses, routing_statistics, routing_sums

from .contract import (
    CASES,
    G,
    M,
    T,
    agree,
    drawn,
    drawn_layer,
    forward,
    programs,
    router,
    routings,
    same_bits,
    zeros,
)

cases = pytest.mark.parametrize(("name", "selected"), CASES)
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
    for routing in list(routings(name, selected, data).values())[:2]:
        for run in programs(routing.assignment).values():
            first = run(routing.assignment, x, weights)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(first)))
            if first[1]:
                assert not np.asarray(first[1][1])[hidden].any()
            for rubbish in (*RUBBISH, rng.standard_normal(x.shape)):
                other = np.where(hidden[..., None], rubbish, x).astype(np.float32)
                same_bits(run(routing.assignment, other, weights), first)


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

    return jax.jit(step)


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
            for how, run in programs(a).items():
                if how != "grouped":
                    out = np.asarray(run(a, x, weights)[0])[:, :SHORT]
                    agree(forward(how)(b, x[:, :SHORT], weights)[0], out, 1e-5)
