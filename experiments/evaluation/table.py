"""A result file as a table on the terminal: every score beside its baselines."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_SHARES = {
    "all": "all concepts",
    "seen": "seen concepts",
    "held_out": "held-out concepts",
    "held_out_among_held_out": "held-out, ranked among themselves",
}


def _percent(entry: dict[str, Any] | None, keys: tuple[str, ...]) -> str:
    if entry is None:
        return "–"
    return " / ".join(f"{100 * entry[key]:.1f}" for key in keys)


def score_table(results: dict[str, Any]) -> Table:
    """Zero-shot @1 / @5 in per cent, one row an artist and share.

    Args:
        results: the contents of `results.json`.
    """
    baselines = results["baselines"]
    columns = [
        ("run", results),
        ("dense twin", baselines.get("dense_twin", {}).get("scores")),
        ("pixel matcher", baselines["pixel_nearest_neighbour"]),
        (
            "pixel matcher shown\nheld-out drawings",
            baselines["pixel_nearest_neighbour_with_held_out"],
        ),
        ("chance", baselines["chance"]),
    ]
    columns = [(name, scores) for name, scores in columns if scores]
    table = Table(title="Zero-shot, top-1 / top-5, per cent", title_justify="left")
    table.add_column("artist")
    table.add_column("images of")
    table.add_column("n", justify="right")
    table.add_column("names", justify="right")
    for name, _ in columns:
        table.add_column(name, justify="right", style="bold" if name == "run" else None)
    for artist in baselines["pixel_nearest_neighbour"]:
        for share, entry in results[artist].items():
            cells = [
                _percent(scores.get(artist, {}).get(share), ("top1", "top5"))
                for _, scores in columns
            ]
            row = (artist, _SHARES[share], str(entry["n"]), str(entry["candidates"]))
            table.add_row(*row, *cells, end_section=share == list(results[artist])[-1])
    return table


def retrieval_table(results: dict[str, Any]) -> Table:
    """Recall at 1 / 5 / 10 in per cent, both ways, one row an artist and way."""
    twin = results["baselines"].get("dense_twin", {}).get("scores", {}).get("retrieval")
    chance = results["baselines"]["chance"]["retrieval"]
    table = Table(title="Retrieval, R@1 / R@5 / R@10, per cent", title_justify="left")
    for name in ("artist", "way"):
        table.add_column(name)
    for name in ("n", "candidates", "run", *(("dense twin",) if twin else ()), "chance"):
        table.add_column(name, justify="right", style="bold" if name == "run" else None)
    keys = ("r1", "r5", "r10")
    for artist, ways in results["retrieval"].items():
        for way, entry in ways.items():
            row = [artist, way.replace("_", " "), str(entry["n"]), str(entry["candidates"])]
            row.append(_percent(entry, keys))
            if twin:
                row.append(_percent(twin.get(artist, {}).get(way), keys))
            table.add_row(*row, _percent(chance[artist][way], keys))
    return table


def routing_table(routing: dict[str, Any]) -> Table:
    """Success, use and entropies (nats) per sparse layer and modality.

    Args:
        routing: the `routing` part of `results.json`.
    """
    table = Table(
        title=f"Routing at the training capacity (C = {routing['capacity_factor']:g})",
        title_justify="left",
    )
    table.add_column("layer")
    table.add_column("tokens")
    for name in (
        "success, %", "random router, %", "local entropy", "global entropy", "dead experts",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for layer, entry in routing["layers"].items():
        for modality, part in entry["modalities"].items():
            table.add_row(
                layer,
                modality,
                f"{100 * part['success']:.1f}",
                f"{100 * entry['success_random']:.1f}",
                f"{part['local_entropy']:.2f}",
                f"{part['global_entropy']:.2f}",
                str(len(entry["dead_experts"])),
            )
    return table
