"""Drawings to pixels: an artist's icons by code point, each rendered at a given size.

The pixels keep their alpha (straight, not premultiplied), so that training may vary what is
behind a drawing; on white is the standard look.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .catalogue import Concept, normal_code, slug
from .sources import Package, SourceError, fetch, read_members

_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' width="{size}" height="{size}" viewBox="{left} {top} {width} {height}">{body}</svg>'
)


@dataclasses.dataclass(frozen=True)
class IconSet:
    """An Iconify set: bodies of SVGs by name, aliases of names, and names by code point."""

    icons: Mapping[str, Any]
    chars: Mapping[str, str]

    @classmethod
    def parse(cls, icons: bytes, chars: bytes) -> IconSet:
        """From the bytes of `icons.json` and `chars.json`."""
        codes = {normal_code(code): name for code, name in json.loads(chars).items()}
        return cls(json.loads(icons), codes)

    def names(self, code: str) -> list[str]:
        """What this set calls a code point: its icon, then the aliases of that icon."""
        if code not in self.chars:
            return []
        name = self.chars[code]
        aliases = self.icons.get("aliases", {})
        return [name, *sorted(a for a, v in aliases.items() if v["parent"] == name)]

    def __contains__(self, name: str) -> bool:
        return name in self.icons["icons"] or name in self.icons.get("aliases", {})

    def svg(self, name: str, size: int) -> str:
        """The icon as an SVG of `size` x `size` pixels, aliases and their mirroring resolved."""
        chain: list[Mapping[str, Any]] = [self.icons]
        flips = {"hFlip": False, "vFlip": False}
        steps: list[Mapping[str, Any]] = []
        while name not in self.icons["icons"]:
            steps.append(self.icons["aliases"][name])
            name = steps[-1]["parent"]
        for item in (self.icons["icons"][name], *reversed(steps)):
            chain.append(item)
            for flip in flips:
                flips[flip] ^= bool(item.get(flip, False))

        def value(key: str, default: float) -> Any:
            return next((item[key] for item in reversed(chain) if key in item), default)

        left, top = value("left", 0.0), value("top", 0.0)
        width, height = value("width", 16.0), value("height", 16.0)
        body = self.icons["icons"][name]["body"]
        if flips["hFlip"]:
            body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
        if flips["vFlip"]:
            body = f'<g transform="translate(0 {2 * top + height}) scale(1 -1)">{body}</g>'
        return _SVG.format(size=size, left=left, top=top, width=width, height=height, body=body)


def match(concept: Concept, own: IconSet, others: tuple[IconSet, ...]) -> str | None:
    """The icon's name in `own`, or None where the artist did not draw the concept.

    By code point where the set has code points; else by the slug of the label, then by
    what `others`, sets that have code points, call this concept.
    """
    if own.chars:
        return own.chars.get(concept.code)
    candidates = [slug(concept.label), *(n for o in others for n in o.names(concept.code))]
    return next((name for name in candidates if name in own), None)


def rasterise(svg: str) -> np.ndarray:
    """An SVG's pixels at its own size, (S,S,4) uint8 RGBA.

    Raises:
        SourceError: resvg-py is not installed.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise SourceError(
            "Rendering needs resvg-py, which is not installed: `pip install 'resvg-py>=0.5,<0.6'`."
        ) from error
    # No system fonts: the result may not depend on the machine.
    return decode(bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)))


def decode(data: bytes, size: int | None = None) -> np.ndarray:
    """An encoded image as (S,S,4) uint8 RGBA, resized to `size` where given (Lanczos)."""
    with Image.open(io.BytesIO(data)) as image:
        rgba = image.convert("RGBA")
    if size is not None:
        rgba = rgba.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.array(rgba)
    pixels[pixels[..., 3] == 0] = 0  # what cannot be seen is not kept
    return pixels


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Composes (...,4) uint8 RGBA over white, as (...,3) uint8, rounding to nearest."""
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def render_artist(
    package: Package,
    concepts: tuple[Concept, ...],
    cache: Path,
    size: int,
    others: tuple[IconSet, ...] = (),
) -> Iterator[tuple[Concept, np.ndarray]]:
    """All drawings of one artist, in the order of the concepts, as (size,size,4) uint8.

    Raises:
        SourceError: the package cannot be had or is not the pinned one.
    """
    tarball = fetch(package, cache)
    if package.package.startswith("@iconify-json/"):
        own = load_icons(package, cache)
        for concept in concepts:
            name = match(concept, own, others)
            if name is not None:
                yield concept, rasterise(own.svg(name, size))
        return
    files = read_members(tarball, ("assets/",))
    drawn = {normal_code(Path(name).stem): data for name, data in files.items()}
    for concept in concepts:
        if concept.code in drawn:
            yield concept, decode(drawn[concept.code], size)


def load_icons(package: Package, cache: Path) -> IconSet:
    """The Iconify set of a package."""
    files = ("icons.json", "chars.json")
    members = read_members(fetch(package, cache), files)
    return IconSet.parse(members[files[0]], members[files[1]])
