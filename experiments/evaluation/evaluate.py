"""Evaluates a run: `results.json` and `predictions.json` in its folder, and tables.

Everything here is dropless and masked: no capacity limit, no router noise, no padding row
counted. The one exception is on purpose and lives in `routing_stats.py`, which measures
what the capacity of *training* would drop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ...datasets import DataConfig, Examples, evaluation_batches, load_data
from ..files import write_bytes, write_json
from ..run_folder import RunFolder
from .protocol import VALIDATION_ARTIST, DemoData, evaluate_model
from .routing_stats import measure_routing, paired_batches
from .table import retrieval_table, routing_table, score_table
from .text import Templates, load_templates

if TYPE_CHECKING:
    from ..library import Run

# Images embedded at a time; bounds memory and changes nothing else.
BATCH = 256


def demo_data(examples: Examples, config: DataConfig, image_size: int) -> DemoData:
    """The protocol's view of `emoji_art`.

    Args:
        examples: the data set.
        config: names it, and its tokenizer.
        image_size: S.
    """

    def drawings(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = examples.rows(split)
        return examples.images(rows), examples.concept[rows]

    def batches(artist: str) -> Iterator[dict[str, np.ndarray]]:
        split = "validation" if artist == VALIDATION_ARTIST else "test"
        return evaluation_batches(config, split, BATCH, image_size, artist=artist)

    return DemoData(examples.concepts, batches, drawings("train"), drawings("held_out"))


def evaluate_loaded(run: Run, templates: Templates) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of `results.json` and `predictions.json` for a loaded run."""
    data, size = emoji_art(run.config.data), run.config.model.image_size
    examples = load_data(data, size)
    results, predicted = evaluate_model(
        run.embed_images, run.embed_texts, demo_data(examples, data, size), templates
    )
    rows = examples.rows(artist=VALIDATION_ARTIST)
    batches = paired_batches(examples, rows, run.tokenizer, run.config)
    results["routing"] = measure_routing(run.config, run.params, batches)
    head = {"format": 1, "run": run.folder.name, "step": run.step, "dropless": True}
    return {**head, **results}, {"format": 1, "step": run.step, **predicted}


def emoji_art(config: DataConfig) -> DataConfig:
    """Where a run's `emoji_art` is: where it was trained on, if it was; else what ships."""
    trained = config.name in ("emoji_art", "emoji_scenes")
    return DataConfig(data_dir=config.data_dir if trained else None)


def evaluate_run(
    folder: Path | str, templates: str = "label", console: Console | None = None
) -> dict[str, Any]:
    """Evaluates a run and writes `results.json` and `predictions.json` into its folder.

    Args:
        folder: the run folder; its newest whole checkpoint is taken.
        templates: name of a template set.
        console: where the tables go; None is standard output.

    Returns:
        What `results.json` holds.

    Raises:
        RunError, CheckpointError: as `load`.
        RecordError: the shipped drawings are missing or corrupt.
        KeyError: no such template set.
    """
    from ..library import load

    chosen = load_templates(templates)
    run = load(folder)
    results, predicted = evaluate_loaded(run, chosen)
    place = RunFolder(folder)
    # Predictions first: who finds results also finds the predictions that belong to them.
    write_bytes(place.path / "predictions.json", compact_json(predicted))
    write_json(place.results_file, results)
    console = console or Console()
    console.print(score_table(results))
    console.print(retrieval_table(results))
    if results["routing"]["layers"]:
        console.print(routing_table(results["routing"]))
    return results


def compact_json(value: Any) -> bytes:
    """One line of JSON, for files that no person reads."""
    return (json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
