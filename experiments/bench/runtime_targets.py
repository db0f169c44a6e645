"""What the runtime must reach, beside what it did."""

from __future__ import annotations

from typing import Any


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the benchmarks that ran.

    Args:
        results: by benchmark.

    Returns:
        [{"name", "value", "wanted" (as text), "met"}].
    """
    found: list[dict[str, Any]] = []

    def add(name: str, value: float, wanted: str, met: bool) -> None:
        found.append({"name": name, "value": value, "wanted": wanted, "met": met})

    def at_most(name: str, value: float, limit: float) -> None:
        add(name, value, f"≤ {limit:g}", value <= limit)

    def at_least(name: str, value: float, limit: float) -> None:
        add(name, value, f"≥ {limit:g}", value >= limit)

    dispatch = results.get("dispatch", {})
    if dispatch:
        at_most("chained, µs a node above jit calls", dispatch["chained_over_calls"], 15.0)
    if "ray_actors_over_chained" in dispatch:
        at_least("Ray actors over chained", dispatch["ray_actors_over_chained"], 20.0)
    if "ray_compiled_over_chained" in dispatch:
        at_least("Ray compiled graph over chained", dispatch["ray_compiled_over_chained"], 3.0)
    for row in results.get("clients", {}).get("rows", ()):
        if row["clients"] == 8:
            at_least("8 clients over one", row["of_one"], 0.95)
    for row in results.get("shares", {}).get("rows", ()):
        weights = ":".join(map(str, row["weights"]))
        at_most(f"shares {weights}, furthest from its weight", row["error"], 0.05)
    for row in results.get("spmd", {}).get("rows", ()):
        what = f"step as one node over jit, {row['devices']} device(s)"
        at_least(what, row["ratio"], 0.99)
    return found
