"""What a run's steps make of the machine's peak, line by line of its log."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .peak_flops import peak_flops
from .utilisation import utilisation


class FlopMeter:
    """Counts FLOPs of batches between two readings.

    Args:
        count: model and hardware FLOPs of a training step on a batch.
        devices: how many local devices the run uses; 0 is all.
        peak: FLOP/s of all its devices; None asks `peak_flops` when first needed.
    """

    def __init__(
        self,
        count: Callable[[dict[str, np.ndarray]], tuple[float, float]],
        devices: int = 0,
        peak: float | None = None,
    ):
        self._count, self._devices = count, devices
        self._peak, self._asked = peak, peak is not None
        self._needed = self._done = 0.0

    def prepare(self) -> None:
        """Look up the peak, or measure it; takes a fraction of a second on a CPU."""
        if not self._asked:
            import jax

            used = jax.local_devices()[: self._devices or None]
            self._peak, self._asked = peak_flops(used), True

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Count a batch, as the data gives it."""
        needed, done = self._count(batch)
        self._needed += needed
        self._done += done

    def read(self, seconds: float) -> dict[str, float]:
        """`mfu` and `hfu` since the last reading, shares of the peak; empty where none is known."""
        self.prepare()
        needed, done = self._needed, self._done
        self._needed = self._done = 0.0
        if self._peak is None or not seconds > 0:
            return {}
        return {
            "mfu": utilisation(1 / seconds, needed, self._peak),
            "hfu": utilisation(1 / seconds, done, self._peak),
        }
