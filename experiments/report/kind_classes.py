"""The page of a classifier: its scores by class, its mistakes, its experts' classes and patches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...datasets import LabelledImages, RecordError, load_images
from ..config import ClassificationConfig
from ..errors import CheckpointError, RunError
from .blocks import routers
from .class_answers import pictures_of, same_pictures, sample_pictures
from .class_scores import comparison, confusion, hardest, mistakes, other_settings
from .class_tastes import class_tastes
from .confusions import confused_classes
from .pathway_examples import class_pathways
from .records import Records
from .reliability import of_bins
from .summary import density, percent, routing_tiles, sparse_words

SECTIONS = (
    ("scores", "Scores", "class_scores.html"),
    ("answers", "Answers", "answers.html"),
    ("pathways", "The way of one example", "pathways.html"),
    ("loads", "Who goes where", "loads.html"),
    ("tastes", "What experts take", "class_tastes.html"),
)


def parts(records: Records) -> dict[str, Any]:
    """What the page shows of this kind alone."""
    results = records.results
    found: dict[str, Any] = {
        "sections": SECTIONS,
        "sentences": _sentences(records),
        "headline": _headline(results) if results else [],
        "scores": None,
        "towers": False,
        "attribution": _attribution(records.config.data.name),
        **_pictures(records),
    }
    if results:
        found["scores"] = {
            **results["scores"],
            "split": results["split"],
            "bars": comparison(results),
            "classes": hardest(results),
            "confusion": confusion(results),
            "mistakes": mistakes(results),
            "calibration": of_bins(
                f"All {results['split']} pictures",
                results["calibration"],
                results["scores"]["calibration_error"],
            ),
            "settings": other_settings(results),
        }
    return found


def _attribution(name: str) -> str:
    if name == "fashion_mnist":
        return "Fashion-MNIST pictures © Zalando SE, MIT licence (arXiv 1708.07747)."
    return f"Pictures are of the data set “{name}”, whose licence holds for them here too."


def _sentences(records: Records) -> list[str]:
    config = records.config
    text = [
        f"This is {density(records)} that sorts pictures into {config.model.num_classes} classes: "
        f"a Transformer of {config.model.depth} layers over square patches."
        + sparse_words(routers(config))
    ]
    results = records.results
    if results:
        scores = results["scores"]
        text.append(
            f"Of {scores['count']:,} {results['split']} pictures, on which nothing was tuned, it "
            f"put the right class first {percent(scores['top1'])} of the time."
        )
    return text


def _headline(results: dict[str, Any]) -> list[dict[str, str]]:
    scores, chance = results["scores"], results["baselines"]["chance"]
    known = [(v, n) for v, n in zip(results["of_class"], results["classes"], strict=True)
             if v is not None]  # fmt: skip
    worst, name = min(known)
    return [
        {
            "value": percent(scores["top1"]),
            "name": f"of {results['split']} pictures: right at once",
            "note": f"{percent(scores['top5'])} in the first five; "
            f"chance {percent(chance['top1'])}",
        },
        {
            "value": percent(worst),
            "name": f"of the hardest class: {name}",
            "note": f"calibration error {percent(scores['calibration_error'])}",
        },
        *routing_tiles(results),
    ]


def _pictures(records: Records) -> dict[str, Any]:
    """The parts that need pictures and parameters, or why they are missing."""
    config = records.config
    assert isinstance(config, ClassificationConfig)
    found: dict[str, Any] = {"tastes": (), "answers": (), "pathways": (), "confused": ()}
    found |= {"no_tastes": "", "no_answers": "", "no_pathways": ""}
    try:
        data = load_images(config.data, config.model.image_size)
    except (RecordError, OSError) as error:
        reason = f"The pictures cannot be read: {error}"
        return found | {"no_tastes": reason, "no_answers": reason, "no_pathways": reason}
    predicted, size = records.predictions, config.model.image_size
    if predicted is None:
        found["no_answers"] = f"No answers yet. Run: byways evaluate {records.path}"
    elif not same_pictures(predicted, data):
        predicted = None
        found["no_answers"] = (
            f"The predictions are not of these pictures. Run again: byways evaluate {records.path}"
        )
    else:
        found["answers"] = sample_pictures(predicted, data, size)
        found["confused"] = confused_classes(
            predicted, lambda row: pictures_of(data, np.array([row]), size)[0]
        )
    found["no_pathways"] = found["no_answers"]
    if records.routed:
        found |= _looked_into(records, data, predicted)
    return found


def _looked_into(
    records: Records, data: LabelledImages, predicted: dict[str, Any] | None
) -> dict[str, Any]:
    """What needs the parameters."""
    from ..library import read_run

    try:
        run = read_run(records.path)
    except (CheckpointError, RunError) as error:
        reason = f"There are no parameters to look into: {error}"
        return {"no_tastes": reason, "no_pathways": reason}
    found: dict[str, Any] = {"tastes": class_tastes(run, data)}
    if predicted is not None:
        size = records.config.model.image_size
        found["pathways"] = class_pathways(
            run, predicted, lambda rows: pictures_of(data, rows, size)
        )
    return found
