"""Numbers of a run by their keys: those of results.json, and what training took."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..suggest import nearest_key
from .curves import effort_of
from .reading import ReadRun

COMPUTED = {
    "train_seconds": "seconds of training",
    "examples_per_second": "examples a second",
    "flops": "training FLOPs",
}
_DEFAULTS: dict[str, tuple[str, ...]] = {
    "contrastive": (
        "noto.all.top1",
        "noto.all.top5",
        "retrieval.noto.image_to_text.r1",
        "retrieval.noto.text_to_image.r1",
    ),
    "classification": ("scores.top1", "scores.top5"),
    "language": ("validation.bits_per_byte", "held_out.bits_per_byte"),
}
_SHARES = {"top1", "top5", "r1", "r5", "r10", "mean_of_classes", "calibration_error"}
# Longer lists (a confusion matrix) are no metrics of anybody's.
_LONGEST = 64


def default_metrics(runs: Sequence[ReadRun]) -> list[str]:
    """The headline scores of the runs' kind that any of them has, and what training took."""
    known = set(known_keys(runs))
    wished = _DEFAULTS[runs[0].family]
    found = [key for key in wished if key in known]
    if not found:
        # Other data has other names.
        found = sorted(k for k in known if k.endswith(".all.top1") and "baselines" not in k)[:2]
    return [*(found or wished[:1]), "flops", "examples_per_second"]


def known_keys(runs: Sequence[ReadRun]) -> list[str]:
    """Every key that some run has a number for, and the computed ones."""
    keys = {key: None for run in runs for key in numbers(run.results or {})}
    return [*keys, *COMPUTED]


def check_keys(keys: Sequence[str], runs: Sequence[ReadRun]) -> None:
    """Checks that some run has each of the keys.

    Raises:
        UsageError: none has one; the nearest that exists is named.
    """
    known = known_keys(runs)
    evaluated = any(run.results is not None for run in runs)
    for key in keys:
        if key in known:
            continue
        if not evaluated:
            names = " ".join(f"`byways evaluate {run.path}`" for run in runs[:1])
            raise UsageError(
                f"--metric {key}: no run has scores yet; {names} gives it some. Without: "
                f"{', '.join(COMPUTED)}"
            )
        found = nearest_key(key, known)
        hint = f"; did you mean '{found}'?" if found else ", nor one like it."
        raise UsageError(
            f"--metric {key}: no run has a number of that name{hint} Any dotted key of a "
            f"results.json will do, or {', '.join(COMPUTED)}"
        )


def value_of(run: ReadRun, key: str) -> float | str:
    """A run's number, or why it has none."""
    if not run.finished:
        return "not finished"
    if key in COMPUTED:
        found = _computed(run, key)
    elif run.results is None:
        return "not evaluated"
    else:
        found = numbers(run.results).get(key, "absent")
    if found is None:
        return "not finite"
    if isinstance(found, str):
        return f"no {key}"
    return float(found) if math.isfinite(found) else "not finite"


def numbers(results: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Dotted key to number; None where it is null or no finite one.

    Examples:
        >>> numbers({"noto": {"all": {"top1": 0.5}}, "of_class": [0.25, None], "run": "a"})
        {'noto.all.top1': 0.5, 'of_class.0': 0.25, 'of_class.1': None}
    """
    flat: dict[str, float | None] = {}
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and len(value) <= _LONGEST:
            value = {str(place): item for place, item in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= numbers(value, f"{name}.")
        elif value is None:
            flat[name] = None
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[name] = float(value) if abs(value) <= sys.float_info.max else None
    return flat


def is_share(key: str) -> bool:
    """Whether it is a fraction, which people read in per cent."""
    return key.rpartition(".")[2] in _SHARES


def title(key: str) -> str:
    """What heads its column."""
    return COMPUTED.get(key, key)


def _computed(run: ReadRun, key: str) -> float | str | None:
    lines = [line for line in run.lines if line["kind"] == "train"]
    if key == "examples_per_second":
        rates = [line["times"].get(key) for line in lines]
        rates = [rate for rate in rates if rate]
        return statistics.median(rates) if rates else "absent"
    if not lines:
        return "absent"
    effort = effort_of(run.lines, run.config, count_flops=key == "flops")
    return effort.at(run.config.steps, "flops" if key == "flops" else "seconds")
