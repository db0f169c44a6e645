"""A classifier's run evaluated: the test split dropless and under other K and capacity."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from ...datasets import Batch, LabelledImages, batches_of_rows, load_images
from ...models import MoeConfig
from ...routing import BIASED
from ..config import ClassificationConfig, Execution
from ..errors import RunError
from ..forward import in_flight
from .class_baselines import class_baselines
from .classification import ClassScores
from .routing_stats import measure_routing
from .vmoe_scores import SettingScore, evaluate_settings, vmoe_forward

if TYPE_CHECKING:
    from ..library import Trained

# Images classified at a time; dropless it changes nothing, with a capacity groups are cut of it.
BATCH = 256
_TOP = 5
_CAPACITIES = (1.0, 0.5)
# Images of the validation split that the routers are asked about.
_ROUTED = 5000


def evaluate_classifier(
    run: Trained, execution: Execution = "fused"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of `results.json` and `predictions.json` of a run of classification.

    Nothing is chosen by what the test split says; routing is measured on the validation split.

    Raises:
        RecordError: the data set is missing or corrupt.
        RunError: it has other classes than the model, or no split to score.
        ConfigError: `pathways`, of a model without experts that could be left out.
    """
    config = run.config
    assert isinstance(config, ClassificationConfig)
    size, moe = config.model.image_size, config.model.moe
    data = load_images(config.data, size)
    if len(data.classes) != config.model.num_classes:
        raise RunError(
            f"{config.data.name} has {len(data.classes)} classes and the model of {run.folder} "
            f"{config.model.num_classes}: point data.data_dir of its config.json to the data that "
            "it was trained on"
        )
    split = scored_split(data)
    # The order matters where images share a capacity: classes in a row would meet in one group.
    order = np.random.default_rng(0).permutation(data.rows(split))
    dropless = dataclasses.replace(moe, eval_capacity_factor=None)
    model = dataclasses.replace(config.model, moe=dropless)
    batches = batches_of_rows(data, order, BATCH, size)
    state, predicted = _classify(model, run.params, batches, execution)
    count = np.zeros(len(data.classes), np.int64)
    np.add.at(count, state.cells // state.classes, state.cell_count)
    results = {
        # Expert choice has no dropless form.
        "dropless": not (config.model.moe_layers and moe.router == "expert_choice"),
        "split": split,
        "classes": list(data.classes),
        "scores": state.summary(),
        "of_class": [None if np.isnan(v) else float(v) for v in state.of_class()],
        "count_of_class": count.tolist(),
        "confusion": [
            [int(cell) // state.classes, int(cell) % state.classes, int(many)]
            for cell, many in zip(state.cells, state.cell_count, strict=True)
        ],
        "calibration": state.reliability(),
        "baselines": class_baselines(data, split),
        "settings": [],
    }
    if config.model.moe_layers:
        results["settings"] = _settings(config, run.params, data, order, state, execution)
    rows = data.rows("validation" if "validation" in data.splits else split)
    batches = labelled_batches(data, rows, config)
    results["routing"] = measure_routing(config, run.params, batches)
    return results, {"split": split, "classes": list(data.classes), **predicted}


def scored_split(data: LabelledImages) -> str:
    """`test`, or `validation` of a set that has no test split (as ImageNet's).

    Raises:
        RunError: there is neither.
    """
    for split in ("test", "validation"):
        if len(data.splits.get(split, ())):
            return split
    raise RunError(f"the data has neither test nor validation images: {', '.join(data.splits)}")


def labelled_batches(
    data: LabelledImages, rows: Int[np.ndarray, "n"], config: ClassificationConfig
) -> Iterator[Batch]:
    """Whole batches of the training's size, shuffled (seed 0), at most 5,000 images or one batch.

    A last ragged batch is left out, for its padding would leave slots free; fewer rows than one
    batch are repeated.
    """
    size = config.batch_size
    order = np.random.default_rng(0).permutation(rows)[: max(size, _ROUTED)]
    if len(order) < size:
        order = np.resize(order, size)
    order = order[: len(order) // size * size]
    return batches_of_rows(data, order, size, config.model.image_size)


def usual_settings(moe: MoeConfig) -> list[tuple[int | None, float | None, bool]]:
    """K, capacity factor and batch priority that a sparse classifier is scored under.

    One and two experts dropless; K as trained with the even share and half of it, by priority and
    (half, where priority alone decides who is served) in token order.
    """
    if moe.router == "soft":
        return []
    found: list[tuple[int | None, float | None, bool]] = []
    if moe.router in BIASED:  # whose K is free, and which may serve the surest tokens first
        ks = sorted({1, min(2, moe.num_experts), moe.selected})
        found += [(k, None, True) for k in ks]
        found += [(moe.selected, factor, True) for factor in _CAPACITIES]
        return [*found, (moe.selected, _CAPACITIES[-1], False)]
    if moe.router != "expert_choice":
        found.append((moe.selected, None, False))
    return found + [(moe.selected, factor, False) for factor in _CAPACITIES]


def _settings(
    config: ClassificationConfig,
    params: Any,
    data: LabelledImages,
    order: np.ndarray,
    trained: ClassScores,
    execution: Execution,
) -> list[dict[str, Any]]:
    """Scores under each of the usual settings; `trained` are those dropless, K as evaluated."""
    own = config.model.moe.eval_selected or config.model.moe.selected

    def batches() -> Iterator[Batch]:
        return batches_of_rows(data, order, BATCH, config.model.image_size)

    rows = []
    for selected, factor, first in usual_settings(config.model.moe):
        moe = dataclasses.replace(config.model.moe, batch_priority=first)
        model = dataclasses.replace(config.model, moe=moe)
        if factor is None and selected == own:
            score = SettingScore(own, None, trained)
        else:
            (score,) = evaluate_settings(model, params, batches, [(selected, factor)], execution)
        # Without a capacity nobody waits.
        priority = None if factor is None or moe.router not in BIASED else first
        rows.append({**score.as_dict(), "batch_priority": priority})
    return rows


def _classify(
    model: Any, params: Any, batches: Iterable[Batch], execution: Execution
) -> tuple[ClassScores, dict[str, Any]]:
    """The state of all images, and of each its number, class and best five by probability."""
    run = vmoe_forward(model, params, execution)
    state = ClassScores.empty(model.num_classes)
    columns: list[list[np.ndarray]] = []
    for batch, logits in in_flight(run, batches):
        mask = np.asarray(batch["mask"], bool)
        state += ClassScores.of_batch(logits, np.asarray(batch["label"]), mask)
        shown = logits[mask].astype(np.float64)
        shown = np.exp(shown - shown.max(axis=1, keepdims=True))
        shown /= shown.sum(axis=1, keepdims=True)
        top = np.argsort(-shown, axis=1, kind="stable")[:, :_TOP]
        score = np.take_along_axis(shown, top, axis=1)
        columns.append([batch["id"][mask], batch["label"][mask], top, score])
    ids, labels, top, score = (np.concatenate(part) for part in zip(*columns, strict=True))
    order = np.argsort(ids, kind="stable")
    return state, {
        "id": ids[order].tolist(),
        "label": labels[order].tolist(),
        "top": top[order].tolist(),
        "score": np.round(score[order], 4).tolist(),
    }
