"""The page of a classifier: its scores by class, its mistakes, its experts' classes and patches."""

from __future__ import annotations

from typing import Any

from ...datasets import LabelledImages, RecordError, load_images
from ..config import ClassificationConfig
from ..errors import CheckpointError, RunError
from .blocks import routers
from .class_answers import sample_pictures
from .class_scores import calibration, comparison, confusion, hardest, mistakes, other_settings
from .class_tastes import class_tastes
from .records import Records
from .summary import density, percent, routing_tiles, sparse_words

SECTIONS = (
    ("scores", "Scores", "class_scores.html"),
    ("answers", "Answers", "answers.html"),
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
            "calibration": calibration(results),
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
    found: dict[str, Any] = {"tastes": (), "answers": (), "no_tastes": "", "no_answers": ""}
    try:
        data = load_images(config.data, config.model.image_size)
    except (RecordError, OSError) as error:
        reason = f"The pictures cannot be read: {error}"
        return found | {"no_tastes": reason, "no_answers": reason}
    if records.predictions is None:
        found["no_answers"] = f"No answers yet. Run: byways evaluate {records.path}"
    else:
        found["answers"] = sample_pictures(records.predictions, data, config.model.image_size)
        if not found["answers"]:
            found["no_answers"] = (
                "The predictions are not of these pictures. Run again: byways evaluate "
                f"{records.path}"
            )
    if records.routed:
        found |= _tastes(records, data)
    return found


def _tastes(records: Records, data: LabelledImages) -> dict[str, Any]:
    from ..library import read_run

    try:
        return {"tastes": class_tastes(read_run(records.path), data)}
    except (CheckpointError, RunError) as error:
        return {"no_tastes": f"There are no parameters to look into: {error}"}
