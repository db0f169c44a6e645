"""Where everything stands in the drawing of a pathway's layer: tokens left, experts right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .pathway import LayerRoutes, Pathway, Route, Sense

# Units of the drawing; the page scales it to the width that there is.
WIDTH = 400
MAP = 96
TOP = 24
TILE, CHIP, _GAP = 22, 20, 3
TOKENS = 150  # where the tokens end and their lines begin
EXPERTS = 264
BOX, _BOX_GAP = 38, 8
ASLEEP = 24
# Of a finer picture so many squares are drawn; the map shows all.
_MOST = 20


@dataclasses.dataclass(frozen=True)
class Token:
    """A patch or a word piece in its place.

    Attributes:
        sense, place: as of a `Route`.
        routes: its visits, the surest first; none where no expert took it.
        y, height: in the column.
    """

    sense: Sense
    place: int
    routes: tuple[Route, ...]
    y: float = 0.0
    height: float = 0.0


def tokens_of(layer: LayerRoutes, way: Pathway) -> list[Token]:
    """All tokens of the senses that come to this layer, those that nobody took among them."""
    found: dict[tuple[Sense, int], list[Route]] = {}
    senses = {route.sense for route in layer.routes}
    if "image" in senses and way.image is not None:
        side = way.image.shape[0] // way.patch_size
        found |= {("image", place): [] for place in range(side * side)}
    if "text" in senses:
        found |= {("text", place): [] for place in range(len(way.pieces))}
    for route in layer.routes:
        found.setdefault((route.sense, route.place), []).append(route)
    return [Token(sense, place, tuple(routes)) for (sense, place), routes in found.items()]


def experts_in_order(layer: LayerRoutes) -> list[int]:
    """Awake experts, from those of the picture down to those of the words: few lines cross."""

    def key(expert: int) -> tuple[float, float, int]:
        mine = [route for route in layer.routes if route.expert == expert]
        words = [route.place for route in mine if route.sense == "text"]
        # Squares are put in the experts' order, words stay in their own.
        place = float(np.mean(words)) if len(words) == len(mine) else 0.0
        return len(words) / len(mine), place, expert

    return sorted(layer.awake, key=key)


def choose(tokens: Sequence[Token]) -> tuple[list[Token], int]:
    """The tokens that get a line, by lot where there are too many squares; and how many do not."""
    patches = [token for token in tokens if token.sense == "image"]
    words = [token for token in tokens if token.sense == "text"]
    if len(patches) <= _MOST:
        return [*patches, *words], 0
    lot = np.random.default_rng(0).permutation(len(patches))[:_MOST]
    return [*(patches[i] for i in np.sort(lot)), *words], len(patches) - _MOST


def _place(token: Token, rank: dict[int, int]) -> tuple[int, float]:
    """Squares of one expert stand together, those of nobody last; words stay in reading order."""
    if token.sense == "text":
        return 1, float(token.place)
    return 0, float(rank[token.routes[0].expert]) if token.routes else float("inf")


def stack(tokens: Sequence[Token], order: Sequence[int]) -> tuple[list[Token], float]:
    """Gives each token its place in the column; more room stands between the senses.

    Returns:
        the tokens from the top down, and where they end.
    """
    rank = {expert: i for i, expert in enumerate(order)}
    tokens = sorted(tokens, key=lambda token: _place(token, rank))
    y, placed = float(TOP), []
    for number, token in enumerate(tokens):
        if number and tokens[number - 1].sense != token.sense:
            # Chips are wide, and must not run into the map of the picture.
            y = max(y + 14, TOP + MAP + 12.0)
        height = float(TILE if token.sense == "image" else CHIP)
        placed.append(dataclasses.replace(token, y=y, height=height))
        y += height + _GAP
    return placed, y


def boxes_of(
    order: Sequence[int], layer: LayerRoutes, bottom: float
) -> tuple[dict[int, float], float]:
    """The top of each awake expert's box, and the drawing's height."""
    asleep = layer.experts - len(order)
    rows = -(-asleep // 5)
    below = rows * ASLEEP + 22 if asleep else 0
    room = max(bottom - TOP - below, len(order) * (BOX + _BOX_GAP))
    each = room / max(1, len(order))
    tops = {expert: TOP + each * i + (each - BOX) / 2 for i, expert in enumerate(order)}
    return tops, float(max(bottom, TOP + room + below)) + 4
