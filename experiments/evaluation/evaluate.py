"""Evaluates a run of any kind: `results.json` and `predictions.json` in its folder, and tables.

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
from ..config import ClassificationConfig, ContrastiveConfig, Execution, kind_of
from ..execution import check_forward
from ..files import write_bytes, write_json
from ..run_folder import RunFolder
from .confidence import inverse_temperature
from .kind_tables import class_tables, language_tables
from .protocol import VALIDATION_ARTIST, DemoData, evaluate_model
from .routing_stats import measure_routing, paired_batches
from .table import retrieval_table, routing_table, score_table
from .text import Templates, load_templates

if TYPE_CHECKING:
    from ..library import Run, Trained

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
        run.embed_images,
        run.embed_texts,
        demo_data(examples, data, size),
        templates,
        scale=inverse_temperature(run.config.model, run.params),
    )
    rows = examples.rows(artist=VALIDATION_ARTIST)
    batches = paired_batches(examples, rows, run.tokenizer, run.config)
    results["routing"] = measure_routing(run.config, run.params, batches)
    return {**_head(run), **results}, {"format": 1, "step": run.step, **predicted}


def _head(run: Run | Trained) -> dict[str, Any]:
    head = {"format": 1, "kind": kind_of(run.config), "run": run.folder.name, "step": run.step}
    return {**head, "dropless": True}


def emoji_art(config: DataConfig) -> DataConfig:
    """Where a run's `emoji_art` is: where it was trained on, if it was; else what ships."""
    trained = config.name in ("emoji_art", "emoji_scenes")
    return DataConfig(data_dir=config.data_dir if trained else None)


def evaluate_run(
    folder: Path | str,
    templates: str = "label",
    console: Console | None = None,
    execution: Execution = "fused",
) -> dict[str, Any]:
    """Evaluates a run of any kind and writes `results.json` into its folder, with
    `predictions.json` where the kind has answers to show.

    Args:
        folder: the run folder; its newest whole checkpoint is taken.
        templates: name of a template set, of contrastive runs.
        console: where the tables go; None is standard output.
        execution: how the model runs (docs/execution.md); scores are the same, to rounding.

    Returns:
        What `results.json` holds.

    Raises:
        RunError, CheckpointError, ConfigError: as `load`.
        RecordError: the data is missing or corrupt.
        KeyError: no such template set.
    """
    place = RunFolder(folder)
    config, _ = place.read()
    if execution == "pathways":
        check_forward(config.model)
    predicted: dict[str, Any] | None = None
    if isinstance(config, ContrastiveConfig):
        results, predicted = _contrastive(folder, templates, execution)
        tables = [score_table(results), retrieval_table(results)]
    elif isinstance(config, ClassificationConfig):
        results, predicted = _classification(folder, execution)
        tables = class_tables(results)
    else:
        results = _language(folder, execution)
        tables = language_tables(results)
    if predicted is not None:
        # First, so that who finds results also finds the predictions that belong to them.
        write_bytes(place.path / "predictions.json", compact_json(predicted))
    write_json(place.results_file, results)
    console = console or Console()
    for table in tables:
        console.print(table)
    if results["routing"]["layers"]:
        console.print(routing_table(results["routing"]))
    return results


def _contrastive(
    folder: Path | str, templates: str, execution: Execution
) -> tuple[dict[str, Any], dict[str, Any]]:
    from ..library import load

    chosen = load_templates(templates)
    return evaluate_loaded(load(folder, execution=execution), chosen)


def _classification(
    folder: Path | str, execution: Execution
) -> tuple[dict[str, Any], dict[str, Any]]:
    from ..library import read_run
    from .evaluate_classes import evaluate_classifier

    run = read_run(folder)
    results, predicted = evaluate_classifier(run, execution)
    return {**_head(run), **results}, {"format": 1, "step": run.step, **predicted}


def _language(folder: Path | str, execution: Execution) -> dict[str, Any]:
    from ..library import read_run
    from .evaluate_language import evaluate_decoder

    run, tokenizer = read_run(folder), RunFolder(folder).tokenizer_file
    return {**_head(run), **evaluate_decoder(run, tokenizer, execution)}


def compact_json(value: Any) -> bytes:
    """One line of JSON, for files that no person reads."""
    return (json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
