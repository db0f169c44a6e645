"""The examples whose pathways a page draws, some right and some wrong, drawn by lot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Experiment
from .blocks import layer_title
from .pathway import Pathway, Route, class_pathways_of, pathways_of
from .pathway_drawing import LayerDrawing, draw_layer
from .pictures import data_address

if TYPE_CHECKING:
    from ...datasets import Examples
    from ..library import Run, Trained

# Right ones, and as many wrong ones.
EACH = 3
# Squares are shown large, but a page of photographs must stay small.
_LARGEST = 160


@dataclasses.dataclass(frozen=True)
class Example:
    """One example with its drawings.

    Attributes:
        number: on the page, from 0.
        title: what it shows, in the data's words.
        right: whether the model's answer was right; None where it gives none.
        said: its answer.
        held_out: the thing was left out of training.
        picture: `data:` address; empty where there is no picture.
        side: S, pixels.
        text: what was given with the picture, or the whole example; empty where nothing was.
        layers: from the first to the last.
    """

    number: int
    title: str
    right: bool | None
    said: str
    held_out: bool
    picture: str
    side: int
    text: str
    layers: tuple[LayerDrawing, ...]


def draw_example(
    number: int,
    way: Pathway,
    config: Experiment,
    *,
    title: str,
    right: bool | None = None,
    said: str = "",
    held_out: bool = False,
    text: str = "",
) -> Example:
    """Draws the way of the page's so-manieth example; the rest is as in `Example`."""
    from .experts import spread

    shown = set(spread([layer.name for layer in way.layers]))
    drawings = tuple(
        draw_layer(layer_title(layer.name, config), layer, way, f"way-picture-{number}")
        for layer in way.layers
        if layer.name in shown and layer.routes
    )
    image = way.image
    return Example(
        number,
        title,
        right,
        said,
        held_out,
        "" if image is None else data_address(image, _LARGEST),
        0 if image is None else image.shape[0],
        text,
        drawings,
    )


def pair_pathways(
    run: Run, predictions: dict[str, Any], examples: Examples, artist: str = "noto"
) -> tuple[Example, ...]:
    """Drawings of an artist, each with its thing's name, right and wrong ones by lot.

    Args:
        run: the trained model.
        predictions: the contents of `predictions.json`.
        examples: whose rows the predictions name.
        artist: whose drawings.
    """
    found = predictions.get("artists", {}).get(artist)
    if not found:
        return ()
    rows, concepts = np.array(found["id"]), np.array(found["concept"])
    inside = (rows >= 0) & (rows < len(examples))
    same = inside & (examples.concept[np.where(inside, rows, 0)] == concepts)
    right = [rank == 0 for rank in found["rank"]]
    order = np.random.default_rng(1).permutation(np.flatnonzero(same)).tolist()
    chosen = some_of_each(right, order)
    if not chosen:
        return ()
    labels = [examples.concepts[concepts[i]].label for i in chosen]
    ways = pathways_of(run, examples.images(rows[chosen]), labels)
    return tuple(
        draw_example(
            number,
            way,
            run.config,
            title=label,
            right=right[i],
            said=predictions["names"][found["top"][i][0]],
            held_out=bool(found["held_out"][i]),
            # A dense word tower has no ways to show.
            text=label if any(r.sense == "text" for r in _routes(way)) else "",
        )
        for number, (i, way, label) in enumerate(zip(chosen, ways, labels, strict=True))
    )


def _routes(way: Pathway) -> list[Route]:
    return [route for layer in way.layers for route in layer.routes]


def class_pathways(
    run: Trained, predictions: dict[str, Any], pictures: Callable[[np.ndarray], np.ndarray]
) -> tuple[Example, ...]:
    """Pictures that a classifier got right and wrong, by lot.

    Args:
        run: of a classification.
        predictions: the contents of `predictions.json`, of the same pictures.
        pictures: rows of the data -> (n,S,S,3) uint8.
    """
    labels, top = np.asarray(predictions["label"]), np.asarray(predictions["top"])
    right = (top[:, 0] == labels).tolist()
    order = np.random.default_rng(1).permutation(len(labels)).tolist()
    chosen = some_of_each(right, order)
    if not chosen:
        return ()
    names = predictions["classes"]
    ways = class_pathways_of(run, pictures(np.asarray(predictions["id"])[chosen]))
    return tuple(
        draw_example(
            number,
            way,
            run.config,
            title=names[labels[i]],
            right=right[i],
            said=names[top[i, 0]],
        )
        for number, (i, way) in enumerate(zip(chosen, ways, strict=True))
    )


def text_pathways(
    config: Experiment, texts: Sequence[str], ways: Sequence[Pathway]
) -> tuple[Example, ...]:
    """Texts that a decoder reads.

    Args:
        config: of the run.
        texts: as people read them.
        ways: of each.
    """
    return tuple(
        draw_example(number, way, config, title=text, text=text)
        for number, (text, way) in enumerate(zip(texts, ways, strict=True))
    )


def some_of_each(right: Sequence[bool], order: Sequence[int], each: int = EACH) -> list[int]:
    """Numbers of the first `each` right ones in an order, then of the first wrong ones.

    Where one kind is rare, more of the other fill its place.
    """
    kinds = [[i for i in order if right[i]], [i for i in order if not right[i]]]
    spare = [max(0, each - len(kind)) for kind in kinds]
    return [
        i for kind, more in zip(kinds, reversed(spare), strict=True) for i in kind[: each + more]
    ]
