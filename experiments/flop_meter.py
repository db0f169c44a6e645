"""What a run's steps make of the machine's peak, line by line of its log."""

from __future__ import annotations

import numpy as np

from .config import ExperimentConfig
from .peak_flops import peak_flops
from .utilisation import Texts, limoe_flops, utilisation


class FlopMeter:
    """Counts FLOPs of batches between two readings.

    Args:
        config: of the run.
        peak: FLOP/s of all its devices; None asks `peak_flops` when first needed.
    """

    def __init__(self, config: ExperimentConfig, peak: float | None = None):
        self._config = config
        self._peak, self._asked = peak, peak is not None
        self._examples = self._tokens = self._squares = 0

    def prepare(self) -> None:
        """Look up the peak, or measure it; takes a fraction of a second on a CPU."""
        if not self._asked:
            import jax

            used = jax.local_devices()[: self._config.devices or None]
            self._peak, self._asked = peak_flops(used), True

    def add(self, text_mask: np.ndarray) -> None:
        """Count a batch, by its text's real pieces, (B, N) bool."""
        lengths = text_mask.sum(axis=1, dtype=np.int64)
        self._examples += len(lengths)
        self._tokens += int(lengths.sum())
        self._squares += int((lengths**2).sum())

    def read(self, seconds: float) -> dict[str, float]:
        """`mfu` and `hfu` since the last reading, shares of the peak; empty where none is known."""
        self.prepare()
        counted = (self._examples, Texts(self._tokens, self._squares))
        self._examples = self._tokens = self._squares = 0
        if self._peak is None or not seconds > 0:
            return {}
        again = self._config.loss.chunks > 1
        needed, done = limoe_flops(self._config.model, *counted, rematerialised=again)
        return {
            "mfu": utilisation(1 / seconds, needed, self._peak),
            "hfu": utilisation(1 / seconds, done, self._peak),
        }
