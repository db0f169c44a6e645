"""The way of one example through a sparse model: who went to which expert, how surely."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt8

from ...datasets import fit_images
from ..config import ClassificationConfig
from .blocks import routers
from .tokens import NO_PAIRS, Pairs, route_images, route_labelled, route_texts

if TYPE_CHECKING:
    from ..library import Run, Trained

Sense = Literal["image", "text"]


@dataclasses.dataclass(frozen=True)
class Route:
    """One token's visit to one expert.

    Attributes:
        sense: whether the token is a patch of the picture or a piece of the text.
        place: of the patch, row by row, or of the piece, from 0; -1 is a class token.
        expert: from 0.
        gate: the weight of the expert's output in what becomes of the token, mostly 0 to 1.
    """

    sense: Sense
    place: int
    expert: int
    gate: float


@dataclasses.dataclass(frozen=True)
class LayerRoutes:
    """Who went where in one sparse layer.

    Attributes:
        name: such as `encoderblock_1`, or `image/encoderblock_1` of a tower.
        experts: E, of which some may have slept.
        routes: all visits, patches first, by place and then by falling gate.
    """

    name: str
    experts: int
    routes: tuple[Route, ...]

    @property
    def awake(self) -> tuple[int, ...]:
        """The experts that something came to, ascending."""
        return tuple(sorted({route.expert for route in self.routes}))


@dataclasses.dataclass(frozen=True)
class Pathway:
    """One example and its way through every sparse layer.

    Attributes:
        image: (S,S,3) as the model saw it; None where no picture was given.
        patch_size: pixels a side of a patch.
        pieces: the text's pieces as people read them; those that go on with a word begin with `…`.
        layers: from the first to the last; none of a dense model, or of a soft mixture.
    """

    image: UInt8[np.ndarray, "S S 3"] | None
    patch_size: int
    pieces: tuple[str, ...]
    layers: tuple[LayerRoutes, ...]


def pathway_of(run: Run | Trained, image: Any = None, text: str | None = None) -> Pathway:
    """Where one example goes: for a page, or for a notebook.

    Nothing is dropped: as in evaluation, experts have room for all. A picture and a text do not
    see each other, so that both together go the ways that each goes alone.

    Args:
        run: of `byways.load` (pairs), or of `read_run` (a classifier, which takes no text).
        image: (S,S,3) uint8, or what `Run.embed_images` takes one of; None is no picture.
        text: None is no text.

    Raises:
        ValueError: neither is given, a text is given to a classifier, the text is empty, or the
            array is no such image.
        TypeError: a run of another kind.
    """
    if image is None and text is None:
        raise ValueError("neither an image nor a text is given: there is no way to follow")
    from ..library import Run, as_pixels

    side = getattr(run.config.model, "image_size", None)
    if side is None or not hasattr(run.config.model, "patch_size"):
        raise TypeError(f"{run.folder} is not a run that sees pictures")
    images = None if image is None else as_pixels([image], side)
    if isinstance(run, Run):
        return pathways_of(run, images, None if text is None else [text])[0]
    if not isinstance(run.config, ClassificationConfig):
        raise TypeError(f"load the pairs' run of {run.folder} by byways.load, for its tokenizer")
    if text is not None or images is None:
        raise ValueError("a classifier reads no text; give it an image alone")
    return class_pathways_of(run, images)[0]


def pathways_of(
    run: Run, images: UInt8[np.ndarray, "n S S 3"] | None, texts: Sequence[str] | None
) -> list[Pathway]:
    """As `pathway_of`, of n pairs at once (or of n images, or of n texts)."""
    config, pieces = run.config.model, None
    seen: Mapping[str, Pairs] = {}
    read: Mapping[str, Pairs] = {}
    if images is not None:
        seen = route_images(run, images)
    if texts is not None:
        ids, real = run.tokenizer.encode(list(texts), config.text_length)
        if not real.any(axis=1).all():
            raise ValueError("a text has no pieces; give it some words")
        read = route_texts(run, ids, real)
        pieces = [
            tuple(readable(p) for p in run.tokenizer.pieces(row[there]))
            for row, there in zip(ids, real, strict=True)
        ]
    experts = {name: moe.routed_experts for name, moe in routers(run.config).items()}
    return collect(images, config.patch_size, pieces, seen, read, experts)


def class_pathways_of(run: Trained, images: UInt8[np.ndarray, "n S S 3"]) -> list[Pathway]:
    """As `pathway_of`, of n pictures that a classifier looks at."""
    config = run.config
    assert isinstance(config, ClassificationConfig)
    images = fit_images(images, config.model.image_size)
    seen = route_labelled(config.model, run.params, images)
    experts = {name: moe.routed_experts for name, moe in routers(config).items()}
    return collect(images, config.model.patch_size, None, seen, {}, experts)


def collect(
    images: UInt8[np.ndarray, "n S S 3"] | None,
    patch_size: int,
    pieces: Sequence[tuple[str, ...]] | None,
    seen: Mapping[str, Pairs],
    read: Mapping[str, Pairs],
    experts: Mapping[str, int],
) -> list[Pathway]:
    """Pairs of many examples, sorted into an example's each.

    Args:
        images: the pictures, or None.
        patch_size: pixels.
        pieces: of each text, or None; one of both must be there.
        seen, read: the pairs of patches and of pieces, by layer.
        experts: E of each sparse layer, in order.
    """
    count = len(images) if images is not None else len(pieces or ())
    # A soft mixture has no pairs, so that its layers show nothing.
    names = [name for name in experts if name in seen or name in read]
    found = []
    for row in range(count):
        layers = []
        for name in names:
            routes = _routes("image", seen.get(name, NO_PAIRS), row)
            routes += _routes("text", read.get(name, NO_PAIRS), row)
            layers.append(LayerRoutes(name, experts[name], tuple(routes)))
        image = None if images is None else images[row]
        found.append(Pathway(image, patch_size, pieces[row] if pieces else (), tuple(layers)))
    return found


def _routes(sense: Sense, pairs: Pairs, row: int) -> list[Route]:
    mine = np.flatnonzero(pairs.row == row)
    order = mine[np.lexsort((-pairs.gate[mine], pairs.place[mine]))]
    return [
        Route(sense, int(pairs.place[i]), int(pairs.expert[i]), float(pairs.gate[i])) for i in order
    ]


def readable(piece: str) -> str:
    """A piece that goes on with a word begins with `…`; a lone word mark is a space."""
    if piece == "▁":
        return "␣"
    return piece[1:] if piece.startswith("▁") else f"…{piece}"
