"""Zero-shot classification of any labelled split, by any model of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...datasets import EvaluationSplit
from ..errors import UsageError
from .baselines import chance_top_k
from .embedder import Embedder
from .metrics import TopK, similarities
from .questions import ClassList
from .score_protocol import ScoreProtocol, padded, ranks_of
from .zero_shot import normalised

_KS = (1, 5)
_BATCH = 128
# Images ranked at a time; bounds memory and changes nothing else.
_ROWS = 4096


def class_vectors(embedder: Embedder, prompts: Sequence[Sequence[str]]) -> Float[np.ndarray, "N F"]:
    """Of each class the normalised mean of its prompts' normalised embeddings.

    Raises:
        ValueError: embeddings without direction.
    """
    texts = list(dict.fromkeys(prompt for own in prompts for prompt in own))
    each = normalised(embedder.texts(texts), "text")
    at = {text: number for number, text in enumerate(texts)}
    means = [each[[at[prompt] for prompt in own]].mean(axis=0) for own in prompts]
    return normalised(np.stack(means), "class")


def score_zero_shot(
    embedder: Embedder,
    split: EvaluationSplit,
    classes: ClassList,
    protocol: ScoreProtocol,
    limit: int | None = None,
) -> dict[str, Any]:
    """Top 1 and 5, the mean over classes, and the mean average precision of several labels.

    Rows without a label are left out, and counted.

    Raises:
        UsageError: no row has a label; a text label that is in no class.
        RecordError: a picture that does not decode.
        ValueError: embeddings without direction.
    """
    vectors = class_vectors(embedder, classes.prompts)
    numbers = None
    if split.classes is None:
        numbers = {name: i for i, own in enumerate(classes.names) for name in own}
    images: list[np.ndarray] = []
    labels: list[tuple[int, ...]] = []
    pending: list[list[tuple[int, ...]]] = []

    def batches():
        for batch, rows in split.batches(_BATCH, embedder.image_size, protocol.resize, limit):
            pending.append([_labels(row, numbers, split, protocol) for row in rows])
            yield batch

    for found in embedder.images(batches()):
        images.append(normalised(found, "image"))
        labels += pending.pop(0)
    labelled = np.array([bool(one) for one in labels], bool)
    if not labelled.any():
        raise UsageError(
            f"no row of {split.split} of {split.name} has a label: choose another --data.split"
        )
    table = padded([one for one in labels if one])
    scores = similarities(np.concatenate(images)[labelled], vectors)
    result = class_scores(scores, table, protocol)
    return {**result, "unlabelled": int(np.sum(~labelled))}


def _labels(row, numbers, split, protocol) -> tuple[int, ...]:
    if numbers is None:
        return row.labels
    if row.label_text is None:
        return ()
    name = next(iter(protocol.class_names(row.label_text)), "")
    if name not in numbers:
        raise UsageError(
            f"row {row.name} of {split.name} is labelled {row.label_text!r}, which is none of the "
            "classes: add it to --classes, or leave that out to take the data's own"
        )
    return (numbers[name],)


def class_scores(
    scores: Float[np.ndarray, "B N"], labels: Int[np.ndarray, "B A"], protocol: ScoreProtocol
) -> dict[str, Any]:
    """What a score matrix says: see `score_zero_shot`.

    Args:
        scores: similarity of images and classes.
        labels: right classes, any of which will do, padded with -1.
        protocol: how ties count.
    """
    parts = [slice(start, start + _ROWS) for start in range(0, len(scores), _ROWS)]
    ranks = np.concatenate([ranks_of(scores[at], labels[at], protocol.ties) for at in parts])
    candidates = scores.shape[1]
    ks = tuple(k for k in _KS if k <= candidates)
    many = np.sum(labels >= 0, axis=1)
    found: dict[str, Any] = {
        "scores": {
            **TopK.from_ranks(ranks, ks).fractions(),
            "n": len(ranks),
            "candidates": candidates,
        },
        "chance": chance_top_k(candidates, ks, many.tolist()),
    }
    if many.max() == 1:
        own = labels.max(axis=1)
        there = np.bincount(own, minlength=candidates)
        hits = np.bincount(own, ranks < 1, candidates)
        found["scores"]["mean_of_classes"] = float(np.mean(hits[there > 0] / there[there > 0]))
        found["of_class"] = [
            round(float(h / n), 6) if n else None for h, n in zip(hits, there, strict=True)
        ]
        found["count_of_class"] = there.tolist()
    else:
        found["scores"]["mean_average_precision"] = mean_average_precision(scores, labels)
    return found


def mean_average_precision(
    scores: Float[np.ndarray, "B N"], labels: Int[np.ndarray, "B A"]
) -> float:
    """Mean, over the classes that any image has, of the average precision of ranking the images.

    Images of equal scores are one step of the ranking, as scikit-learn has it.
    """
    right = np.zeros(scores.shape, bool)
    row, column = np.nonzero(labels >= 0)
    right[row, labels[row, column]] = True
    found = []
    for own, score in zip(right.T, scores.T, strict=True):
        if not own.any():
            continue
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
        hits = np.cumsum(own[order])[ends]
        gained = np.diff(hits, prepend=0)
        found.append(float(np.sum(gained * hits / (ends + 1)) / own.sum()))
    return float(np.mean(found))
