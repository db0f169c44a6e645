"""The head of the page: what this model is, in words and in settings."""

from __future__ import annotations

import json
from typing import Any

from ...models import MoeConfig, PalmConfig, TwoTowerConfig
from ..config import ClassificationConfig, Experiment, LanguageConfig
from ..config_files import to_dict
from ..parameter_counts import count_parameters, short
from .blocks import routers
from .charts import number
from .records import Records


def percent(value: float | int) -> str:
    """A fraction in per cent; small ones keep two figures.

    Examples:
        >>> [percent(v) for v in (0.412, 0.0012, 1.0, 0.0)]
        ['41.2 %', '0.12 %', '100 %', '0 %']
    """
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    return f"{100 * value:.2f} %" if value < 0.01 else f"{100 * value:.1f} %"


def sparse_words(blocks: dict[str, MoeConfig], where: str = "the layers") -> str:
    """What the mixtures of a model do; empty of a dense one.

    Args:
        blocks: the routing of its sparse blocks, all alike.
        where: which layers they are some of.
    """
    if not blocks:
        return ""
    moe = next(iter(blocks.values()))
    start = f" In {len(blocks)} of {where}, {moe.num_experts} small expert networks"
    if moe.router == "soft":
        return f"{start} each work on mixtures of all tokens."
    if moe.router == "expert_choice":
        return f"{start} share the work, and each takes the tokens that suit it best."
    each = "one" if moe.selected == 1 else str(moe.selected)
    return f"{start} share the work, and each token passes through {each} of them."


def density(records: Records) -> str:
    """What kind of model it is, in words with their article."""
    if records.dense:
        return "an ordinary dense model"
    return "a sparse model" if records.routed else "a soft mixture of experts"


def routing_tiles(results: dict[str, Any]) -> list[dict[str, str]]:
    """Whether the routers are well, as tiles of the head."""
    layers = (results.get("routing") or {}).get("layers", {})
    if not layers:
        return []
    served = [(p["success"], e) for e in layers.values() for p in e["modalities"].values()]
    worst, entry = min(served, key=lambda item: item[0])
    dead = sum(len(entry["dead_experts"]) for entry in layers.values())
    total = sum(len(entry["load"]) for entry in layers.values())
    return [
        {
            "value": percent(worst),
            "name": "of tokens find room, where it is tightest",
            "note": f"a random router: {percent(entry['success_random'])}",
        },
        {
            "value": f"{total - dead} of {total}",
            "name": "experts in use",
            "note": "none is dead" if not dead else f"{dead} get almost nothing",
        },
    ]


def settings(records: Records) -> list[tuple[str, str]]:
    """Names and values of what a reader asks first."""
    c, model = records.config, records.config.model
    total, awake = count_parameters(model)
    start = records.start
    seconds = sum((line["times"].get("seconds") or 0.0 for line in records.lines), 0.0)
    rows = [
        ("Preset", records.preset or "–"),
        ("Date", str(start.get("time", "–")).replace("T", " ").replace("+00:00", " UTC")),
        ("Steps", f"{number(records.step)} of {number(c.steps)}, {c.batch_size} {_unit(c)} each"),
        ("Time logged", _minutes(seconds)),
        ("Seed", str(c.seed)),
        ("Parameters", f"{short(total)}, of which {short(awake)} work for any one token"),
    ]
    towers = [("", model)]
    if isinstance(model, TwoTowerConfig):
        towers = [("Pictures: ", model.image), ("Words: ", model.text)]
    for name, part in towers:
        key = f"{name}width, layers, heads"
        value = f"{part.width}, {part.depth}, {part.heads}"
        rows.append((key[0].upper() + key[1:], value))
    if isinstance(model, PalmConfig):
        rows.append(("Vocabulary, length", f"{number(model.vocab_size)}, {model.max_length}"))
    else:
        rows.append(("Picture, patch", f"{model.image_size} px, {model.patch_size} px"))
    seen = []
    for moe in routers(c).values():
        if moe.router == "soft" or moe in seen:
            continue
        seen.append(moe)
        capacity = "dropless"
        if moe.capacity_factor is not None:
            capacity = f"capacity {moe.capacity_factor:g} times the even share"
        value = f"{moe.num_experts} in each sparse layer, {moe.selected} per token, {capacity}"
        rows.append(("Experts", value))
    rows.append(("Data", c.data.name))
    rows.append(("Optimiser", f"{c.optimizer.name}, peak rate {c.optimizer.lr:g}"))
    rows.append(("Devices", ", ".join(start.get("devices", [])) or "–"))
    if c.init:
        rows.append(("Began with", ", ".join(c.init)))
    if c.freeze:
        rows.append(("Frozen", ", ".join(c.freeze)))
    return rows


def _unit(config: Experiment) -> str:
    if isinstance(config, ClassificationConfig):
        return "pictures"
    return "rows of text" if isinstance(config, LanguageConfig) else "pairs"


def versions(records: Records) -> list[tuple[str, str]]:
    """What made the run, for who wants to make it again."""
    start = records.start
    found = [(str(k), str(v)) for k, v in start.get("versions", {}).items()]
    commit = (start.get("git") or {}).get("commit")
    if commit:
        changed = ", changed" if start["git"].get("dirty") else ""
        found.append(("source", f"{commit[:12]}{changed}"))
    command = start.get("command")
    if command:
        # Only the command's name: where it is installed is nobody's business.
        words = [str(command[0]).rpartition("/")[2], *map(str, command[1:])]
        found.append(("command", " ".join(words)))
    return found


def config_text(records: Records) -> str:
    """The whole config, as `byways config show` prints it."""
    return json.dumps(to_dict(records.config), indent=1, ensure_ascii=False)


def state(records: Records) -> list[str]:
    """What is not as it should be: unfinished, not evaluated, evaluated at another step."""
    run: Any = records.path
    found = []
    if not records.finished:
        found.append(
            f"Training has not reached its end: the last line is of step {number(records.step)} of "
            f"{number(records.config.steps)}."
        )
    if records.results is None:
        found.append(f"There are no scores yet. Run: byways evaluate {run}")
    elif records.finished and records.results.get("step") != records.config.steps:
        found.append(
            f"The scores are of step {records.results.get('step')}, not of the last. Run: "
            f"byways evaluate {run}"
        )
    return [*found, *records.notes]


def _minutes(seconds: float) -> str:
    if not seconds:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
