"""Two towers: the tree, the calls, poolings, causality, sparse towers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import (
    TWO_TOWERS,
    ImageTowerConfig,
    MoeConfig,
    TextTowerConfig,
    TwoTower,
    TwoTowerConfig,
    parameter_shapes,
)
from byways.routing import auxiliary_losses

# At evaluation there is room for all, in a form that compiles faster than a dropless one.
SPARSE = MoeConfig(num_experts=4, capacity_factor=0.5, eval_capacity_factor=4.0)
SIZES = {"width": 16, "hidden": 24, "depth": 2, "heads": 2}
IMAGE = ImageTowerConfig(image_size=8, patch_size=4, moe=SPARSE, **SIZES)
TEXT = TextTowerConfig(text_length=5, vocab_size=40, moe=SPARSE, **SIZES)
CONFIG = TwoTowerConfig(IMAGE, TEXT, embed_dim=8)
# Compiles in a third of the time; where routing is not the matter.
DENSE = TwoTowerConfig(
    dataclasses.replace(IMAGE, moe=MoeConfig("none")),
    dataclasses.replace(TEXT, moe=MoeConfig("none")),
    embed_dim=8,
)


def batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 8, 8, 3)).astype(np.uint8)
    text = rng.integers(1, 40, (size, 5)).astype(np.int32)
    mask = np.arange(5) < rng.integers(1, 6, (size, 1))
    return jnp.asarray(images), jnp.asarray(np.where(mask, text, 0)), jnp.asarray(mask)


def with_(config, image=None, text=None, **options):
    image = dataclasses.replace(config.image, **(image or {}))
    text = dataclasses.replace(config.text, **(text or {}))
    return dataclasses.replace(config, image=image, text=text, **options)


@functools.cache
def shapes(config=CONFIG):
    tree = jax.eval_shape(TwoTower(config).init, jax.random.key(0), *batch(1))["params"]
    return jax.tree.map(lambda leaf: leaf.shape, tree)


@functools.cache
def params(config=CONFIG):
    """Drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(1)

    def draw(shape):
        return jnp.asarray(rng.standard_normal(shape) * 0.3, jnp.float32)

    return jax.tree.map(draw, shapes(config), is_leaf=lambda leaf: isinstance(leaf, tuple))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("groups", "train"))
def run(config, params, *inputs, **options):
    return TwoTower(config).apply({"params": params}, *inputs, **options)


def apply(config, *inputs, **options):
    return run(config, params(config), *inputs, **options)


def test_each_tower_has_its_own_parameters_by_published_names():
    tree = shapes()
    assert set(tree) == {"image", "text", "log_scale"}
    assert set(tree["image"]) == {"embedding", "Encoder", "projection"}
    assert tree["image"]["embedding"] == {"kernel": (4, 4, 3, 16), "bias": (16,)}
    assert tree["image"]["Encoder"]["posembed_input"] == {"pos_embedding": (1, 4, 16)}
    assert tree["text"]["embedding"] == (40, 16)
    assert tree["text"]["projection"] == {"kernel": (16, 8)}
    assert tree["text"]["Encoder"]["encoderblock_1"]["Moe"]["Mlp"]["Dense_0"]["bias"] == (4, 24)
    clip = with_(CONFIG, {"pool": "token", "pre_norm": True, "patch_bias": False})
    found = shapes(clip)["image"]
    assert found["cls"] == (1, 1, 16)
    assert found["embedding"] == {"kernel": (4, 4, 3, 16)}
    assert found["Encoder"]["pre_norm"] == {"scale": (16,), "bias": (16,)}


@pytest.mark.parametrize(
    ("name", "count"),
    [  # as open_clip's models have them
        ("clip_b32", 151_277_313),
        ("clip_b16", 149_620_737),
        ("clip_l14", 427_616_513),
        ("clip_l14_336", 427_944_193),
        ("siglip_b16", 203_155_970),
        ("siglip_l16_256", 652_150_786),
        ("siglip_so400m14_384", 877_960_498),
    ],
)
def test_published_sizes(name, count):
    config = dataclasses.replace(TWO_TOWERS[name], scan=True)  # one block is traced for all
    found = sum(map(math.prod, parameter_shapes("two_tower", config).values()))
    assert found + name.startswith("siglip") == count  # and the bias, which is the loss's


