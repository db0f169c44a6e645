"""The whole V-MoE against numbers made by the published code (tests/parity/vmoe)."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from byways.models import MoeConfig, Vmoe, VmoeConfig
from byways.routing import auxiliary_losses

DATA = Path(__file__).parents[1] / "parity" / "vmoe"
CASES = ("train_paper", "eval_indices_cf2")


@functools.cache
def published():
    with np.load(DATA / "vit_moe.npz") as arrays:
        return json.loads((DATA / "vit_moe.json").read_text()), dict(arrays)


def tree(found, prefix):
    """The arrays under a prefix, as a nested dict."""
    whole = {}
    for name, value in found.items():
        if name.startswith(prefix + "/"):
            *folders, leaf = name.removeprefix(prefix + "/").split("/")
            inner = functools.reduce(lambda at, key: at.setdefault(key, {}), folders, whole)
            inner[leaf] = value
    return whole


def config_of(settings, case):
    model, moe = settings["model"], settings["cases"][case]["moe"]
    router = moe["router"]
    slots = router["dispatcher"]
    return VmoeConfig(
        image_size=32,
        patch_size=model["patch_size"][0],
        width=model["hidden_size"],
        hidden=model["encoder"]["mlp_dim"],
        depth=model["encoder"]["num_layers"],
        heads=model["encoder"]["num_heads"],
        num_classes=model["num_classes"],
        classifier=model["classifier"],
        moe=MoeConfig(
            num_experts=moe["num_experts"],
            selected=router["num_selected_experts"],
            capacity_factor=slots["capacity_factor"],
            eval_capacity_factor=slots["capacity_factor"],
            capacity_multiple_of=slots["capacity_multiple_of"],
            group_size=moe["group_size"],
            batch_priority=slots["batch_priority"],
            noise_std=router["noise_std"],
        ),
    )


@functools.cache
def ours(case):
    """Logits, main and auxiliary loss, and gradients by parameters and images."""
    settings, found = published()
    config = config_of(settings, case)
    assert config.moe_layers == tuple(settings["cases"][case]["moe"]["layers"])
    model, train = Vmoe(config), not settings["cases"][case]["deterministic"]
    noise = tree(found, f"{case}/noise") or None
    router = settings["cases"][case]["moe"]["router"]
    labels = found["inputs/labels_onehot"]

    @jax.jit
    def run(params, images, noise):
        def total(params, images):
            out = model.apply({"params": params}, images, train=train, noise=noise)
            main = jnp.mean(optax.softmax_cross_entropy(out.logits, labels))
            extra = 0.0
            for sums in out.routing.values():
                terms = auxiliary_losses(sums, ["image"], importance=True, load=train)
                extra += sum(router[f"{name}_loss_weight"] * terms[name] for name in terms)
            return main + extra, (out.logits, main, extra)

        (_, parts), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(params, images)
        return parts, grads

    return run(tree(found, "params"), jnp.asarray(found["inputs/images"]), noise)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_losses(case):
    found = published()[1]
    (logits, main, extra), _ = ours(case)
    np.testing.assert_allclose(logits, found[f"{case}/logits"], atol=2e-5)
    np.testing.assert_allclose(main, found[f"{case}/main_loss"], rtol=1e-5)
    np.testing.assert_allclose(extra, found[f"{case}/aux_loss_mean"], rtol=1e-5)
    np.testing.assert_allclose(main + extra, found[f"{case}/total_loss"], rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradients_by_every_parameter_and_the_images(case):
    found = published()[1]
    _, (by_params, by_images) = ours(case)
    expected = tree(found, f"{case}/grads")
    assert jax.tree.structure(by_params) == jax.tree.structure(expected)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, by_params, expected)
    close(by_images, found[f"{case}/grads_input_image"])
