"""Pictures at the model's size: against JAX, by brute force, and by the sizes that codes have."""

from __future__ import annotations

import io

import jax
import numpy as np
import pytest
from byways.datasets.evaluation_picture import area, bilinear, picture, squashed
from PIL import Image


def encoded(image: Image.Image, **how) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **how)
    return stream.getvalue()


def noise(high: int, wide: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (high, wide, 3), np.uint8)


@pytest.mark.parametrize(("high", "wide", "size"), [(50, 37, 16), (9, 64, 16), (16, 16, 16)])
def test_squash_is_half_pixel_bilinear_without_antialiasing(high, wide, size):
    pixels = noise(high, wide)
    wanted = jax.image.resize(
        pixels.astype(np.float32), (size, size, 3), method="linear", antialias=False
    )
    found = bilinear(pixels, size)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    # The cast to uint8 cuts.
    assert (squashed(pixels, size) == np.floor(found)).all()
    assert (picture(encoded(Image.fromarray(pixels)), size, "squash") == np.floor(found)).all()


def test_squash_by_hand():
    # New pixel 0 lies between old pixels 1 and 2, new pixel 1 between 5 and 6; nothing else counts.
    row = np.array([0, 10, 21, 0, 255, 7, 8, 255], np.uint8)
    pixels = np.tile(row[None, :, None], (8, 1, 3))
    assert squashed(pixels, 2)[:, :, 0].tolist() == [[15, 7], [15, 7]]
    assert squashed(np.full((31, 17, 3), 255, np.uint8), 12).min() == 255


@pytest.mark.parametrize(
    ("high", "wide", "new"), [(7, 12, (3, 5)), (4, 6, (2, 3)), (3, 2, (7, 5)), (5, 5, (5, 5))]
)
def test_area_is_the_integral(high, wide, new):
    pixels = noise(high, wide)
    # Each old pixel in as many equal parts as there are new ones: every edge is then one of theirs.
    fine = np.repeat(np.repeat(pixels.astype(np.int64), new[0], axis=0), new[1], axis=1)
    blocks = fine.reshape(new[0], high, new[1], wide, 3)
    assert (area(pixels, *new) == blocks.sum(axis=(1, 3)) // (high * wide)).all()
    assert area(np.full((high, wide, 3), 255, np.uint8), *new).min() == 255


def test_central_is_the_middle_of_the_area_resized():
    pixels = noise(40, 71)
    found = picture(encoded(Image.fromarray(pixels)), 14, "central")
    # 14 / 0.875 = 16; 71 * 16 / 40 = 28.4, and (28 - 14) // 2 = 7.
    assert (found == area(pixels, 16, 28)[1:15, 7:21]).all()


def test_short_side_is_cut_and_its_corner_rounded():
    # 500 by 375 at 224: the longer side is 298.67, cut to 298, and its corner (298 - 224) / 2 = 37.
    pixels = noise(375, 500)
    rgb = Image.fromarray(pixels)
    wanted = np.asarray(rgb.resize((298, 224), Image.Resampling.BICUBIC))[:, 37 : 37 + 224]
    assert (picture(encoded(rgb), 224, "short_side") == wanted).all()
    upright = rgb.transpose(Image.Transpose.ROTATE_90)
    wanted = np.asarray(upright.resize((224, 298), Image.Resampling.BICUBIC))[37 : 37 + 224]
    assert (picture(encoded(upright), 224, "short_side") == wanted).all()
    # Of 7 more columns than rows 3.5 would go: a half goes to the even number, 4.
    wide = Image.fromarray(noise(10, 17))
    assert (picture(encoded(wide), 10, "short_side") == np.asarray(wide)[:, 4:14]).all()


@pytest.mark.parametrize("resize", ["crop", "short_side", "squash", "central"])
def test_grey_of_16_bits_is_scaled(resize):
    grey = np.full((8, 8), 128 * 257, np.uint16)
    assert (picture(encoded(Image.fromarray(grey)), 8, resize) == 128).all()


def test_grey_of_16_and_32_bits_by_hand():
    grey = np.array([[0, 128, 129, 65535]], np.uint16)
    squares = np.repeat(grey, 4, axis=0)
    assert picture(encoded(Image.fromarray(squares)), 4)[0, :, 0].tolist() == [0, 0, 1, 255]
    stream = io.BytesIO()
    Image.fromarray(squares.astype(np.int32)).save(stream, "TIFF")
    assert picture(stream.getvalue(), 4)[0, :, 0].tolist() == [0, 0, 1, 255]
    clear = encoded(Image.fromarray(squares), transparency=129)
    assert picture(clear, 4)[0, :, 0].tolist() == [0, 0, 255, 255]


def test_a_picture_of_too_many_pixels_does_not_decode(monkeypatch):
    data = encoded(Image.new("RGB", (20, 20)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match="exceeds limit"):
        picture(data, 8)
