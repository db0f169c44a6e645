"""What every expert of a trained LIMoE takes, as one picture: its surest patches and its words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from ..report.experts import ExpertTastes, LayerTastes
from ..report.pictures import Patch
from .figure import page, text

_SIDE, _GAP, _ROW, _MARGIN = 44, 6, 60, 14
_PATCHES, _LETTERS = 8, 42
_NAME = 150
_ALIKE = (
    "OpenMoji and EmojiOne 1.5.2 drawings are under a share-alike licence: pass pictures of them "
    "on under the same one, with this line."
)
WIDTH = _MARGIN + _NAME + _PATCHES * (_SIDE + _GAP) + 300


def experts_figure(title: str, layers: Sequence[LayerTastes], credit: str) -> bytes:
    """An SVG file that stands alone.

    Args:
        title: above all.
        layers: of `expert_tastes`.
        credit: whose drawings these are; it must stay with them.
    """
    rows, y = [], 52
    for layer in layers:
        rows.append(text("name", _MARGIN, y, layer.title))
        y += 10
        for expert in layer.experts:
            rows += _row(expert, y)
            y += _ROW
        y += 26
    for line in textwrap.wrap(credit, 150):
        rows.append(text("credit", _MARGIN, y, line))
        y += 13
    return page(title, WIDTH, y + 8, rows)


def draw_experts(folder: Path, title: str) -> bytes:
    """The picture of a run.

    Raises:
        RunError, CheckpointError, RecordError: the run or its data cannot be read.
    """
    from ...datasets import attribution, load_data
    from ..evaluation.evaluate import emoji_art
    from ..library import load
    from ..report.experts import expert_tastes

    run = load(folder)
    examples = load_data(emoji_art(run.config.data), run.config.model.image_size)
    return experts_figure(title, expert_tastes(run, examples), f"{attribution()} {_ALIKE}")


def _row(expert: ExpertTastes, y: int) -> list[Markup]:
    rows = [text("words", _MARGIN, y + 18, f"expert {expert.number}")]
    shares = [
        f"{100 * share:.0f} % of {what}"
        for share, what in ((expert.image_share, "patches"), (expert.text_share, "words"))
        if share is not None
    ]
    rows += [text("small", _MARGIN, y + 33 + 13 * n, words) for n, words in enumerate(shares)]
    for place, patch in enumerate(expert.patches[:_PATCHES]):
        rows.append(_patch(patch, _MARGIN + _NAME + place * (_SIDE + _GAP), y))
    left = _MARGIN + _NAME + _PATCHES * (_SIDE + _GAP) + 8
    rows.append(text("words", left, y + 28, _words(expert)))
    return rows


def _words(expert: ExpertTastes) -> str:
    """As many as there is room for."""
    found = ""
    for piece in expert.pieces:
        longer = f"{found} · {piece.text}" if found else piece.text
        if len(longer) > _LETTERS:
            break
        found = longer
    return found or "(no words)"


def _patch(patch: Patch, x: int, y: int) -> Markup:
    size = _SIDE * patch.size / 100
    return Markup(
        '<image x="{0}" y="{1}" width="{2}" height="{2}" href="{3}"><title>{7}</title></image>'
        '<rect class="mark" x="{4:.1f}" y="{5:.1f}" width="{6:.1f}" height="{6:.1f}"/>'
    ).format(
        x, y, _SIDE, patch.source, x + _SIDE * patch.left / 100, y + _SIDE * patch.top / 100, size,
        patch.label,
    )  # fmt: skip
