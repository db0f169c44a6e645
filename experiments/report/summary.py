"""The head of the page: what this model is, in words and in settings."""

from __future__ import annotations

import json
from typing import Any

from ..config_files import to_dict
from ..parameter_counts import count_parameters, short
from .charts import number
from .records import Records

_DATA = {
    "emoji_art": "emoji drawn by six artists, each with a few words",
    "emoji_scenes": "small scenes composed of emoji, each with a sentence",
}


def percent(value: float | int) -> str:
    """A fraction in per cent; small ones keep two figures.

    Examples:
        >>> [percent(v) for v in (0.412, 0.0012, 1.0, 0.0)]
        ['41.2 %', '0.12 %', '100 %', '0 %']
    """
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    return f"{100 * value:.2f} %" if value < 0.01 else f"{100 * value:.1f} %"


def sentences(records: Records) -> list[str]:
    """What the model is, what it learnt from, and how well it names what it never saw."""
    model = records.config.model
    moe = model.moe
    if records.dense:
        what = (
            f"This is an ordinary dense model: one Transformer of {model.depth} layers that reads "
            "pictures and words alike."
        )
    elif not records.routed:
        what = (
            f"This is a soft mixture of experts: one Transformer of {model.depth} layers that "
            f"reads pictures and words alike. In {len(model.moe_layers)} of the layers, "
            f"{moe.num_experts} small expert networks each work on mixtures of all tokens."
        )
    else:
        each = "one" if moe.selected == 1 else str(moe.selected)
        what = (
            f"This is a sparse model: one Transformer of {model.depth} layers that reads pictures "
            f"and words alike. In {len(model.moe_layers)} of the layers, {moe.num_experts} small "
            f"expert networks share the work, and each token passes through {each} of them."
        )
    data = _DATA.get(records.config.data.name, f"the data set “{records.config.data.name}”")
    text = [what, f"It learnt from {data}."]
    entry = (records.results or {}).get("noto", {}).get("all")
    if entry:
        # Only one way for names to be known: the pictures' artist was left out of training.
        text.append(
            "Asked to name drawings by Noto, an artist it had never seen, out of "
            f"{entry['candidates']} names, it put the right one first {percent(entry['top1'])} of "
            f"the time and among its first five {percent(entry['top5'])} of the time."
        )
    return text


def headline(records: Records) -> list[dict[str, str]]:
    """The numbers in the page's head: each with what it is and what it has to beat."""
    results = records.results or {}
    noto = results.get("noto", {})
    chance = results.get("baselines", {}).get("chance", {}).get("noto", {})
    tiles = []
    for share, words in (("all", "Noto, all drawings"), ("held_out", "Noto, held-out things")):
        entry = noto.get(share)
        if entry:
            guess = percent(chance[share]["top1"]) if share in chance else "–"
            tiles.append(
                {
                    "value": percent(entry["top1"]),
                    "name": f"{words}: right at once",
                    "note": f"{percent(entry['top5'])} in the first five; chance {guess}",
                }
            )
    layers = (results.get("routing") or {}).get("layers", {})
    if layers:
        served = [(p["success"], e) for e in layers.values() for p in e["modalities"].values()]
        worst, entry = min(served, key=lambda item: item[0])
        tiles.append(
            {
                "value": percent(worst),
                "name": "of tokens find room, where it is tightest",
                "note": f"a random router: {percent(entry['success_random'])}",
            }
        )
        dead = sum(len(entry["dead_experts"]) for entry in layers.values())
        total = sum(len(entry["load"]) for entry in layers.values())
        tiles.append(
            {
                "value": f"{total - dead} of {total}",
                "name": "experts in use",
                "note": "none is dead" if not dead else f"{dead} get almost nothing",
            }
        )
    return tiles


def settings(records: Records) -> list[tuple[str, str]]:
    """Names and values of what a reader asks first."""
    c, model, moe = records.config, records.config.model, records.config.model.moe
    total, awake = count_parameters(model)
    start = records.start
    seconds = sum((line["times"].get("seconds") or 0.0 for line in records.lines), 0.0)
    rows = [
        ("Preset", records.preset or "–"),
        ("Date", str(start.get("time", "–")).replace("T", " ").replace("+00:00", " UTC")),
        ("Steps", f"{number(records.step)} of {number(c.steps)}, {c.batch_size} pairs each"),
        ("Time logged", _minutes(seconds)),
        ("Seed", str(c.seed)),
        ("Parameters", f"{short(total)}, of which {short(awake)} work for any one token"),
        ("Width, layers, heads", f"{model.width}, {model.depth}, {model.heads}"),
        ("Picture, patch", f"{model.image_size} px, {model.patch_size} px"),
    ]
    if records.routed:
        capacity = "dropless"
        if moe.capacity_factor is not None:
            capacity = f"capacity {moe.capacity_factor:g} times the even share"
        rows.append(
            (
                "Experts",
                f"{moe.num_experts} in each sparse layer, {moe.selected} per token, {capacity}",
            )
        )
    rows.append(("Data", c.data.name))
    rows.append(("Optimiser", f"{c.optimizer.name}, peak rate {c.optimizer.lr:g}"))
    rows.append(("Devices", ", ".join(start.get("devices", [])) or "–"))
    return rows


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
