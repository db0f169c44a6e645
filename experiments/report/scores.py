"""The score table and its comparison bars, from `results.json`."""

from __future__ import annotations

import dataclasses
from typing import Any

# How people call the artists, by their names in the data.
ARTISTS = {
    "noto": "Noto",
    "noto-v1": "Noto, first version",
    "emojione-v1": "EmojiOne, first version",
}
_ROLES = {"emojione-v1": "validation: settings were chosen on it"}
_UNSEEN = "test: never seen in training"

_SHARES = {
    "all": "all drawings",
    "seen": "known things",
    "held_out": "held-out things",
    "held_out_among_held_out": "held-out, among themselves",
}
_COLUMNS = (
    ("this run", None),
    ("dense twin", "dense_twin"),
    ("pixel matcher", "pixel_nearest_neighbour"),
    ("pixels, shown all", "pixel_nearest_neighbour_with_held_out"),
    ("chance", "chance"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One share of the drawings, or one way of retrieval.

    Attributes:
        name: of the share.
        detail: how many were asked, among how many answers.
        cells: a column each: fractions at the table's k's, or None where there is no score.
    """

    name: str
    detail: str
    cells: tuple[tuple[float, ...] | None, ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """The rows of one artist."""

    artist: str
    role: str
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Scores:
    """A table: names of its columns, and its blocks of rows."""

    columns: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar of the comparison: its name, a fraction, and whether it is the run's own."""

    name: str
    value: float
    own: bool


def zero_shot(results: dict[str, Any]) -> Scores:
    """Top-1 and top-5 by artist and share, the run beside its baselines."""
    columns = _columns(results)
    blocks = []
    for artist in _artists(results):
        rows = tuple(
            Row(
                _called(_SHARES, share),
                f"{entry['n']} drawings, {entry['candidates']} names",
                tuple(_pair(part.get(artist, {}).get(share)) for _, part in columns),
            )
            for share, entry in results[artist].items()
        )
        blocks.append(Block(_called(ARTISTS, artist), _ROLES.get(artist, _UNSEEN), rows))
    return Scores(tuple(name for name, _ in columns), tuple(blocks))


def retrieval(results: dict[str, Any]) -> Scores:
    """Recall at 1, 5 and 10 both ways; the baselines that match pixels have none."""
    ways = {
        "image_to_text": "drawing → its words",
        "text_to_image": "words → the drawing",
    }
    columns = [
        (name, part["retrieval"]) for name, part in _columns(results) if part.get("retrieval")
    ]
    blocks = []
    for artist, entries in results.get("retrieval", {}).items():
        rows = tuple(
            Row(
                _called(ways, way),
                f"{entry['n']} asked, {entry['candidates']} to find in",
                tuple(_recall(part.get(artist, {}).get(way)) for _, part in columns),
            )
            for way, entry in entries.items()
        )
        blocks.append(Block(_called(ARTISTS, artist), _ROLES.get(artist, _UNSEEN), rows))
    return Scores(tuple(name for name, _ in columns), tuple(blocks))


def comparison(results: dict[str, Any], share: str, key: str = "top1") -> tuple[Bar, ...]:
    """The headline's bars: Noto's score of the run and of everything that it must beat."""
    bars = []
    for name, part in _columns(results):
        entry = part.get("noto", {}).get(share)
        # The matcher that was shown the held-out things answers another question.
        if entry is not None and name != "pixels, shown all":
            bars.append(Bar(name, float(entry[key]), name == "this run"))
    return tuple(bars)


def _called(names: dict[str, str], key: str) -> str:
    """What people call it; what has no such name keeps its own."""
    return names.get(key, key)


def _artists(results: dict[str, Any]) -> list[str]:
    return [name for name in ARTISTS if name in results]


def _columns(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    baselines = results.get("baselines", {})
    found = []
    for name, key in _COLUMNS:
        part = results if key is None else baselines.get(key)
        if key == "dense_twin" and part:
            part = part.get("scores")
        if part:
            found.append((name, part))
    return found


def _pair(entry: dict[str, Any] | None) -> tuple[float, ...] | None:
    return None if entry is None else (float(entry["top1"]), float(entry["top5"]))


def _recall(entry: dict[str, Any] | None) -> tuple[float, ...] | None:
    return None if entry is None else tuple(float(entry[k]) for k in ("r1", "r5", "r10"))
