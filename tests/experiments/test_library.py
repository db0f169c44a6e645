"""`byways.load`: a run's model as two functions."""

import dataclasses

import numpy as np
import pytest
from byways.experiments import CheckpointError, ExperimentConfig, RunError
from byways.experiments.library import BATCH, untrained_run
from PIL import Image

import byways

SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = ExperimentConfig()
    model = dataclasses.replace(
        base.model, image_size=SIDE, width=24, hidden=32, depth=2, heads=2, embed_dim=16
    )
    return untrained_run(
        tmp_path_factory.mktemp("run") / "x", dataclasses.replace(base, model=model)
    )


@pytest.fixture(scope="module")
def run(folder):
    return byways.load(folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (BATCH + 3, SIDE, SIDE, 3), np.uint8)


def test_rows_have_length_one(run, images):
    for vectors, count in (
        (run.embed_images(images), len(images)),
        (run.embed_texts(["a cat", "two red apples"]), 2),
    ):
        assert vectors.shape == (count, 16)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbours(run, images):
    together = run.embed_images(images)
    np.testing.assert_allclose(run.embed_images(images[-2:]), together[-2:], atol=1e-6)
    texts = ["a cat", "a dog sleeping on a red mat beside the door", "tram"]
    np.testing.assert_allclose(run.embed_texts(texts)[2:], run.embed_texts(["tram"]), atol=1e-6)


def test_images_come_as_arrays_pictures_or_paths(run, images, tmp_path):
    expected = run.embed_images(images[:2])
    pictures = [Image.fromarray(image) for image in images[:2]]
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        picture.save(paths[-1])
    for given in (pictures, paths, [str(path) for path in paths], list(images[:2])):
        np.testing.assert_array_equal(run.embed_images(given), expected)


def test_other_sizes_are_fitted_and_transparency_is_white(run):
    clear = Image.new("RGBA", (50, 30), (200, 0, 0, 0))
    white = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    np.testing.assert_array_equal(run.embed_images([clear]), run.embed_images(white))


def test_grey_of_16_bits_is_scaled(run, tmp_path):
    deep = Image.fromarray(np.full((SIDE, SIDE), 128 * 257, np.uint16))
    deep.save(tmp_path / "deep.png")
    grey = np.full((2, SIDE, SIDE, 3), 128, np.uint8)
    found = run.embed_images([deep, tmp_path / "deep.png"])
    np.testing.assert_array_equal(found, run.embed_images(grey))


def test_nothing_gives_no_rows(run):
    assert run.embed_images([]).shape == (0, 16)
    assert run.embed_texts([]).shape == (0, 16)


def test_what_cannot_be_embedded_is_told(run, images, tmp_path):
    with pytest.raises(ValueError, match="one string; give a list"):
        run.embed_texts("a cat")
    with pytest.raises(ValueError, match="text 1 is '', which has no pieces"):
        run.embed_texts(["a cat", ""])
    with pytest.raises(ValueError, match="float32; expected uint8"):
        run.embed_images(images.astype(np.float32))
    with pytest.raises(ValueError, match=r"of shape \(16, 16\)"):
        run.embed_images([images[0, :, :, 0]])
    with pytest.raises(ValueError, match="give a list of images"):
        run.embed_images(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError):
        run.embed_images([tmp_path / "a.png"])


def test_a_run_or_checkpoint_that_is_not_there(folder, tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        byways.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint.*step 7.*there: 0"):
        byways.load(folder, step=7)
