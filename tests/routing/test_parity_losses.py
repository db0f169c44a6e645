"""The router losses of the published V-MoE, from its own logits and noise."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import auxiliary_losses, expert_capacity, route_top_k, routing_sums

DATA = Path(__file__).parents[1] / "parity" / "vmoe"
CASES = ("train_paper", "eval_indices_cf2")
BLOCKS = ("encoderblock_1", "encoderblock_3")


@functools.cache
def published():
    with np.load(DATA / "vit_moe.npz") as arrays:
        found = {
            k: arrays[k] for k in arrays if "/metrics/" in k or "/noise/" in k or "Router" in k
        }
    settings = json.loads((DATA / "vit_moe.json").read_text(encoding="utf-8"))
    return settings["cases"], found


@functools.cache
def losses_of(case):
    """Compiled: one group's logits and noise to its losses."""
    moe = published()[0][case]["moe"]
    router, slots = moe["router"], moe["router"]["dispatcher"]
    selected = router["num_selected_experts"]
    capacity = expert_capacity(
        moe["group_size"],
        moe["num_experts"],
        selected,
        slots["capacity_factor"],
        multiple_of=slots["capacity_multiple_of"],
    )

    @jax.jit
    def run(logits, noise):
        routing = route_top_k(
            logits,
            selected=selected,
            capacity=capacity,
            batch_priority=slots["batch_priority"],
            noise=noise,
            noise_std=router["noise_std"],
        )
        sums = routing_sums(routing, jnp.zeros(logits.shape[:2], jnp.int32), 1)
        return auxiliary_losses(
            sums, ["image"], importance=True, load=noise is not None, gshard=True
        )

    return run


@pytest.mark.parametrize("case", CASES)
def test_losses_of_each_group_and_block(case):
    cases, found = published()
    router = cases[case]["moe"]["router"]
    weights = {name: router[f"{name}_loss_weight"] for name in ("importance", "load", "gshard")}
    whole = np.zeros(2)
    for block in BLOCKS:
        logits = found[f"{case}/intermediates/{block}/Moe/Router/logits"]
        noise = found.get(f"{case}/noise/{block}")
        metrics = {k.split("/")[-1]: v for k, v in found.items() if f"{case}/metrics/{block}" in k}
        assert ("load_loss" in metrics) == (noise is not None)
        for group in range(2):
            one = slice(group, group + 1)
            got = losses_of(case)(logits[one], None if noise is None else noise[one])
            for name, value in got.items():
                expected = metrics[f"{name}_loss"][group]
                assert value == pytest.approx(expected, rel=1e-5), (block, group, name)
            auxiliary = sum(weights[name] * float(value) for name, value in got.items())
            assert auxiliary == pytest.approx(metrics["auxiliary_loss"][group], rel=1e-5)
            whole[group] += auxiliary
    # Summed over blocks; and both groups at once give the mean.
    np.testing.assert_allclose(whole, found[f"{case}/metrics/auxiliary_loss"], rtol=1e-5)


def test_groups_together_give_their_mean():
    _, found = published()
    block = BLOCKS[0]
    logits = found[f"train_paper/intermediates/{block}/Moe/Router/logits"]
    together = losses_of("train_paper")(logits, found[f"train_paper/noise/{block}"])
    for name, value in together.items():
        mean = found[f"train_paper/metrics/{block}/{name}_loss"].mean()
        assert value == pytest.approx(mean, rel=1e-5)
