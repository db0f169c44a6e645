"""`byways score`: any model on any data, each task as a function that returns plain JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...datasets import (
    EvaluationSplit,
    ImageDataConfig,
    LabelledImages,
    batches_of_rows,
    load_images,
)
from ...models import LoadedModel
from ..config import Execution
from ..errors import UsageError
from ..library import read_run
from ..sources import Source
from .embedder import Embedder, TextTokenizer
from .features import Features, collect_features
from .few_shot import FewShotProtocol, few_shot_of_classifier
from .image_features import image_features
from .linear_probe import ProbeProtocol, score_probe
from .questions import ClassList
from .retrieval_scores import score_retrieval
from .score_protocol import ScoreProtocol
from .text import content_hash
from .zero_shot_scores import score_zero_shot

_BATCH = 256


def load_source(source: Source) -> tuple[LoadedModel, int | None]:
    """The parameters, and of a run the step that made them.

    Raises:
        CheckpointError, WeightsError: there are none, or they are damaged.
    """
    if source.experiment is None:
        return source.load(), None
    read = read_run(source.folder)
    return LoadedModel(source.kind, source.config, read.params), read.step


def zero_shot_result(
    source: Source,
    split: EvaluationSplit,
    classes: ClassList,
    protocol: ScoreProtocol,
    tokenizer: TextTokenizer,
    *,
    limit: int | None = None,
    execution: Execution = "fused",
) -> dict[str, Any]:
    """See `score_zero_shot`; beside the scores, all that they depend on, hashed."""
    model, step = load_source(source)
    embedder = Embedder(model, tokenizer, execution)
    found = score_zero_shot(embedder, split, classes, protocol, limit)
    return {
        **_head("zero-shot", source, step, split, limit),
        "protocol": protocol.as_dict(),
        "templates": {
            "name": classes.origin,
            "templates": list(classes.templates),
            "sha256": content_hash(list(classes.templates)),
        },
        "class_names_sha256": classes.names_sha256,
        "prompts_sha256": classes.prompts_sha256,
        **_text(tokenizer),
        **found,
    }


def retrieval_result(
    source: Source,
    split: EvaluationSplit,
    protocol: ScoreProtocol,
    tokenizer: TextTokenizer,
    *,
    limit: int | None = None,
    execution: Execution = "fused",
) -> dict[str, Any]:
    """See `score_retrieval`; beside the scores, all that they depend on, hashed."""
    model, step = load_source(source)
    found = score_retrieval(Embedder(model, tokenizer, execution), split, protocol, limit)
    head = _head("retrieval", source, step, split, limit)
    return {**head, "protocol": protocol.as_dict(), **_text(tokenizer), **found}


def few_shot_result(
    source: Source,
    data: ImageDataConfig,
    protocol: FewShotProtocol,
    execution: Execution = "fused",
) -> dict[str, Any]:
    """As `byways few-shot`.

    Raises:
        RecordError: the data is absent or corrupt.
        UsageError: what the protocol needs is not in the data.
    """
    images = load_images(data, source.config.image_size)
    model, step = load_source(source)
    features = image_features(model, execution)
    try:
        rows = few_shot_of_classifier(features, images, source.config.image_size, protocol)
    except ValueError as error:
        raise UsageError(f"{data.name}: {error}") from error
    return {
        **_about("few-shot", source, step),
        "data": {"name": data.name, "split": "test"},
        "protocol": dataclasses.asdict(protocol),
        "rows": [row.as_dict() for row in rows],
    }


def probe_result(
    source: Source,
    data: ImageDataConfig,
    protocol: ProbeProtocol | None = None,
    *,
    rows: int | None = None,
    execution: Execution = "fused",
) -> dict[str, Any]:
    """See `score_probe`.

    Args:
        source: any model that reads images; of a classifier the features are what its head reads.
        data: with `train`, `validation` and `test`.
        protocol: of the fit.
        rows: of the training split, as many, drawn by seed 0.
        execution: how the model runs.

    Raises:
        RecordError: the data is absent or corrupt.
        UsageError: what the probe needs is not in the data.
    """
    protocol = protocol or ProbeProtocol()
    size = source.config.image_size
    images = load_images(data, size)
    chosen = _splits(images, data.name, rows)
    model, step = load_source(source)
    run = image_features(model, execution)

    def features(numbers: np.ndarray) -> Features:
        return collect_features(run, batches_of_rows(images, numbers, _BATCH, size))

    try:
        train, validation, test = map(features, chosen)
        found = score_probe(train, validation, test, len(images.classes), protocol)
    except ValueError as error:
        raise UsageError(f"{data.name}: {error}") from error
    return {
        **_about("linear-probe", source, step),
        "data": {"name": data.name, "split": "test", "train_rows": rows},
        "protocol": dataclasses.asdict(protocol),
        **found,
    }


def _splits(
    data: LabelledImages, name: str, rows: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for split in ("train", "validation", "test"):
        if not len(data.splits.get(split, ())):
            raise UsageError(
                f"{name} has no split {split}, and a probe is fitted on train, chosen on "
                f"validation and scored on test; there are: {', '.join(data.splits)}"
            )
    train = data.rows("train")
    if rows is not None:
        # RandomState's stream is frozen by NumPy's policy; a Generator's may change.
        train = np.sort(np.random.RandomState(0).permutation(train)[:rows])
    return train, data.rows("validation"), data.rows("test")


def _about(task: str, source: Source, step: int | None) -> dict[str, Any]:
    return {
        "format": 1,
        "task": task,
        "source": str(source.folder),
        "kind": source.kind,
        "step": step,
    }


def _head(
    task: str, source: Source, step: int | None, split: EvaluationSplit, limit: int | None
) -> dict[str, Any]:
    data = {"name": split.name, "split": split.split, "rows": split.count, "limit": limit}
    # Scores of a part of the rows are not those of the split.
    read = split.count if limit is None else min(limit, split.count)
    return {**_about(task, source, step), "data": {**data, "rows_read": read}}


def _text(tokenizer: TextTokenizer) -> dict[str, Any]:
    return {"tokenizer_sha256": tokenizer.fingerprint, "texts_cut": tokenizer.cut}
