"""The tower: layout, masks, groups, the dense twin, the published names."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import Limoe, ModelConfig, MoeConfig

CONFIG = ModelConfig(
    image_size=8,
    patch_size=4,
    width=16,
    hidden=24,
    depth=2,
    heads=2,
    text_length=5,
    vocab_size=40,
    embed_dim=8,
    moe=MoeConfig(num_experts=4, noise_std=0.0),
)


def batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 8, 8, 3)).astype(np.uint8)
    text = rng.integers(1, 40, (size, 5)).astype(np.int32)
    mask = np.arange(5) < rng.integers(1, 6, (size, 1))
    return jnp.asarray(images), jnp.asarray(np.where(mask, text, 0)), jnp.asarray(mask)


@pytest.fixture(scope="module")
def params():
    return jax.jit(Limoe(CONFIG).init)(jax.random.key(0), *batch())["params"]


@functools.partial(jax.jit, static_argnames=("config", "train", "groups"))
def apply(params, *inputs, config=CONFIG, **options):
    return Limoe(config).apply({"params": params}, *inputs, **options)


def test_tree_has_the_published_names_and_shapes(params):
    block = jax.tree.map(jnp.shape, params["Encoder"]["encoderblock_1"])
    assert block["Moe"] == {
        "Router": {"dense": {"kernel": (16, 4)}},
        "Mlp": {
            "Dense_0": {"kernel": (4, 16, 24), "bias": (4, 24)},
            "Dense_1": {"kernel": (4, 24, 16), "bias": (4, 16)},
        },
    }
    assert block["SelfAttention"]["query"] == {"kernel": (16, 2, 8), "bias": (2, 8)}
    assert block["SelfAttention"]["out"] == {"kernel": (2, 8, 16), "bias": (16,)}
    assert set(block["LayerNorm_0"]) == {"scale", "bias"}
    assert set(params["Encoder"]["encoderblock_0"]) == {
        "LayerNorm_0",
        "LayerNorm_1",
        "SelfAttention",
        "Mlp",
    }
    assert "encoder_norm" in params["Encoder"]


def test_outputs_have_unit_norm_and_routing_counts_the_real_tokens(params):
    images, text, mask = batch()
    out = apply(params, images, text, mask)
    np.testing.assert_allclose(np.linalg.norm(out.image, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(out.text, axis=1), 1.0, rtol=1e-5)
    (sums,) = out.routing.values()
    np.testing.assert_array_equal(sums.tokens, [6 * 4, int(mask.sum())])
    # Dropless: all are processed.
    np.testing.assert_array_equal(sums.processed, sums.tokens)
    np.testing.assert_allclose(out.scale, 1 / CONFIG.initial_temperature, rtol=1e-5)


def test_modalities_embedded_apart_or_together_agree_when_dropless(params):
    images, text, mask = batch()
    both = apply(params, images, text, mask)
    np.testing.assert_allclose(apply(params, images, None, None).image, both.image, atol=1e-6)
    np.testing.assert_allclose(apply(params, None, text, mask).text, both.text, atol=1e-6)


@pytest.mark.parametrize("groups", [2, 3])
def test_groups_do_not_matter_when_dropless(params, groups):
    whole, cut = apply(params, *batch()), apply(params, *batch(), groups=groups)
    np.testing.assert_allclose(cut.image, whole.image, atol=1e-6)
    np.testing.assert_allclose(cut.text, whole.text, atol=1e-6)


def test_what_padding_holds_changes_nothing_bit_for_bit(params):
    images, text, mask = batch()
    rows = jnp.arange(6) < 4
    other_text = jnp.where(mask, text, 7)
    other_images = images.at[4:].set(13)
    options = {"train": True, "mask": rows}

    def run(images, text):
        out = jax.jit(lambda p: apply(p, images, text, mask, **options))(params)
        return out.image[:4], out.text[:4], jax.tree.leaves(out.routing)

    jax.tree.map(np.testing.assert_array_equal, run(images, text), run(other_images, other_text))


def test_no_number_at_padding_harms_and_none_but_a_piece_is_real(params):
    images, text, mask = batch()
    rows = jnp.arange(6) < 4

    def run(text):
        return apply(params, images, text, mask, rows)

    known = run(text)
    for odd in (40, -1, 2**31 - 1):
        found = run(jnp.where(mask & rows[:, None], text, odd))
        np.testing.assert_array_equal(found.text[:4], known.text[:4])
        np.testing.assert_array_equal(found.image[:4], known.image[:4])
        real = run(text.at[1, 0].set(odd)).text
        assert jnp.isnan(real).all(axis=1).tolist()[:4] == [False, True, False, False]


def test_padding_of_other_numbers_leaves_gradients_finite(params):
    images, text, mask = batch()
    rows = jnp.arange(6) < 4

    @jax.jit
    def gradient(params, text):
        def loss(params):
            return jnp.where(rows[:, None], apply(params, images, text, mask, rows).text, 0).sum()

        return jax.grad(loss)(params)

    leaves = jax.tree.leaves(gradient(params, jnp.where(mask & rows[:, None], text, 40)))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)


def test_the_scale_is_capped_and_keeps_its_gradient(params):
    def scale(log_scale):
        return apply({**params, "log_scale": log_scale}, batch()[0], None, None).scale

    value, gradient = jax.value_and_grad(scale)(jnp.float32(5.0))
    assert float(value) == float(gradient) == pytest.approx(100.0)


def test_tight_capacity_is_shared_by_both_modalities(params):
    tight = dataclasses.replace(CONFIG, moe=dataclasses.replace(CONFIG.moe, capacity_factor=0.5))
    images, text, mask = batch()
    (sums,) = apply(params, images, text, mask, config=tight, train=True).routing.values()
    slots = 4 * int(np.ceil(6 * (4 + 5) * 0.5 / 4))  # one group of 54 tokens, padding included
    assert 0 < float(sums.kept.sum()) <= slots < int(sums.tokens.sum())


def test_dense_twin_has_the_same_code_and_no_router():
    twin = dataclasses.replace(CONFIG, moe=dataclasses.replace(CONFIG.moe, placement="none"))
    params = jax.jit(Limoe(twin).init)(jax.random.key(0), *batch())["params"]
    assert "Mlp" in params["Encoder"]["encoderblock_1"]
    assert apply(params, *batch(), config=twin).routing == {}


def test_bfloat16_stays_close_and_router_stays_float32(params):
    low = dataclasses.replace(CONFIG, dtype="bfloat16")
    out, exact = apply(params, *batch(), config=low), apply(params, *batch())
    assert out.image.dtype == jnp.float32
    np.testing.assert_allclose(out.image, exact.image, atol=0.05)


def test_errors_name_the_mistake(params):
    images, text, mask = batch()
    with pytest.raises(ValueError, match="neither images nor text"):
        apply(params, None, None, None)
    with pytest.raises(ValueError, match="groups=4 does not divide the batch of 6"):
        apply(params, images, text, mask, groups=4)
    with pytest.raises(ValueError, match="text came without its text_mask"):
        apply(params, images, text, None)
    noisy = dataclasses.replace(CONFIG, moe=dataclasses.replace(CONFIG.moe, noise_std=1.0))
    with pytest.raises(ValueError, match="needs noise_keys, one for each of the 1"):
        apply(params, images, text, mask, config=noisy, train=True)


@pytest.mark.parametrize(
    ("moe", "layers"),
    [
        (MoeConfig("every", 2), (1, 3, 5, 7)),
        (MoeConfig("every", 3), (2, 5)),
        (MoeConfig("last", 2), (5, 7)),
        (MoeConfig("last", 6), (1, 3, 5, 7)),
        (MoeConfig("none"), ()),
    ],
)
def test_placement(moe, layers):
    assert ModelConfig(depth=8, moe=moe).moe_layers == layers
