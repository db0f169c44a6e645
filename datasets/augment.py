"""Changes of training images that keep their captions true, a batch at a time.

Drawings carry alpha, so that moving one leaves no edge and any colour can lie behind it.
They are premultiplied and enlarged once, after which moving a batch is one gather
of the nearest pixels, sharper than bilinear sampling and several times faster, and
recolouring it one matrix product.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from .config import AugmentConfig

_LUMA = np.array([0.299, 0.587, 0.114])
# Images up to this side are enlarged twofold; a pixel of larger ones is small enough.
_SMALL = 64
_KEEP_BYTES = 1 << 30


def premultiply(rgba: UInt8[np.ndarray, "B S S 4"]) -> UInt8[np.ndarray, "B S S 4"]:
    """Straight alpha to premultiplied, rounding to nearest."""
    out = rgba.copy()
    colour = rgba[..., :3].astype(np.uint16) * rgba[..., 3:]
    out[..., :3] = (colour + 127) // 255
    return out


class Sprites:
    """Drawings ready to be moved: premultiplied, and twice as large where they are small.

    Each is made when it is first asked for, and kept while all of them fit in 1 GiB.

    Args:
        rgba: (N,S,S,4) uint8 with straight alpha.
    """

    def __init__(self, rgba: np.ndarray):
        self._rgba = rgba
        self.side = rgba.shape[1]
        self.factor = 2 if self.side <= _SMALL else 1
        shape = (len(rgba), self.side * self.factor, self.side * self.factor, 4)
        keep = int(np.prod(shape)) <= _KEEP_BYTES
        # Pages of zeros cost no memory until they are written.
        self._made = np.zeros(shape, np.uint8) if keep else None
        self._have = np.zeros(len(rgba), bool)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(B,f*S,f*S,4) uint8 premultiplied pixels of rows; f is `factor`."""
        if self._made is None:
            return self._make(rows)
        missing = np.unique(rows[~self._have[rows]])
        if len(missing):
            self._made[missing] = self._make(missing)
            self._have[missing] = True
        return self._made[rows]

    def _make(self, rows: np.ndarray) -> np.ndarray:
        plain = premultiply(self._rgba[rows])
        if self.factor == 1:
            return plain
        large = _between(_between(plain.astype(np.int16), 1), 2)
        # Cubic interpolation overshoots; a premultiplied colour is never above its alpha.
        np.clip(large, 0, 255, out=large)
        np.minimum(large[..., :3], large[..., 3:], out=large[..., :3])
        return large.astype(np.uint8)


def _between(pixels: np.ndarray, axis: int) -> np.ndarray:
    """Doubles an axis by the points half-way between pixels (Catmull and Rom's cubic).

    Every other pixel stays as it was, so an image that is not moved is itself again.
    """
    x = np.moveaxis(pixels, axis, 0)
    before, after = x[[0, *range(len(x) - 1)]], x[[*range(1, len(x)), -1]]
    second = x[[*range(2, len(x)), -1, -1]]
    out = np.empty((2 * len(x), *x.shape[1:]), x.dtype)
    out[0::2] = x
    out[1::2] = (9 * (x + after) - before - second + 8) >> 4
    return np.moveaxis(out, 0, axis)


def augment(
    images: UInt8[np.ndarray, "B X X 4"],
    side: int,
    mirror: Bool[np.ndarray, "B"],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "B S S 3"]:
    """Moves, turns, scales, mirrors and recolours drawings, each in its own way.

    Args:
        images: premultiplied RGBA, as `Sprites` gives them, of side X, a multiple of S.
        side: S of the result.
        mirror: which may be mirrored at all; half of those are, with `config.flip`.
        config: how much of what.
        rng: consumed; the same state gives the same images.

    Returns:
        Opaque images: the drawings on white, or on a random colour for a share
        `config.background` of them.
    """
    count = len(images)
    moved = _move(images, side, _affines(count, side, mirror, config, rng))
    matrix, behind = _colours(count, config, rng)
    mixed = moved.astype(np.float32) @ matrix
    mixed += behind[:, None, :]
    np.clip(mixed, 0, 255, out=mixed)
    return mixed.astype(np.uint8).reshape(count, side, side, 3)


def _affines(
    count: int, side: int, mirror: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """(B,2,3) float32 maps from output to input positions, in pixels."""
    angle = np.deg2rad(config.rotate) * rng.uniform(-1, 1, count)
    # Uniform in the logarithm: as often larger as smaller.
    scale = np.exp(np.log1p(config.zoom) * rng.uniform(-1, 1, count))
    shear = config.shear * rng.uniform(-1, 1, count)
    shift = config.shift * side * rng.uniform(-1, 1, (count, 2))
    flip = np.where(mirror & config.flip & (rng.random(count) < 0.5), -1.0, 1.0)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    a, b = flip * cos, flip * (sin + shear * cos)
    d, e = -sin, cos - shear * sin
    centre = side / 2
    x = centre - a * (centre + shift[:, 0]) - b * (centre + shift[:, 1])
    y = centre - d * (centre + shift[:, 0]) - e * (centre + shift[:, 1])
    return np.stack([a, b, x, d, e, y], axis=1).reshape(count, 2, 3).astype(np.float32)


def _move(images: np.ndarray, side: int, affines: np.ndarray) -> np.ndarray:
    """(B,S*S,4) uint8: of each image the pixels nearest to the mapped pixel centres."""
    count, large = images.shape[:2]
    factor = large // side
    centres = np.arange(side, dtype=np.float32) + 0.5
    maps = affines[..., None] * np.float32(factor)
    # Position p lies nearest to the pixel floor(factor * (p - 1/2) + 1/2), as they stand.
    maps[:, :, 2] -= (factor - 1) / 2
    # Positions are sums of a part by column and a part by row: two outer sums, no product.
    x = (maps[:, 0, 1] * centres + maps[:, 0, 2])[:, :, None] + (maps[:, 0, 0] * centres)[:, None]
    y = (maps[:, 1, 1] * centres + maps[:, 1, 2])[:, :, None] + (maps[:, 1, 0] * centres)[:, None]
    inside = (x >= 0) & (x < large) & (y >= 0) & (y < large)
    index = y.astype(np.int32) * large + x.astype(np.int32)
    index += (np.arange(count, dtype=np.int32) * large * large)[:, None, None]
    # One 32-bit word is a pixel; what lies outside is transparent, which is zero.
    words = np.ascontiguousarray(images).view(np.uint32).reshape(-1)
    taken = words.take(index.reshape(-1), mode="clip") * inside.reshape(-1)
    return taken.view(np.uint8).reshape(count, side * side, 4)


def _colours(
    count: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(B,4,3) float32 from premultiplied RGBA to RGB, and (B,3) colours behind, 0 to 255.

    Brightness, contrast and saturation change, hue does not: captions name colours.
    """
    brightness, contrast, saturation = 1 + config.colour * rng.uniform(-1, 1, (3, count))
    coloured = rng.random(count) < config.background
    behind = np.where(coloured[:, None], rng.uniform(0, 255, (count, 3)), 255.0)
    mix = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * _LUMA[:, None]
    gain = (brightness * contrast)[:, None, None]
    # The row of alpha adds contrast's offset where the drawing is, and takes the
    # background away there. Half a unit rounds to nearest.
    offset = 127.5 * (1 - contrast)[:, None] - behind
    matrix = np.concatenate([gain * mix, offset[:, None, :] / 255], axis=1)
    return matrix.astype(np.float32), (behind + 0.5).astype(np.float32)
