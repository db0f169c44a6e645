"""Linear probe: multinomial logistic regression on frozen features, λ chosen on validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .features import Features
from .metrics import TopK, label_ranks

_LEAST_STD = 1e-5


@dataclasses.dataclass(frozen=True)
class ProbeProtocol:
    """How a probe is fitted.

    Attributes:
        lambdas: strengths of the penalty λ/2 |W|² beside the mean cross-entropy (nats). The
            one with the most hits on validation is taken, of equal ones the largest; with one
            alone nothing is chosen.
        tolerance: the largest entry of the gradient that counts as none.
        iterations: L-BFGS stops here even so.
    """

    lambdas: tuple[float, ...] = tuple(10.0**power for power in range(-6, 2))
    tolerance: float = 1e-5
    iterations: int = 1000

    def __post_init__(self):
        if not self.lambdas or not min(self.lambdas) > 0:
            raise ValueError(f"lambdas {self.lambdas}: expected one or more, above 0")


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted classifier of features.

    Attributes:
        kernel, bias: (F, C) and (C,) float64, of whitened features.
        mean, std: (F,) of the training features.
        gradient: the largest entry of the gradient where the fit stopped, in the fit's coordinates.
        steps: of L-BFGS.
    """

    kernel: Float[np.ndarray, "F C"]
    bias: Float[np.ndarray, "C"]
    mean: Float[np.ndarray, "F"]
    std: Float[np.ndarray, "F"]
    gradient: float
    steps: int

    def logits(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N C"]:
        """Of each class, up to a constant a row."""
        return ((features - self.mean) / self.std) @ self.kernel + self.bias


def fit_probe(
    train: Features,
    classes: int,
    lam: float,
    protocol: ProbeProtocol | None = None,
    start: Probe | None = None,
) -> Probe:
    """The minimum over W and b of mean cross-entropy + λ/2 |W|², which is one point of W.

    Features are whitened by the training split's mean and standard deviation; the bias is free.

    Args:
        train: features and (N,) labels.
        classes: C.
        lam: λ.
        protocol: when to stop.
        start: a fit of another λ to begin with; the minimum does not depend on it.
    """
    from scipy.optimize import minimize

    protocol = protocol or ProbeProtocol()
    x = train.features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0) + _LEAST_STD
    x = (x - mean) / std
    many, width = x.shape
    # L-BFGS would creep along the valleys of correlated features. In coordinates where the
    # curvature is near one everywhere the minimum is the same, and tens of steps away.
    eigenvalues, axes = np.linalg.eigh(x.T @ x / many)
    curvature = np.maximum(eigenvalues, 0.0) * (classes - 1) / classes**2 + lam
    into = axes / np.sqrt(curvature)
    x = x @ into
    penalty = (lam / curvature)[:, None]
    target = np.zeros((many, classes))
    target[np.arange(many), train.labels] = 1.0

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        logits = x @ kernel + bias
        logits -= logits.max(axis=1, keepdims=True)
        chosen = np.sum(logits * target)
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        value = (np.sum(np.log(total)) - chosen) / many + np.sum(penalty * kernel**2) / 2
        logits /= total
        logits -= target
        slope = x.T @ logits / many + penalty * kernel
        return float(value), np.concatenate([slope.ravel(), logits.mean(axis=0)])

    first = np.zeros((width + 1) * classes)
    if start is not None:
        back = np.sqrt(curvature)[:, None] * (axes.T @ start.kernel)
        first = np.concatenate([back.ravel(), start.bias])
    options = {
        "maxiter": protocol.iterations,
        "maxfun": 2 * protocol.iterations,
        "gtol": protocol.tolerance,
        "ftol": 0.0,
        "maxcor": 20,
    }
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    kernel = into @ found.x[: width * classes].reshape(width, classes)
    gradient = float(np.abs(found.jac).max())
    return Probe(kernel, found.x[width * classes :], mean, std, gradient, int(found.nit))


def score_probe(
    train: Features,
    validation: Features | None,
    test: Features,
    classes: int,
    protocol: ProbeProtocol | None = None,
) -> dict[str, Any]:
    """Fits at every λ, chooses one on validation, and scores it on test, which nothing else sees.

    Args:
        train, validation, test: of one model; validation may be None with a single λ.
        classes: C.
        protocol: the strengths.

    Returns:
        Plain JSON: the λ, what each scored on validation, top 1 and 5 on test.

    Raises:
        ValueError: no images, features that are not finite, labels out of range, or nothing to
            choose λ on.
    """
    protocol = protocol or ProbeProtocol()
    for name, split in (("train", train), ("validation", validation), ("test", test)):
        if split is not None:
            _check(name, split, classes)
    if validation is None and len(protocol.lambdas) > 1:
        raise ValueError("there is no validation split to choose λ on: give one, or a single λ")
    fit: Probe | None = None
    best: tuple[int, float, Probe] | None = None
    tried = []
    # From the strongest, each fit from the one before: few steps apart.
    for lam in sorted(protocol.lambdas, reverse=True):
        fit = fit_probe(train, classes, lam, protocol, fit)
        state = _top(fit, validation, (1,)) if validation is not None else None
        hits = state.hits[0] if state is not None else 0
        tried.append(
            {
                "lambda": lam,
                "validation": state.fractions()["top1"] if state is not None else None,
                "steps": fit.steps,
                "gradient": fit.gradient,
            }
        )
        if best is None or hits > best[0]:
            best = (hits, lam, fit)
    assert best is not None
    ks = tuple(k for k in (1, 5) if k <= classes)
    state = _top(best[2], test, ks)
    trained = _top(best[2], train, (1,))
    return {
        "lambda": best[1],
        "chosen_on": "validation" if len(protocol.lambdas) > 1 else "fixed",
        # A better one may lie beyond.
        "at_edge": best[1] in (min(protocol.lambdas), max(protocol.lambdas)),
        "scores": {**state.fractions(), "n": state.count, "candidates": classes},
        "train_top1": trained.fractions()["top1"],
        "train_images": trained.count,
        "tried": tried,
    }


def _top(fit: Probe, split: Features, ks: Sequence[int]) -> TopK:
    labels = split.labels.reshape(len(split.labels), -1)
    return TopK.from_ranks(label_ranks(fit.logits(split.features), labels), ks)


def _check(name: str, split: Features, classes: int) -> None:
    labels: Int[np.ndarray, "..."] = split.labels
    if len(labels) == 0:
        raise ValueError(f"{name} has no images")
    if not np.isfinite(split.features).all():
        raise ValueError(f"{name} has features that are not finite: the model has diverged")
    if name == "train" and labels.ndim != 1:
        raise ValueError(f"the labels of train have the shape {labels.shape}, expected (N,)")
    if labels.max() >= classes or (name == "train" and labels.min() < 0):
        raise ValueError(
            f"the labels of {name} go from {labels.min()} to {labels.max()}, expected 0 to "
            f"{classes - 1}"
        )
