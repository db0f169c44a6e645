"""Experts on two islands: an island hears of a layer when one of its experts is awake."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import Moe, MoeConfig, PerExpert, lower

from ..runtime.ray_in_process import NearIslands

TOKENS, WIDTH, EXPERTS = 32, 8, 4
CONFIG = MoeConfig(
    num_experts=EXPERTS,
    selected=1,
    capacity_factor=None,
    noise_std=0.0,
    dispatcher="pathways",
)
MOE = Moe(CONFIG, 16, num_modalities=1, shared_init=False)
# Experts 0 and 2 are the first island's, where the router is; 1 and 3 the second's.
AWAKE = ((0, 2), (3,), (0, 1, 2, 3))


@pytest.fixture(scope="module")
def hosts():
    made = NearIslands(2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def case():
    x = jax.random.normal(jax.random.key(0), (1, TOKENS, WIDTH)).at[..., -1].set(1.0)
    return MOE.init(jax.random.key(1), x, *everyone(x), train=False), x


def everyone(x):
    return jnp.ones(x.shape[:2], bool), jnp.zeros(x.shape[:2], jnp.int32)


def loss(params, x):
    return jnp.mean(MOE.apply(params, x, *everyone(x), train=False)[0] ** 2)


def turned(params, awake):
    """The same, whose router turns everyone away from all others."""
    away = jnp.array([0.0 if e in awake else -1e4 for e in range(EXPERTS)])
    kernel = params["params"]["Router"]["dense"]["kernel"].at[-1].set(away)
    router = {"Router": {"dense": {"kernel": kernel}}}
    return {"params": params["params"] | router}


def sent(hosts):
    return [(outbox.messages, outbox.sent) for outbox in hosts.outboxes.values()]


@pytest.mark.parametrize("awake", AWAKE)
def test_an_island_gets_messages_only_for_experts_that_are_awake(hosts, case, awake):
    params, x = turned(case[0], awake), case[1]
    wanted, gradients = jax.value_and_grad(loss)(params, x)
    with hosts.runtime() as system:
        parts = [system.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]
        lowered = lower(loss, params, x, slices=parts)
        given = lowered.split(params, x)
        call = lowered.value_and_grad(0)
        for run in (lowered, call):  # compiles, and sends what stays
            jax.block_until_ready(run(*given))
        gc.collect()
        system.drain()
        hosts.held()  # and what is to be forgotten is

        before = sent(hosts)
        assert float(lowered(*given).result()) == pytest.approx(float(wanted), rel=1e-5)
        value, found = call(*given)
        assert float(value.result()) == pytest.approx(float(wanted), rel=1e-5)
        after = sent(hosts)
        assert after[0][0] > before[0][0]
        assert (after[1] == before[1]) == (not set(awake) & {1, 3})

        theirs = gradients["params"]["Mlp"]["Dense_0"]["kernel"]
        mine = found["params"]["Mlp"]["Dense_0"]["kernel"]
        assert isinstance(mine, PerExpert)
        assert sorted(mine.arrays) == list(awake)
        np.testing.assert_allclose(mine.stacked(), theirs, rtol=1e-4, atol=1e-6)
        router = found["params"]["Router"]["dense"]["kernel"]
        np.testing.assert_allclose(
            np.asarray(router.result()),
            gradients["params"]["Router"]["dense"]["kernel"],
            rtol=1e-4,
            atol=1e-6,
        )


def test_weights_that_are_apart_come_back_bit_for_bit(hosts, case):
    params, x = case
    with hosts.runtime() as system:
        parts = [system.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]
        lowered = lower(loss, params, x, slices=parts)
        apart = lowered.split(params, x)
        assert apart[0]["params"]["Mlp"]["Dense_0"]["kernel"][1].sharding == parts[1].sharding()
        back, _ = lowered.join(*apart)
        jax.tree.map(np.testing.assert_array_equal, back, params)
