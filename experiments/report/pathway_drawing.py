"""One layer of a pathway as inline SVG: the pieces of an example, its experts, and lines between.

Colours are classes of the page's style sheet, `e0` to `e9` by the expert's number; every expert is
also named in words, so that nothing hangs on a colour alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from markupsafe import Markup

from .pathway import LayerRoutes, Pathway, Route
from .pathway_layout import (
    ASLEEP,
    BOX,
    CHIP,
    EXPERTS,
    MAP,
    TILE,
    TOKENS,
    TOP,
    WIDTH,
    Token,
    boxes_of,
    choose,
    experts_in_order,
    stack,
    tokens_of,
)

COLOURS = 10


@dataclasses.dataclass(frozen=True)
class LayerDrawing:
    """A layer, ready for the page.

    Attributes:
        title: such as `Layer 2 of 4`.
        svg: the drawing.
        summary: the same in a sentence.
        left_out: squares without a line of their own.
        unserved: tokens that no expert took.
    """

    title: str
    svg: Markup
    summary: str
    left_out: int
    unserved: int


def draw_layer(title: str, layer: LayerRoutes, way: Pathway, picture: str) -> LayerDrawing:
    """Draws one layer.

    Args:
        title: of the layer.
        layer: its routes.
        way: of which it is a layer.
        picture: id of the page's `<image>`, S units a side.
    """
    tokens = tokens_of(layer, way)
    order = experts_in_order(layer)
    shown, left_out = choose(tokens)
    shown, bottom = stack(shown, order)
    boxes, height = boxes_of(order, layer, bottom)
    summary = _summary(tokens, layer, way)
    parts = [
        Markup(
            '<svg class="way-drawing" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}: {}">'
        ).format(WIDTH, height, title, summary)
    ]
    parts.append(_heads(layer, shown, way))
    side = 0 if way.image is None else way.image.shape[0] // way.patch_size
    if side and any(token.sense == "image" for token in tokens):
        parts.append(_map(tokens, side, way, picture))
    parts += [_lines(token, boxes, shown, side) for token in shown]
    parts += [_piece(token, way, side, picture) for token in shown]
    parts += [_box(expert, boxes[expert], layer, way) for expert in order]
    parts.append(_sleepers(layer, boxes, order))
    parts.append(Markup("</svg>"))
    unserved = sum(not token.routes for token in tokens)
    return LayerDrawing(title, Markup("").join(parts), summary, left_out, unserved)


def colour(expert: int) -> str:
    """The class of an expert's colour."""
    return f"e{expert % COLOURS}"


def _heads(layer: LayerRoutes, shown: Sequence[Token], way: Pathway) -> Markup:
    senses = {token.sense for token in shown}
    image = '<text class="head" x="0" y="14">the picture</text>' if "image" in senses else ""
    words = "its squares" if senses == {"image"} else "its pieces"
    if senses == {"text"}:
        words = "tokens" if way.image is None else "word pieces"
    return Markup(
        '{}<text class="head" x="{}" y="14" text-anchor="end">{}</text>'
        '<text class="head" x="{}" y="14">{} experts</text>'
    ).format(Markup(image), TOKENS, words, EXPERTS, layer.experts)


def _map(tokens: Sequence[Token], side: int, way: Pathway, picture: str) -> Markup:
    """The picture, each square framed in the colour of its first expert."""
    assert way.image is not None
    size = MAP / side
    parts = [
        Markup(
            '<svg class="crop" x="0" y="{}" width="{}" height="{}" viewBox="0 0 {s} {s}">'
            '<use href="#{}"/></svg>'
        ).format(TOP, MAP, MAP, picture, s=way.image.shape[0])
    ]
    edge = 2.5 if size > 12 else 1.2
    for token in tokens:
        if token.sense != "image" or token.place < 0 or not token.routes:
            continue
        row, column = divmod(token.place, side)
        x, y = column * size, TOP + row * size
        expert = token.routes[0].expert
        parts.append(
            Markup(
                '<rect class="frame {}" x="{:.1f}" y="{:.1f}" width="{w:.1f}" height="{w:.1f}"'
                ' stroke-width="{}"/>'
            ).format(colour(expert), x + edge / 2, y + edge / 2, edge, w=size - edge)
        )
    return Markup("").join(parts)


def _lines(token: Token, boxes: dict[int, float], shown: Sequence[Token], side: int) -> Markup:
    """From a token to each of its experts: the surer, the thicker."""
    parts = []
    for route in token.routes:
        guests = [t for t in shown if any(r.expert == route.expert for r in t.routes)]
        place = (guests.index(token) + 1) / (len(guests) + 1)
        y0, y1 = token.y + token.height / 2, boxes[route.expert] + BOX * place
        bend = (EXPERTS - TOKENS) / 2
        gate = min(1.0, max(0.0, route.gate))
        parts.append(
            Markup(
                '<path class="route {}" d="M{} {:.1f}C{:.0f} {:.1f} {:.0f} {:.1f} {} {:.1f}"'
                ' stroke-width="{:.1f}"><title>{} → expert {}, weight {:.2f}</title></path>'
            ).format(
                colour(route.expert), TOKENS + 2, y0, TOKENS + bend, y0, EXPERTS - bend, y1,
                EXPERTS, y1, 0.8 + 5.2 * gate, _name(token, side), route.expert, route.gate,
            )
        )  # fmt: skip
    return Markup("").join(parts)


