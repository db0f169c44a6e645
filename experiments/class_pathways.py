"""What some classes use of a classifier, cut out as a model of its own, and scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..datasets import Batch, LabelledImages, batches_of_rows, load_images
from ..models import LoadedModel, cut_pathway, model_kind
from .classification import scaled
from .config import ClassificationConfig, kind_of
from .errors import RunError, UsageError
from .evaluation.vmoe_scores import vmoe_logits
from .export import save_exported
from .library import read_run
from .pathway_report import PathwayReport, compare
from .suggest import unknown

# Images that tell which experts the classes use; more change nothing but the time.
_COUNTED = 1024
_ROWS = 128


def export_class_pathway(
    run: str | Path,
    out: str | Path,
    classes: Sequence[str],
    *,
    step: int | None = None,
    min_share: float = 0.0,
    most: int | None = None,
) -> PathwayReport:
    """Writes what a task, some of the classes, uses of a classification run as a model of its own.

    Which experts the classes' images use is counted, dropless, over at most 1,024 of training;
    scores are of their images of `validation`, named among all classes: the head stays whole.

    Args:
        run: the run folder.
        out: the folder to write; must not exist.
        classes: names, or numbers where none is so called.
        step: which checkpoint; None is the newest whole one.
        min_share, most: see `cut_pathway`.

    Raises:
        RunError: no such run, or one of another kind.
        UsageError: no such class.
        ValueError: as `cut_pathway`; or the split has no images of the classes.
        WeightsError: `out` exists.
    """
    read = read_run(run, step)
    config = read.config
    if not isinstance(config, ClassificationConfig):
        raise RunError(f"{read.folder} is a run of {kind_of(config)}, which has no classes")
    data, size = load_images(config.data, config.model.image_size), config.model.image_size
    numbers = class_numbers(classes, data.classes)

    def batches(split: str, most: int | None = None) -> Iterator[Batch]:
        rows = _rows(data, split, numbers, most)
        return batches_of_rows(data, rows, _ROWS, size)

    whole = LoadedModel(model_kind(config.model), config.model, read.params)
    pairs = _count_pairs(whole, batches("train", _COUNTED))
    cut = cut_pathway(whole, "image", pairs, min_share=min_share, most=most)
    scores, outputs = [], []
    for model in (cut, whole):
        run_model = vmoe_logits(model.config, model.params)
        made = [(run_model(b)[b["mask"]], b["label"][b["mask"]]) for b in batches("validation")]
        logits, labels = (np.concatenate(part) for part in zip(*made, strict=True))
        scores.append(float(np.mean(logits.argmax(axis=1) == labels)))
        outputs.append(logits)
    save_exported(cut, out, read.folder)
    scored = f"validation images of {len(numbers)} of {len(data.classes)} classes"
    return compare(cut, whole, pairs, scored, (scores[0], scores[1]), (outputs[0], outputs[1]))


def class_numbers(wanted: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Numbers of classes that are given by name or by number, ascending.

    Raises:
        UsageError: there is no such class.

    Examples:
        >>> class_numbers(["bag", "0"], ["coat", "shirt", "bag"])
        [0, 2]
    """
    found = set()
    for word in wanted:
        if word in classes:
            found.add(list(classes).index(word))
        elif word.isdecimal() and int(word) < len(classes):
            found.add(int(word))
        else:
            raise UsageError(unknown("class", word, classes))
    return sorted(found)


def _rows(data: LabelledImages, split: str, classes: Sequence[int], most: int | None) -> np.ndarray:
    rows = data.rows(split)
    rows = rows[np.isin(data.labels[rows], classes)]
    if not len(rows):
        raise ValueError(f"no image of {split!r} is of the classes {list(classes)[:8]}")
    return rows if most is None else np.random.default_rng(0).permutation(rows)[:most]


def _count_pairs(model: LoadedModel, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
    """Pairs of tokens and experts, (E,) of each sparse block."""

    @jax.jit
    def count(params: Any, image: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        routing = model.module.apply({"params": params}, scaled(image), mask).routing
        return {name: sums.assigned[0] for name, sums in routing.items()}

    total: dict[str, np.ndarray] = {}
    for batch in batches:
        for name, found in count(model.params, batch["image"], batch["mask"]).items():
            total[name] = total.get(name, 0) + np.asarray(found, np.float64)
    return total
