"""How sure zero-shot is of its names, on numbers that can be checked by hand."""

import math

import numpy as np
import pytest
from byways.experiments.evaluation.confidence import (
    calibration_by_share,
    inverse_temperature,
    top_probabilities,
)
from byways.models import ModelConfig, TwoTowerConfig


def test_the_temperature_is_what_training_learnt_up_to_its_bound():
    params = {"log_scale": np.float32(math.log(20.0))}
    assert inverse_temperature(ModelConfig(), params) == pytest.approx(20.0)
    params = {"log_scale": np.float32(9.0)}
    assert inverse_temperature(ModelConfig(), params) == 100.0
    free = TwoTowerConfig(max_scale=None)
    assert inverse_temperature(free, params) == pytest.approx(math.exp(9.0))


def test_probabilities_are_of_all_candidates_not_of_the_shown_ones():
    # Cosines 1, 0, 0, 0 at scale ln 3: 3 / (3 + 1 + 1 + 1) and 1 / 6.
    scores = np.array([[0.0, 1.0, 0.0, 0.0]], np.float32)
    found = top_probabilities(scores, np.array([[1, 0]]), math.log(3.0))
    np.testing.assert_allclose(found, [[1 / 2, 1 / 6]])
    # A large scale neither overflows nor divides by zero.
    found = top_probabilities(scores, np.array([[1, 0]]), 1e4)
    np.testing.assert_allclose(found, [[1.0, 0.0]])


def test_calibration_tells_known_from_held_out():
    # Always 3/4 sure (scale ln 3, two candidates); of the known right twice, of the other never.
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    target, held_out = np.array([0, 1, 1]), np.array([False, False, True])
    found = calibration_by_share(scores, target, held_out, math.log(3.0))
    assert found["seen"]["error"] == pytest.approx(1 / 4)
    assert found["held_out"]["error"] == pytest.approx(3 / 4)
    assert found["all"]["confidence"] == pytest.approx(3 / 4)
    assert found["all"]["accuracy"] == pytest.approx(2 / 3)
    assert [b["count"] for b in found["all"]["bins"]] == [3]
    assert found["all"]["bins"][0]["accuracy"] == pytest.approx(2 / 3)
    assert "held_out" not in calibration_by_share(scores, target, held_out & False, 1.0)