def _name(token: Token, side: int) -> str:
    if token.sense == "text":
        return f"word piece {token.place + 1}" if side else f"token {token.place + 1}"
    if token.place < 0:
        return "the token of the whole picture"
    row, column = divmod(token.place, side)
    return f"square in row {row + 1}, column {column + 1}"


def _piece(token: Token, way: Pathway, side: int, picture: str) -> Markup:
    """The token itself: a crop of the picture, or a chip with its letters."""
    own = colour(token.routes[0].expert) if token.routes else "none"
    if token.sense == "image" and token.place >= 0:
        row, column = divmod(token.place, side)
        p, x = way.patch_size, TOKENS - TILE
        return Markup(
            '<svg class="crop" x="{x}" y="{y:.1f}" width="{w}" height="{w}"'
            ' viewBox="{} {} {p} {p}"><use href="#{}"/></svg>'
            '<rect class="frame {}" x="{x}" y="{y:.1f}" width="{w}" height="{w}" rx="2"'
            ' stroke-width="1.5"/>'
        ).format(column * p, row * p, picture, own, x=x, y=token.y, w=TILE, p=p)
    words = "whole picture" if token.sense == "image" else way.pieces[token.place]
    shown = words if len(words) <= 15 else f"{words[:14]}…"
    width = 14 + 7.2 * len(shown)
    return Markup(
        '<rect class="chip {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="9"/>'
        '<text class="word" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
    ).format(
        own, TOKENS - width, token.y, width, CHIP, TOKENS - width / 2, token.y + 14.5, shown
    )  # fmt: skip


def _box(expert: int, top: float, layer: LayerRoutes, way: Pathway) -> Markup:
    mine = [route for route in layer.routes if route.expert == expert]
    return Markup(
        '<rect class="expert {}" x="{}" y="{:.1f}" width="{}" height="{}" rx="7"/>'
        '<text class="name" x="{}" y="{:.1f}">Expert {}</text>'
        '<text class="gets" x="{}" y="{:.1f}">{}</text>'
    ).format(
        colour(expert), EXPERTS, top, WIDTH - EXPERTS - 1, BOX,
        EXPERTS + 10, top + 16, expert, EXPERTS + 10, top + 30, _gets(mine, way),
    )  # fmt: skip


def _gets(routes: Sequence[Route], way: Pathway) -> str:
    """What came, counted: `5 squares, 1 word`."""
    parts = []
    for is_one, one in _kinds(way):
        many = sum(is_one(route) for route in routes)
        if many:
            one = "whole picture" if "whole" in one else one if many == 1 else f"{one}s"
            parts.append(one if one == "whole picture" else f"{many} {one}")
    # Both do not fit in full.
    return parts[0] if len(parts) == 1 else ", ".join(parts).replace("word piece", "word")


def _sleepers(layer: LayerRoutes, boxes: dict[int, float], order: Sequence[int]) -> Markup:
    asleep = [expert for expert in range(layer.experts) if expert not in set(order)]
    if not asleep:
        return Markup("")
    top = max([TOP - 4.0, *(boxes[e] + BOX for e in order)]) + 18
    parts = [Markup('<text class="gets" x="{}" y="{:.1f}">asleep</text>').format(EXPERTS, top)]
    for number, expert in enumerate(asleep):
        row, column = divmod(number, 5)
        x, y = EXPERTS + column * ASLEEP, top + 6 + row * ASLEEP
        parts.append(
            Markup(
                '<rect class="asleep" x="{:.1f}" y="{:.1f}" width="20" height="20" rx="5"/>'
                '<text class="asleep" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
            ).format(x, y, x + 10, y + 14.5, expert)
        )
    return Markup("").join(parts)


def _kinds(way: Pathway) -> tuple[tuple[Callable[[Route | Token], bool], str], ...]:
    """What tokens there are, told apart by a test, and what people call one."""
    return (
        (lambda t: t.sense == "image" and t.place >= 0, "square"),
        (lambda t: t.sense == "image" and t.place < 0, "token of the whole picture"),
        # A decoder's are bytes, or pieces.
        (lambda t: t.sense == "text", "token" if way.image is None else "word piece"),
    )


def _summary(tokens: Sequence[Token], layer: LayerRoutes, way: Pathway) -> str:
    """The drawing in words."""
    parts = []
    for is_one, one in _kinds(way):
        mine = [token for token in tokens if is_one(token)]
        if not mine:
            continue
        taken = sorted({r.expert for token in mine for r in token.routes})
        noun, verb = (one, "goes") if len(mine) == 1 else (f"{one}s", "go")
        where = _list(taken) if taken else "no expert"
        kind = "" if not taken else "expert " if len(taken) == 1 else "experts "
        many = "the" if "whole" in one else str(len(mine))
        parts.append(f"{many} {noun} {verb} to {kind}{where}")
    asleep = layer.experts - len(layer.awake)
    verb = "sleeps" if asleep == 1 else "sleep"
    sleep = f"; {asleep} of {layer.experts} experts {verb}" if asleep else "; no expert sleeps"
    return "; ".join(parts) + sleep + "."


def _list(numbers: Sequence[int]) -> str:
    words = [str(n) for n in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
