"""Augmentation: the identity, direction, mirroring, backgrounds, and determinism."""

import numpy as np
import pytest
from byways.datasets import AugmentConfig, Sprites
from byways.datasets.augment import augment

STILL = AugmentConfig(
    shift=0.0, zoom=0.0, rotate=0.0, shear=0.0, colour=0.0, flip=False, background=0.0
)


@pytest.fixture(scope="module")
def rows(examples) -> np.ndarray:
    return examples.rows("train")[:2000:31]


@pytest.fixture(scope="module")
def sprites(examples) -> Sprites:
    return Sprites(examples.rgba)


def run(sprites, rows, config, mirror=True, seed=0):
    rng = np.random.default_rng(seed)
    return augment(sprites[rows], 32, np.full(len(rows), mirror), config, rng)


def test_no_change_is_no_change(examples, sprites, rows):
    assert np.array_equal(run(sprites, rows, STILL), examples.images(rows))


def test_large_images_are_not_enlarged():
    rgba = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    large = Sprites(rgba)
    assert large.factor == 1
    out = augment(large[np.arange(2)], 80, np.zeros(2, bool), STILL, np.random.default_rng(0))
    assert np.array_equal(out, rgba[..., :3])


def test_the_same_state_gives_the_same_images(sprites, rows):
    config = AugmentConfig(shear=0.1)
    assert np.array_equal(run(sprites, rows, config), run(sprites, rows, config))
    assert not np.array_equal(run(sprites, rows, config), run(sprites, rows, config, seed=1))


def test_mirroring_is_half_of_those_that_may(examples, sprites):
    rows = np.repeat(examples.rows("train")[:2000:5], 1)
    config = AugmentConfig(shift=0.0, zoom=0.0, rotate=0.0, colour=0.0, background=0.0, flip=True)
    plain = examples.images(rows)
    out = run(sprites, rows, config)
    same = (out == plain).all((1, 2, 3))
    turned = (out == plain[:, :, ::-1]).all((1, 2, 3))
    assert (same | turned).all()
    asymmetric = ~(same & turned)
    # 400 coins: 5 sigma is 0.125.
    assert turned[asymmetric].mean() == pytest.approx(0.5, abs=0.15)
    assert np.array_equal(run(sprites, rows, config, mirror=False), plain)


def test_shift_moves_in_pixels_and_leaves_white(examples):
    dot = np.zeros((200, 32, 32, 4), np.uint8)
    dot[:, 15:17, 15:17] = (0, 0, 0, 255)
    config = AugmentConfig(shift=0.25, zoom=0.0, rotate=0.0, colour=0.0, background=0.0, flip=False)
    out = run(Sprites(dot), np.arange(200), config)
    dark = out[..., 0] < 128
    middles = np.array([np.argwhere(d).mean(0) for d in dark])
    offsets = middles - 15.5
    assert np.abs(offsets).max() <= 8.6  # a quarter of 32, and half a pixel of rounding
    assert np.abs(offsets).max() > 6
    assert (out[:, 0, 0] == 255).all()


def test_backgrounds_are_behind_the_drawing(examples, sprites, rows):
    config = AugmentConfig(shift=0.0, zoom=0.0, rotate=0.0, colour=0.0, flip=False, background=1.0)
    out, plain = run(sprites, rows, config), examples.images(rows)
    alpha = examples.rgba[rows][..., 3]
    assert (out[alpha == 255] == plain[alpha == 255]).all()
    assert (out[alpha == 0] != 255).any()
    for image, clear in zip(out, alpha == 0, strict=True):
        assert len(np.unique(image[clear], axis=0)) <= 1  # one colour


def test_colour_keeps_hue_order(sprites):
    red = np.zeros((50, 32, 32, 4), np.uint8)
    red[:] = (200, 60, 40, 255)
    config = AugmentConfig(shift=0.0, zoom=0.0, rotate=0.0, colour=0.5, flip=False, background=0.0)
    out = run(Sprites(red), np.arange(50), config).astype(int)
    assert (out[..., 0] >= out[..., 1]).all()
    assert (out[..., 1] >= out[..., 2]).all()
    assert out[..., 0].std() > 10
