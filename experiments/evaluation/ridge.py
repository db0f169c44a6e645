"""Ridge regression on frozen features, one decomposition for every λ, in float64.

Features are whitened by the support's mean and standard deviation, joined by a constant of
100 (a bias that λ hardly touches), and regressed onto targets of ±1: what V-MoE's code and
big_vision's evaluator do (there in float32).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

_LEAST_STD = 1e-5
_BIAS = 100.0


class Ridge:
    """W = (XᵀX + λI)⁻¹XᵀY for any λ, or Xᵀ(XXᵀ + λI)⁻¹Y where there are fewer rows than features.

    Args:
        features: (N, F) of the support.
        labels: (N,) in 0..classes-1.
        classes: C, how many scores a row gets.
    """

    def __init__(
        self, features: Float[np.ndarray, "N F"], labels: Int[np.ndarray, "N"], classes: int
    ):
        x = features.astype(np.float64)
        self._mean = x.mean(axis=0)
        self._std = x.std(axis=0) + _LEAST_STD
        x = self._whitened(x)
        y = 2.0 * (labels[:, None] == np.arange(classes)) - 1.0
        if x.shape[0] >= x.shape[1]:
            eigenvalues, self._left = np.linalg.eigh(x.T @ x)
            self._right = self._left.T @ (x.T @ y)
        else:
            eigenvalues, q = np.linalg.eigh(x @ x.T)
            self._left, self._right = x.T @ q, q.T @ y
        # Zero ones come out as small negative numbers.
        self._eigenvalues = np.maximum(eigenvalues, 0)

    def scores(self, features: Float[np.ndarray, "M F"], lam: float) -> Float[np.ndarray, "M C"]:
        """(M, C) float64 predictions of the targets, the largest being the class."""
        inner = self._whitened(features.astype(np.float64)) @ self._left
        return (inner / (self._eigenvalues + lam)) @ self._right

    def _whitened(self, features: Float[np.ndarray, "M F"]) -> Float[np.ndarray, "M F+1"]:
        x = (features - self._mean) / self._std
        return np.pad(x, ((0, 0), (0, 1)), constant_values=_BIAS)
