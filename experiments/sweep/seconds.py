"""How long a run trained, over all of its starts."""

from __future__ import annotations

from pathlib import Path

from ..metrics_log import read_lines
from ..run_folder import RunFolder


def train_seconds(folder: Path) -> float:
    """Seconds from each start to its last metric line that counts, added up.

    What a killed start did after its last checkpoint was done again, and counts once.
    """
    total = last = 0.0
    for line in read_lines(RunFolder(folder).metrics_file):
        now, since = (line["times"].get(name) for name in ("since_start", "seconds"))
        if line["kind"] != "train" or now is None:
            continue
        # Another start's clock: it went back, or less far than what the line alone took.
        if now - last < max(0.0, 0.9 * (since or 0.0) - 0.05):
            total += last
        last = now
    return total + last
