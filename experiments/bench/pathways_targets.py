"""What experts as dataflow must reach, beside what they did."""

from __future__ import annotations

from typing import Any

# Of the time of the best dropless single program, at the sizes of the default settings.
WANTED = {
    "train": {"balanced": 0.70, "skewed": 0.45, "small": 0.30},
    "forward": {"balanced": 0.95, "skewed": 0.70, "small": 1.1},
}


def targets(parts: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Those of the cases that ran.

    Args:
        parts: ratios by `forward` and `train`, and by case.

    Returns:
        [{"name", "value", "wanted" (as text), "met"}].
    """
    return [
        {
            "name": f"{what}, {case}",
            "value": parts[what][case],
            "wanted": f"≤ {limit:.2f}",
            "met": parts[what][case] <= limit,
        }
        for what, cases in WANTED.items()
        for case, limit in cases.items()
        if case in parts.get(what, {})
    ]
