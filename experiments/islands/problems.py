"""What a config must be for training over islands; imports neither JAX nor Flax."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import Experiment


def island_problems(config: Experiment) -> Iterator[str]:
    """Why a config cannot be trained over its islands."""
    islands, batch = config.islands, config.batch_size
    if islands is None or islands < 1:
        return  # its range is told elsewhere
    if batch % islands:
        fits = [n for n in range(1, min(batch, 2 * islands) + 1) if batch % n == 0]
        nearest = min(fits, key=lambda n: (abs(n - islands), n))
        yield (
            f"islands is {islands}, into which batch_size {batch} does not divide: an island has "
            f"batch_size / islands examples; the nearest that fits: {nearest}"
        )
    if config.devices > 1:
        yield (
            f"devices is {config.devices} with islands {islands}: an island computes on one "
            "device; leave --devices out, and take more islands"
        )
    if config.execution != "fused":
        yield (
            f"execution is {config.execution!r} with islands {islands}: each island runs the whole "
            "model as one program; leave --execution or --islands out"
        )
