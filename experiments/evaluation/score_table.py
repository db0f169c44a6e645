"""The results of `byways score` as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from .table import empty_table, few_shot_table


def result_tables(result: dict[str, Any]) -> list[Table]:
    """What `byways score` prints.

    Args:
        result: of any task.
    """
    task = result["task"]
    if task == "few-shot":
        return [few_shot_table(result["rows"])]
    if task == "linear-probe":
        return [_probe(result)]
    return [_retrieval(result) if task == "retrieval" else _zero_shot(result)]


def _zero_shot(result: dict[str, Any]) -> Table:
    scores, templates = result["scores"], result["templates"]
    words = (
        f"protocol {_protocol(result)}\n{len(templates['templates'])} templates of "
        f"{templates['name']}; prompts {result['prompts_sha256'][:12]}"
    )
    words += _part(result["data"])
    title = f"Zero-shot on {_data(result)}: {scores['n']} images, {scores['candidates']} classes"
    table = empty_table(title, ("score", "model", "chance"), 1, words)
    names = {
        "top1": "top 1",
        "top5": "top 5",
        "mean_of_classes": "mean of the classes",
        "mean_average_precision": "mean average precision",
    }
    for key, name in names.items():
        if key in scores:
            chance = result["chance"].get(key)
            table.add_row(name, _percent(scores[key]), "" if chance is None else _percent(chance))
    return table


def _retrieval(result: dict[str, Any]) -> Table:
    words = (
        f"protocol {_protocol(result)}\n{result['images']} images, {result['texts']} texts; "
        f"captions {result['captions_sha256'][:12]}"
    )
    words += _part(result["data"])
    title = f"Retrieval on {_data(result)}, R@1/5/10 in %"
    table = empty_table(title, ("way", "among", "model", "chance"), 1, words)
    for way, scores in result["scores"].items():
        keys = [key for key in ("r1", "r5", "r10") if key in scores]
        model, chance = (
            "/".join(_percent(one[key]) for key in keys) for one in (scores, result["chance"][way])
        )
        table.add_row(way.replace("_to_", "→"), str(scores["candidates"]), model, chance)
    return table


def _probe(result: dict[str, Any]) -> Table:
    scores = result["scores"]
    words = (
        f"λ {result['lambda']:g}, chosen on {result['chosen_on']}; {result['train_images']} "
        f"training images{'; λ is at the edge of the grid' if result['at_edge'] else ''}"
    )
    table = empty_table(f"Linear probe on {_data(result)}", ("score", "per cent"), 1, words)
    for key, name in {"top1": "test, top 1", "top5": "test, top 5"}.items():
        if key in scores:
            table.add_row(name, _percent(scores[key]))
    table.add_row("training, top 1", _percent(result["train_top1"]))
    return table


def _protocol(result: dict[str, Any]) -> str:
    rules = result["protocol"]
    name, rest = rules["name"], {key: value for key, value in rules.items() if key != "name"}
    if result["task"] == "retrieval":
        del rest["names"]
    else:
        del rest["equal_captions"]
    return f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {v}" for key, v in rest.items())


def _part(data: dict[str, Any]) -> str:
    """That it is a part of the split, where it is."""
    if data["rows_read"] == data["rows"]:
        return ""
    return f"\n{data['rows_read']} of {data['rows']} rows, drawn by seed 0"


def _data(result: dict[str, Any]) -> str:
    return f"{result['data']['name']} ({result['data']['split']})"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