def test_sparse_towers_route_their_own_tokens_and_losses_are_finite():
    images, text, mask = batch(8)
    keys = jax.random.split(jax.random.key(0), 2)
    out = apply(CONFIG, images, text, mask, groups=2, train=True, noise_keys=keys)
    assert list(out.routing) == list(CONFIG.moe_layers)
    assert CONFIG.moe_layers == ("image/encoderblock_1", "text/encoderblock_1")
    image, words = out.routing.values()
    np.testing.assert_array_equal(image.tokens, [8 * 4, 0])
    np.testing.assert_array_equal(words.tokens, [0, int(mask.sum())])
    assert float(image.kept.sum()) < 8 * 4  # the capacity holds in training
    options = {"importance": True, "load": True, "local": ["image"]}
    for sums in out.routing.values():
        losses = auxiliary_losses(sums, ("image", "text"), thresholds={"text": 2.0}, **options)
        assert all(np.isfinite(loss) for loss in losses.values())
    np.testing.assert_allclose(np.linalg.norm(out.image, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(out.text, axis=1), 1.0, rtol=1e-5)


def test_modalities_apart_and_padding_rows_change_nothing():
    images, text, mask = batch()
    both = apply(CONFIG, images, text, mask)
    alone = apply(CONFIG, images, None, None, jnp.arange(6) < 4)
    assert alone.text is None
    np.testing.assert_allclose(alone.image[:4], both.image[:4], atol=1e-6)
    other = apply(CONFIG, None, jnp.where(mask, text, 7), mask, groups=2)
    assert other.image is None
    np.testing.assert_allclose(other.text, both.text, atol=1e-6)


def test_floats_are_taken_as_they_are_and_pixels_by_mean_and_std():
    config = with_(DENSE, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)})
    images = batch()[0]
    scaled = (np.asarray(images) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    found = apply(config, jnp.asarray(scaled, jnp.float32), None, None)
    np.testing.assert_allclose(found.image, apply(config, images, None, None).image, atol=1e-5)


@pytest.mark.parametrize("pool", ["end", "last"])
def test_pooling_reads_the_token_it_names(pool):
    config = with_(DENSE, text={"pool": pool, "causal": True})
    _, text, _ = batch()
    mask = jnp.broadcast_to(jnp.arange(5) < 3, text.shape)
    text = jnp.asarray(np.random.default_rng(3).integers(1, 40, text.shape), jnp.int32)
    base = apply(config, None, text, mask).text
    later = apply(config, None, text.at[:, 3:].set(1), mask).text
    same = np.allclose(later, base, atol=1e-6)
    assert same == (pool == "end")  # `last` reads the padding
    earlier = apply(config, None, text.at[:, 0].set(1), mask).text
    assert not np.allclose(earlier, base, atol=1e-3)


@pytest.mark.parametrize("pool", ["mean", "end", "last"])
def test_no_number_at_padding_harms_and_none_but_a_piece_is_real(pool):
    config = with_(DENSE, text={"pool": pool})
    _, text, mask = batch()
    known = apply(config, None, text, mask).text
    for odd in (40, -1):
        padded = apply(config, None, jnp.where(mask, text, odd), mask).text
        if pool == "last":  # which reads the padding
            nan = jnp.isnan(padded).all(axis=1)
            np.testing.assert_array_equal(nan, ~mask.all(axis=1))
        else:
            np.testing.assert_array_equal(padded, known)
        real = jnp.isnan(apply(config, None, text.at[1, 0].set(odd), mask).text)
        assert real.all(axis=1).tolist() == [False, True, False, False, False, False]


def test_random_routers_draw_apart_in_each_tower():
    moe = MoeConfig(num_experts=4, router="random", n=1, eval_capacity_factor=4.0)
    config = with_(CONFIG, {"moe": moe}, {"moe": moe})
    images, text, mask = batch()
    found = apply(config, images, text, mask).assignments
    drawn = [np.asarray(one.expert[0, :20]).tolist() for one in found.values()]
    assert len(drawn) == 4
    assert all(a != b for a, b in itertools.combinations(drawn, 2))


def test_the_scale_is_held_where_there_is_a_bound():
    hot = {**params(DENSE), "log_scale": jnp.float32(5.0)}
    images = batch()[0]

    def scale(config):
        return float(run(config, hot, images, None, None).scale)

    gradient = jax.grad(lambda x: run(DENSE, {**hot, "log_scale": x}, images, None, None).scale)
    assert float(gradient(jnp.float32(5.0))) == pytest.approx(100.0)
    assert scale(DENSE) == pytest.approx(100.0)
    assert scale(with_(DENSE, max_scale=None)) == pytest.approx(np.exp(5.0))


def test_errors_name_the_mistake():
    images, text, mask = batch()

    def trace(config, *inputs, **options):
        model = TwoTower(config)
        return jax.eval_shape(
            lambda *rows: model.init(jax.random.key(0), *rows, **options), *inputs
        )

    with pytest.raises(ValueError, match="neither images nor text"):
        trace(CONFIG, None, None, None)
    with pytest.raises(ValueError, match="groups=4 does not divide the batch of 6"):
        trace(CONFIG, images, text, mask, groups=4)
    with pytest.raises(ValueError, match="without its text_mask"):
        trace(CONFIG, None, text, None)
    with pytest.raises(ValueError, match="by the config's image_size"):
        trace(CONFIG, images[:, :4, :4], None, None)
    with pytest.raises(ValueError, match="texts have 3 places; expected 5"):
        trace(CONFIG, None, text[:, :3], mask[:, :3])
    for router in ("expert_choice", "soft"):
        moe = dataclasses.replace(SPARSE, router=router)
        with pytest.raises(ValueError, match="is not causal"):
            trace(with_(CONFIG, text={"causal": True, "moe": moe}), None, text, mask)
    with pytest.raises(ValueError, match="embed_dim 8: without a projection"):
        trace(with_(CONFIG, {"projection": "none"}), images, None, None)
