"""Who goes to which expert: the bars of the routing section, from `results.json`."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..config import Experiment
from .blocks import layer_title


@dataclasses.dataclass(frozen=True)
class ExpertShare:
    """What one expert gets.

    Attributes:
        number: the expert's, from 0.
        load: its share of all tokens.
        over_even: the same over the even share 1/E.
        raw: of its tokens, the part of each modality.
        fair: the same as if there were as many tokens of each modality.
        kind: what it mostly takes, in words.
    """

    number: int
    load: float
    over_even: float
    raw: tuple[float, ...]
    fair: tuple[float, ...]
    kind: str


@dataclasses.dataclass(frozen=True)
class LayerLoads:
    """One sparse layer.

    Attributes:
        title: such as `Layer 2 of 4`.
        success: modality and share of its tokens that an expert had room for.
        random: the same of a router that draws lots.
        room: slots in training for each pair that comes; None is for all.
        dead: experts under a tenth of the even share.
        busiest: the largest load over the even share.
        scale: the longest bar's load, a share of all tokens.
        even: 1/E, as a share of `scale`.
        experts: from the most visual to the most verbal; of one modality, in their order.
    """

    title: str
    success: tuple[tuple[str, float], ...]
    random: float | None
    room: float | None
    dead: tuple[int, ...]
    busiest: float
    scale: float
    even: float
    experts: tuple[ExpertShare, ...]


def layer_loads(results: dict[str, Any], config: Experiment) -> tuple[LayerLoads, ...]:
    """The routing part of the results, ready to draw; empty for a dense model.

    Args:
        results: the contents of `results.json`.
        config: of the run.
    """
    routing = results.get("routing") or {}
    return tuple(
        _layer(layer_title(name, config), entry)
        for name, entry in routing.get("layers", {}).items()
    )


def _layer(title: str, entry: dict[str, Any]) -> LayerLoads:
    load = [float(x) for x in entry["load"]]
    modalities = list(entry["modalities"])
    raw = [[float(x) for x in entry["modalities"][m]["share"]] for m in modalities]
    # Tokens of a modality at an expert, as a share of all tokens of the layer.
    mass = [[share * weight for share, weight in zip(row, load, strict=True)] for row in raw]
    each = [[x / (sum(row) or 1.0) for x in row] for row in mass]
    experts = []
    for number, weight in enumerate(load):
        total = sum(row[number] for row in each) or 1.0
        fair = tuple(row[number] / total for row in each)
        experts.append(
            ExpertShare(
                number, weight, weight * len(load), tuple(row[number] for row in raw), fair,
                _kind(modalities, fair, weight),
            )
        )  # fmt: skip
    even = 1 / len(load)
    scale = max(*load, even) if load else even
    alone = len(modalities) == 1
    return LayerLoads(
        title,
        tuple((m, float(entry["modalities"][m]["success"])) for m in modalities),
        entry.get("success_random"),
        entry.get("capacity_over_real_tokens") if entry.get("capacity_factor") else None,
        tuple(entry["dead_experts"]),
        float(entry["max_load"]),
        scale,
        even / scale,
        tuple(sorted(experts, key=lambda e: (0 if alone else -e.fair[0], e.number))),
    )


def _kind(modalities: list[str], fair: tuple[float, ...], load: float) -> str:
    if load == 0:
        return "idle"
    if len(modalities) == 1:
        return ""
    most = max(range(len(fair)), key=fair.__getitem__)
    return modalities[most] if fair[most] >= 0.8 else "both"
