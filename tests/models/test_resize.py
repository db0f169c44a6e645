"""Positions at another resolution: SciPy's numbers, as V-MoE's code has them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import MoeConfig, Vmoe, VmoeConfig, at_resolution, resize_positions
from scipy.ndimage import zoom

CONFIG = VmoeConfig(
    image_size=12,
    patch_size=4,
    width=8,
    hidden=12,
    depth=2,
    heads=2,
    num_classes=3,
    moe=MoeConfig(num_experts=2),
)


def table(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(1, rows, 5)).astype(np.float32)


@pytest.mark.parametrize("class_row", [False, True])
@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (24, 24)), ((7, 7), (3, 3)), ((2, 5), (6, 4)), ((3, 3), (1, 1))]
)
def test_it_is_scipys_zoom_of_order_one(old, new, class_row):
    start = table(old[0] * old[1] + class_row)
    found = resize_positions(start, old, new, class_row=class_row)
    patches = start[0, int(class_row) :].reshape(*old, 5)
    expected = zoom(patches, (new[0] / old[0], new[1] / old[1], 1), order=1).reshape(-1, 5)
    assert found.dtype == start.dtype
    np.testing.assert_allclose(found[0, int(class_row) :], expected, atol=1e-6)
    assert np.array_equal(found[0, : int(class_row)], start[0, : int(class_row)])


def test_it_grows_out_of_one_patch_and_keeps_corners_and_lines():
    one = table(1)
    grown = resize_positions(one, (1, 1), (3, 2), class_row=False)
    assert np.array_equal(grown, np.repeat(one, 6, 1))
    slope = np.arange(4.0)[:, None] + np.zeros((4, 4))
    found = resize_positions(slope.reshape(16, 1), (4, 4), (7, 4), class_row=False)
    np.testing.assert_allclose(found.reshape(7, 4), np.arange(7)[:, None] / 2 + np.zeros((7, 4)))


def test_the_same_grid_is_the_same_table():
    start = table(10)
    assert resize_positions(start, (3, 3), (3, 3), class_row=True) is start


@pytest.mark.parametrize(
    ("shape", "old", "new", "message"),
    [
        ((1, 9, 5), (3, 3), (4, 4), r"3 x 3 patches and a class token makes \(1, 10, D\)"),
        ((2, 10, 5), (3, 3), (4, 4), r"shape \(2, 10, 5\)"),
        ((10,), (3, 3), (4, 4), r"shape \(10,\)"),
        ((1, 10, 5), (3, 3), (0, 4), r"new grid is \(0, 4\)"),
    ],
)
def test_tables_of_another_grid_are_refused(shape, old, new, message):
    with pytest.raises(ValueError, match=message):
        resize_positions(np.zeros(shape), old, new, class_row=True)


@pytest.mark.parametrize(
    ("classifier", "positions"), [("token", "learned"), ("gap", "learned"), ("token", "sincos2d")]
)
def test_a_model_at_another_resolution(classifier, positions):
    config = dataclasses.replace(CONFIG, classifier=classifier, positions=positions)

    def shapes(config):
        images = jnp.zeros((1, config.image_size, config.image_size, 3))
        return jax.eval_shape(Vmoe(config).init, jax.random.key(0), images)["params"]

    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes(config))
    larger, resized = at_resolution(config, params, 20)
    assert larger == dataclasses.replace(config, image_size=20)
    wanted, found = shapes(larger), jax.tree.map(lambda x: (x.shape, x.dtype), resized)
    assert found == jax.tree.map(lambda x: (x.shape, x.dtype), wanted)
    assert resized["head"] is params["head"]
    assert at_resolution(config, params, 12) == (config, params)


def test_sizes_and_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"image_size=18 does not divide.*such as 16"):
        at_resolution(CONFIG, {}, 18)
    with pytest.raises(ValueError, match="no Encoder/posembed_input/pos_embedding"):
        at_resolution(CONFIG, {}, 16)
