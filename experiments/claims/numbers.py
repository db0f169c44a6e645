"""The numbers of a finished run that claims read, by dotted key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..compare.curves import Curve, curve_of, effort_of
from ..config_files import flatten
from ..errors import RunError
from ..metrics_log import read_lines
from ..parameter_counts import count_parameters
from ..run_folder import RunFolder
from .probes import PROBES, probed


def numbers_of(folder: Path, keys: Iterable[str]) -> dict[str, float]:
    """All numbers of a run that was trained and evaluated.

    | key | from |
    |---|---|
    | `routing.…` | `results.json` and `metrics.jsonl`: `_routing` |
    | `curve.…` | `metrics.jsonl`: `_curve` |
    | first word in `PROBES` | that probe, if some key asks for it |
    | `parameters` | the config |
    | any other | `results.json` |

    Args:
        folder: the run folder.
        keys: that are wanted of this arm: they decide which probes are made.

    Raises:
        RunError: it is not a run, or was not evaluated.
    """
    config, _ = RunFolder(folder).read()
    results = _results(folder)
    lines = read_lines(folder / "metrics.jsonl")
    found = {
        key: float(value)
        for key, value in flatten(results).items()
        if isinstance(value, int | float) and not key.startswith("routing.")
    }
    found["parameters"] = float(count_parameters(config.model)[0])
    effort = effort_of(lines, config)
    found |= _curve(curve_of(lines, effort, "top1"))
    found |= _routing(results.get("routing") or {}, lines)
    for name in dict.fromkeys(key.split(".")[0] for key in keys):
        if name in PROBES:
            found |= probed(folder, name)
    return found


def _curve(curve: Curve) -> dict[str, float]:
    """`curve.last`, the last validation; `curve.gain_in_last_fifth`, less what it was after four
    fifths of the steps, or before; `curve.flops` and `curve.steps` of all of training."""
    if not curve.values:
        return {}
    last = curve.steps[-1]
    early = [v for s, v in zip(curve.steps, curve.values, strict=True) if s <= 0.8 * last]
    found = {"curve.last": curve.values[-1], "curve.steps": float(last)}
    found["curve.flops"] = curve.effort.at(last, "flops")
    if early:
        found["curve.gain_in_last_fifth"] = curve.values[-1] - early[-1]
    return found


def _routing(routing: Mapping[str, Any], lines: list[dict[str, Any]]) -> dict[str, float]:
    """Of the worst block: `MODALITY_success`, `MODALITY_dropped` (1 less that), and mean entropies
    over blocks, from `results.json`; `importance` (CV², mean of blocks) and `max_vio` (worst
    block), means over the last fifth of the training log; `minus_importance`, since less is better.
    """
    found: dict[str, float] = {}
    layers = list(routing.get("layers", {}).values())
    for name in {m for layer in layers for m in layer["modalities"]}:
        here = [layer["modalities"][name] for layer in layers if name in layer["modalities"]]
        found[f"routing.{name}_success"] = min(part["success"] for part in here)
        found[f"routing.{name}_dropped"] = 1 - found[f"routing.{name}_success"]
        for kind in ("local_entropy", "global_entropy"):
            found[f"routing.{name}_{kind}"] = sum(part[kind] for part in here) / len(here)
    trained = [line for line in lines if line["kind"] == "train"]
    late = [x["metrics"] for x in trained if x["step"] > 0.8 * trained[-1]["step"]]
    vio = [worst for metrics in late if (worst := worst_of(metrics, "max_vio")) is not None]
    if vio:
        found["routing.max_vio"] = sum(vio) / len(vio)
    spread = [m["loss/importance"] for m in late if m.get("loss/importance") is not None]
    if spread:
        found["routing.importance"] = sum(spread) / len(spread)
        found["routing.minus_importance"] = -found["routing.importance"]
    return found


def worst_of(metrics: Mapping[str, Any], what: str) -> float | None:
    """The largest over blocks of a routing metric; None where there is none."""
    found = [v for key, v in metrics.items() if key.endswith(f"/{what}") and v is not None]
    return max(found, default=None)


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} is not there; `byways evaluate {folder}` makes it") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); `byways evaluate {folder}`") from error
