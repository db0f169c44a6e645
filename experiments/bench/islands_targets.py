"""What islands in other processes must reach, beside what they did."""

from __future__ import annotations

from typing import Any

# µs a node, times of plain Ray, ms of the controller a step, share of the ideal.
NODE, FASTER, CONTROL, IDEAL = 60.0, 20.0, 5.0, 0.85


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

    for row in results.get("chain", {}).get("rows", ()):
        if row["way"] == "island":
            value = row["microseconds"]
            add("a node on an island, µs", value, f"≤ {NODE:g}", value <= NODE)
    if "ray_over_island" in results.get("chain", {}):
        value = results["chain"]["ray_over_island"]
        add("plain Ray over an island, a node", value, f"≥ {FASTER:g}×", value >= FASTER)
    for row in results.get("control", {}).get("rows", ()):
        if row["way"] == "islands":
            value = row["cpu_ms"]
            add("controller's CPU, ms a step", value, f"≤ {CONTROL:g}", value <= CONTROL)
    for row in results.get("pipeline", {}).get("rows", ()):
        value = max(row["gpipe_of_ideal"], row["1f1b_of_ideal"])
        name = f"pipeline of the ideal, M={row['micro_batches']}"
        add(name, value, f"≥ {IDEAL:g}", value >= IDEAL)
    asleep = [row for row in results.get("experts", {}).get("rows", ()) if not row["there"]]
    if asleep:
        most = max(row[what]["there"] for row in asleep for what in ("forward", "train"))
        name = "messages to an island whose experts sleep"
        add(name, float(most), "= 0", most == 0)
    return found
