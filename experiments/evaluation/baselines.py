"""What a score has to beat: chance, a pixel matcher with labels, and the dense twin."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8


def chance_top_k(
    candidates: int, ks: Sequence[int], right: Sequence[int] = (1,), name: str = "top"
) -> dict[str, float]:
    """What a random ranking gets, on average.

    A query with m right answers among N candidates hits in the top k with probability
    1 - C(N-m, k) / C(N, k), which is k/N for m = 1.

    Args:
        candidates: N.
        ks: the k's; one above N counts as N.
        right: m of each query; their mean is taken.
        name: prefix of the keys.

    >>> chance_top_k(10, (1, 5))
    {'top1': 0.1, 'top5': 0.5}
    """
    counts = np.bincount(np.asarray(right))
    result = {}
    for k in ks:
        total = comb(candidates, min(k, candidates))
        miss = [comb(candidates - m, min(k, candidates)) / total for m in range(len(counts))]
        result[f"{name}{k}"] = round(1.0 - float(np.dot(counts, miss) / counts.sum()), 12)
    return result


def _standardised(images: UInt8[np.ndarray, "n S S 3"]) -> Float[np.ndarray, "n P"]:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    # A picture of one colour correlates with nothing, rather than with everything.
    return flat / np.where(length > 0, length, 1.0)


def pixel_scores(
    images: UInt8[np.ndarray, "I S S 3"],
    train_images: UInt8[np.ndarray, "J S S 3"],
    train_classes: Int[np.ndarray, "J"],
    classes: int,
    columns: int = 1024,
) -> Float[np.ndarray, "I N"]:
    """The sceptic's baseline: raw-pixel nearest neighbour over the labelled training drawings.

    The score of a class is the largest Pearson correlation, over all pixels and channels,
    between the image and any training drawing of that class. A class that was never drawn
    in training scores -inf: it has no pixels to match and can never be named.

    Args:
        images: I images to name.
        train_images, train_classes: J labelled drawings; class -1 is left out.
        classes: N.
        columns: training drawings compared at a time (bounds memory only).

    Returns:
        (I, N) float32.
    """
    known = train_classes >= 0
    train_images, train_classes = train_images[known], train_classes[known]
    order = np.argsort(train_classes, kind="stable")
    queries = _standardised(images)
    scores = np.full((len(images), classes), -np.inf, np.float32)
    for start in range(0, len(order), columns):
        part = order[start : start + columns]
        correlation = queries @ _standardised(train_images[part]).T
        # Sorted by class, so that each class is one run of columns.
        owners, first = np.unique(train_classes[part], return_index=True)
        best = np.maximum.reduceat(correlation, first, axis=1)
        scores[:, owners] = np.maximum(scores[:, owners], best)
    return scores


def dense_twin_record(run: Path) -> dict[str, Any]:
    """What `dense_twin.json` holds, from an evaluated run of the twin.

    Args:
        run: a run folder with `config.json` and `results.json`.

    Raises:
        ValueError: if the run is sparse, and so nobody's dense twin.
        OSError: if the run is not evaluated yet.
    """
    config = json.loads((run / "config.json").read_text("utf-8"))
    results = json.loads((run / "results.json").read_text("utf-8"))
    placement = config["config"]["model"]["moe"]["placement"]
    if placement != "none":
        raise ValueError(
            f"{run} has mixtures of experts (moe.placement {placement!r}); a dense twin is the "
            "same preset with --model.moe.placement none."
        )
    skip = {
        "format",
        "kind",
        "run",
        "step",
        "baselines",
        "templates",
        "class_names_sha256",
        "routing",
    }
    return {
        "format": 1,
        "preset": config["preset"],
        "settings": config["config"],
        "seed": config["config"]["seed"],
        "date": datetime.date.today().isoformat(),
        "step": results["step"],
        "templates": results["templates"],
        "class_names_sha256": results["class_names_sha256"],
        "scores": {key: value for key, value in results.items() if key not in skip},
    }


def dense_twin() -> dict[str, Any] | None:
    """The committed scores of the dense twin (`dense_twin.json`), or None if there are none."""
    file = Path(__file__).with_name("dense_twin.json")
    return json.loads(file.read_text("utf-8")) if file.is_file() else None
