"""A result file as tables that fit a terminal of 80 columns: scores beside their baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

_SHARES = {
    "all": "all",
    "seen": "seen",
    "held_out": "held out",
    "held_out_among_held_out": "held out*",
}


def empty_table(title: str, columns: Sequence[str], words: int, caption: str = "") -> Table:
    """An empty table whose first `words` columns are text and the rest numbers."""
    table = Table(
        title=title,
        caption=caption or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for number, name in enumerate(columns):
        table.add_column(
            name,
            justify="left" if number < words else "right",
            style="bold" if name == "run" else None,
            no_wrap=True,
        )
    return table


def _percent(entry: dict[str, Any] | None, keys: tuple[str, ...]) -> str:
    if entry is None:
        return "–"
    return "/".join(f"{100 * entry[key]:.1f}" for key in keys)


def _twin(results: dict[str, Any]) -> dict[str, Any]:
    return results["baselines"].get("dense_twin", {}).get("scores", {})


def _names(results: dict[str, Any], share: str) -> int:
    artists = results["baselines"]["pixel_nearest_neighbour"]
    return max(results[a].get(share, {}).get("candidates", 0) for a in artists)


def score_table(results: dict[str, Any]) -> Table:
    """Zero-shot @1/@5 in per cent, one row an artist and share of the images.

    Args:
        results: the contents of `results.json`.
    """
    baselines = results["baselines"]
    columns = {
        "run": results,
        "dense": _twin(results),
        "pixels": baselines["pixel_nearest_neighbour"],
        "pixels+": baselines["pixel_nearest_neighbour_with_held_out"],
        "chance": baselines["chance"],
    }
    columns = {name: scores for name, scores in columns.items() if scores}
    artists = list(baselines["pixel_nearest_neighbour"])
    twin = baselines.get("dense_twin", {}).get("preset")
    table = empty_table(
        "Zero-shot, top-1/top-5, per cent",
        ("artist", "images", "n", *columns),
        2,
        f"Ranked among {_names(results, 'all')} names; held out*: among the "
        f"{_names(results, 'held_out_among_held_out')} held-out names only.\n"
        "pixels: nearest training drawing; pixels+: held-out ones shown too."
        # It is LIMoE's, whatever is scored.
        + (f"\ndense: a finished run of {twin}." if twin else ""),
    )
    for artist in artists:
        for number, (share, entry) in enumerate(results[artist].items()):
            cells = [
                _percent(scores.get(artist, {}).get(share), ("top1", "top5"))
                for scores in columns.values()
            ]
            table.add_row(
                "" if number else artist,
                _SHARES[share],
                str(entry["n"]),
                *cells,
                end_section=number == len(results[artist]) - 1,
            )
    return table


def retrieval_table(results: dict[str, Any]) -> Table:
    """Recall at 1/5/10 in per cent, both ways, one row an artist and way."""
    columns = {
        "run": results["retrieval"],
        "dense": _twin(results).get("retrieval"),
        "chance": results["baselines"]["chance"]["retrieval"],
    }
    columns = {name: scores for name, scores in columns.items() if scores}
    table = empty_table(
        "Retrieval, R@1/R@5/R@10, per cent", ("artist", "way", "among", *columns), 2
    )
    for artist, ways in results["retrieval"].items():
        for number, (way, entry) in enumerate(ways.items()):
            cells = [
                _percent(scores.get(artist, {}).get(way), ("r1", "r5", "r10"))
                for scores in columns.values()
            ]
            table.add_row(
                "" if number else artist,
                way.replace("_to_", "→"),
                str(entry["candidates"]),
                *cells,
            )
    return table


def routing_table(routing: dict[str, Any]) -> Table:
    """Success, use and entropies (nats) per sparse layer and modality.

    Args:
        routing: the `routing` part of `results.json`.
    """
    capacity = "each layer's own"
    if "capacity_over_real_tokens" in routing:
        nominal, real = routing.get("capacity_factor"), routing["capacity_over_real_tokens"]
        capacity = "dropless" if nominal is None else f"{nominal:g}; {real:.2f} slots a pair"
    table = empty_table(
        f"Routing at the training capacity ({capacity})",
        ("layer", "tokens", "success %", "random %", "local H", "global H", "dead"),
        2,
        "success: tokens with a slot; random: the same, random router; H: nats.",
    )
    for layer, entry in routing["layers"].items():
        for number, (modality, part) in enumerate(entry["modalities"].items()):
            table.add_row(
                "" if number else layer,
                modality,
                f"{100 * part['success']:.1f}",
                f"{100 * entry['success_random']:.1f}",
                f"{part['local_entropy']:.2f}",
                f"{part['global_entropy']:.2f}",
                "" if number else str(len(entry["dead_experts"])),
            )
    return table


def settings_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Accuracy in per cent, one row a K and capacity factor.

    Args:
        rows: `SettingScore.as_dict` of each; with `batch_priority`, a word about who is served.
    """
    ordered = any("batch_priority" in row for row in rows)
    names = ("K", "capacity", *(["served first"] if ordered else []), "top 1", "top 5")
    table = empty_table("Other K and capacity at evaluation", names, 0)
    for row in rows:
        factor = row["capacity_factor"]
        capacity = "dropless" if factor is None else f"{factor:g}"
        scores = (f"{100 * row[key]:.2f}" for key in ("top1", "top5"))
        first = {True: "the surest", False: "in order", None: "all"}[row.get("batch_priority")]
        table.add_row(str(row["selected"]), capacity, *([first] if ordered else []), *scores)
    return table


def few_shot_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Few-shot accuracy in per cent, one row a number of shots, and the range over seeds.

    Args:
        rows: `FewShotRow.as_dict` of each.
    """
    words = "λ chosen on: " + ", ".join(sorted({row["chosen_on"] for row in rows}))
    if any(row["chosen_on"] == "test" for row in rows):
        words += " (has seen the answers)"
    table = empty_table("Few-shot ridge regression", ("shots", "λ", "top 1", "seeds"), 0, words)
    for row in rows:
        power = f"2^{math.log2(row['lambda']):g}"
        seeds = f"{100 * min(row['of_seed']):.2f}–{100 * max(row['of_seed']):.2f}"
        table.add_row(str(row["shots"]), power, f"{100 * row['accuracy']:.2f}", seeds)
    return table
