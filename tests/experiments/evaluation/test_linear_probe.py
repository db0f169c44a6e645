"""The linear probe is the minimum that it says, and sees of the test split nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from byways.experiments.evaluation.features import Features
from byways.experiments.evaluation.linear_probe import ProbeProtocol, fit_probe, score_probe

CLASSES = 3
QUICK = ProbeProtocol(lambdas=(0.001, 0.1, 10.0))


def blobs(many, seed):
    """Correlated features of very different sizes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, many)
    mix = np.random.default_rng(9).normal(size=(6, 6)) * 10.0 ** np.arange(-3, 3)
    raw = rng.normal(size=(many, 6))
    raw[:, :CLASSES] += 1.5 * np.eye(CLASSES)[labels]
    return Features((raw @ mix).astype(np.float32), labels)


@pytest.fixture(scope="module")
def splits():
    return blobs(300, 0), blobs(150, 1), blobs(150, 2)


@pytest.mark.parametrize("lam", [1e-3, 0.1])
def test_the_gradient_is_zero(splits, lam):
    train = splits[0]
    probe = fit_probe(train, CLASSES, lam)
    # By the definition, in the whitened features' own coordinates.
    x = train.features.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
    logits = x @ probe.kernel + probe.bias
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    wrong = (share - np.eye(CLASSES)[train.labels]) / len(x)
    assert np.abs(x.T @ wrong + lam * probe.kernel).max() < 1e-4
    assert np.abs(wrong.sum(axis=0)).max() < 1e-4
    np.testing.assert_allclose(probe.logits(train.features), logits, atol=1e-6)


def test_it_does_not_matter_where_it_begins(splits):
    far = fit_probe(splits[0], CLASSES, 10.0)
    cold, warm = fit_probe(splits[0], CLASSES, 0.01), fit_probe(splits[0], CLASSES, 0.01, None, far)
    np.testing.assert_allclose(cold.kernel, warm.kernel, atol=2e-3)


def test_scores(splits):
    train, validation, test = splits
    found = score_probe(train, validation, test, CLASSES, QUICK)
    assert found == score_probe(train, validation, test, CLASSES, QUICK)
    assert found["scores"]["top1"] > 0.6
    assert found["scores"]["n"] == 150
    assert found["chosen_on"] == "validation"
    best = max(found["tried"], key=lambda one: (one["validation"], one["lambda"]))
    assert found["lambda"] == best["lambda"]
    # λ does not depend on what is scored.
    other = dataclasses.replace(test, labels=(test.labels + 1) % CLASSES)
    moved = score_probe(train, validation, other, CLASSES, QUICK)
    assert moved["lambda"] == found["lambda"]
    assert moved["scores"]["top1"] < 0.3
    alone = score_probe(train, None, test, CLASSES, ProbeProtocol(lambdas=(found["lambda"],)))
    assert (alone["chosen_on"], alone["scores"]["n"]) == ("fixed", 150)


def test_bad_input(splits):
    train, validation, test = splits
    with pytest.raises(ValueError, match="no validation split"):
        score_probe(train, None, test, CLASSES, QUICK)
    broken = dataclasses.replace(test, features=test.features * np.nan)
    with pytest.raises(ValueError, match="test has features that are not finite"):
        score_probe(train, validation, broken, CLASSES, QUICK)
    with pytest.raises(ValueError, match="go from 0 to 2, expected 0 to 1"):
        score_probe(train, validation, test, 2, QUICK)
    with pytest.raises(ValueError, match="above 0"):
        ProbeProtocol(lambdas=(0.0,))
