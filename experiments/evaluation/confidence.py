"""How sure a contrastive model is of a name, and whether it may be: calibration of zero-shot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from ...models import ModelConfig, TwoTowerConfig
from .classification import ClassScores

# LIMoE's own bound on the inverse temperature.
_LARGEST_SCALE = 100.0


def inverse_temperature(config: ModelConfig | TwoTowerConfig, params: Any) -> float:
    """What a model multiplies its cosines with before the softmax: what its training learnt.

    Args:
        config: of the model.
        params: its parameters.
    """
    largest = config.max_scale if isinstance(config, TwoTowerConfig) else _LARGEST_SCALE
    scale = math.exp(float(np.asarray(params["log_scale"])))
    return scale if largest is None else min(scale, largest)


def top_probabilities(
    scores: Float[np.ndarray, "I N"], top: Int64[np.ndarray, "I k"], scale: float
) -> Float[np.ndarray, "I k"]:
    """(I, k) softmax over all N candidates of `scale` times the scores, at the candidates `top`."""
    logits = scale * scores.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    total = np.exp(logits).sum(axis=1, keepdims=True)
    return np.exp(np.take_along_axis(logits, top, axis=1)) / total


def calibration_by_share(
    scores: Float[np.ndarray, "I N"],
    target: Int64[np.ndarray, "I"],
    held_out: Bool[np.ndarray, "I"],
    scale: float,
) -> dict[str, dict[str, Any]]:
    """Whether the first name is as often right as the model is sure of it.

    Args:
        scores: cosines with all N candidates.
        target: the right candidate of each image.
        held_out: which images show what training left out.
        scale: inverse temperature.

    Returns:
        `all`, `seen`, `held_out` -> {"error" (expected calibration error, 15 equal bins, a
        fraction), "confidence" (mean), "accuracy", "n" (images), "scale", "bins"}; a share
        without images is left out. Bins as of a classifier's `results.json`.
    """
    logits = scale * scores.astype(np.float64)
    rows = {"all": np.ones(len(target), bool), "seen": ~held_out, "held_out": held_out}
    found = {}
    for share, chosen in rows.items():
        if not chosen.any():
            continue
        state = ClassScores.of_batch(logits[chosen], target[chosen])
        found[share] = {
            "error": state.calibration_error(),
            "confidence": state.mean_confidence(),
            "accuracy": state.top.fractions()["top1"],
            "n": state.top.count,
            "scale": scale,
            "bins": state.reliability(),
        }
    return found
