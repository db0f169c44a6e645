"""Results of classifiers and decoders as tables, scores beside their baselines."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from ..continuation import printable
from .table import empty_table, settings_table

# Classes that a terminal shows, the worst first.
_CLASSES = 12
BASELINES = {
    "chance": "chance",
    "nearest_mean": "nearest class mean",
    "uniform": "uniform",
    "unigram": "unigram",
    "bigram": "bigram",
}
_SPLITS = {"validation": "valid.", "held_out": "held out"}


def class_tables(results: dict[str, Any]) -> list[Table]:
    """Accuracy beside its baselines, the hardest classes, and other settings where there are any.

    Args:
        results: the contents of `results.json` of a classification run.
    """
    scores = results["scores"]
    table = empty_table(
        "Classification, per cent",
        ("", "top 1", "top 5"),
        1,
        f"{scores['count']:,} {results['split']} images;\n"
        f"mean of classes {100 * scores['mean_of_classes']:.2f};\ncalibration error "
        f"{100 * scores['calibration_error']:.2f}",
    )
    rows = {"run": scores, **{BASELINES[k]: v for k, v in results["baselines"].items()}}
    for name, entry in rows.items():
        table.add_row(name, *(f"{100 * entry[key]:.2f}" for key in ("top1", "top5")))
    found = [table, _hardest(results)]
    if results["settings"]:
        found.append(settings_table(results["settings"]))
    return found


def _hardest(results: dict[str, Any]) -> Table:
    names = results["classes"]
    wrong: dict[int, tuple[int, int]] = {}
    for true, predicted, many in results["confusion"]:
        if true != predicted and many > wrong.get(true, (0, 0))[0]:
            wrong[true] = (many, predicted)
    order = [c for c, value in enumerate(results["of_class"]) if value is not None]
    order.sort(key=lambda c: results["of_class"][c])
    table = empty_table(
        "Classes, the hardest first", ("class", "taken most often for", "images", "right"), 2
    )
    for c in order[:_CLASSES]:
        many, taken = wrong.get(c, (0, c))
        other = f"{names[taken]} ({many})" if many else "–"
        right = f"{100 * results['of_class'][c]:.1f}"
        table.add_row(names[c], other, str(results["count_of_class"][c]), right)
    return table


def language_tables(results: dict[str, Any]) -> list[Table]:
    """Entropies beside their baselines, and samples.

    Args:
        results: the contents of `results.json` of a language run.
    """
    splits = [name for name in _SPLITS if name in results]
    columns = [f"{_SPLITS[name]} {unit}" for name in splits for unit in ("nats", "bits")]
    table = empty_table(
        "Captions never trained on", ("", *columns), 1, "nats a token; bits a byte of text"
    )
    rows = {"run": results, **{BASELINES[k]: v for k, v in results["baselines"].items()}}
    for name, part in rows.items():
        cells = [f"{part[s][key]:.3f}" for s in splits for key in ("entropy", "bits_per_byte")]
        table.add_row(name, *cells)
    samples = results["samples"]
    how = f"temperature {samples['temperature']:g}, of the {samples['top_k']} likeliest"
    shown = empty_table("Samples", ("begun with", "goes on"), 2, samples.get("why_none", how))
    for sample in samples["texts"]:
        prompt, text = sample["prompt"], sample["text"]
        rest = text[len(prompt) :] if text.startswith(prompt) else text
        shown.add_row(escape(printable(prompt)) or "–", escape(printable(rest)[:60]))
    return [table, shown]
