"""Chance and the pixel matcher against by-hand values, simulation and brute force."""

import json

import numpy as np
import pytest
from byways.experiments.evaluation import (
    chance_top_k,
    dense_twin_record,
    label_ranks,
    pixel_scores,
)


def test_chance_by_hand_and_by_simulation():
    assert chance_top_k(830, (1, 5)) == {
        "top1": pytest.approx(1 / 830),
        "top5": pytest.approx(5 / 830),
    }
    assert chance_top_k(3, (1, 5)) == {"top1": pytest.approx(1 / 3), "top5": 1.0}
    # Two right answers of 4, k = 2: 1 - C(2,2)/C(4,2) = 5/6. A query of each kind: 2/3.
    assert chance_top_k(4, (2,), [2], "r") == {"r2": pytest.approx(5 / 6)}
    assert chance_top_k(4, (2,), [1, 2], "r") == {"r2": pytest.approx((1 / 2 + 5 / 6) / 2)}
    rng = np.random.default_rng(0)
    ranks = label_ranks(rng.random((20000, 9)), np.tile([[0, 3, 4]], (20000, 1)))
    assert chance_top_k(9, (2,), [3])["top2"] == pytest.approx(np.mean(ranks < 2), abs=0.01)


def test_pixel_scores_equal_brute_force_whatever_the_chunks():
    rng = np.random.default_rng(1)
    queries = rng.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    drawings = rng.integers(0, 256, (20, 4, 4, 3)).astype(np.uint8)
    classes = rng.integers(-1, 7, 20)
    expected = np.full((6, 9), -np.inf)
    for i, query in enumerate(queries):
        for drawing, c in zip(drawings, classes, strict=True):
            if c >= 0:
                r = np.corrcoef(query.ravel(), drawing.ravel())[0, 1]
                expected[i, c] = max(expected[i, c], r)
    for columns in (1, 3, 100):
        scores = pixel_scores(queries, drawings, classes, 9, columns)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_flat_picture_correlates_with_nothing():
    flat = np.full((1, 2, 2, 3), 255, np.uint8)
    drawing = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert pixel_scores(flat, drawing, np.array([0]), 1) == [[0.0]]
    assert pixel_scores(drawing, drawing, np.array([0]), 1) == pytest.approx(1.0)


def test_a_dense_twin_is_recorded_from_its_run(tmp_path):
    def write(placement):
        model = {"moe": {"placement": placement}}
        config = {"preset": "p", "config": {"seed": 3, "model": model}}
        (tmp_path / "config.json").write_text(json.dumps(config))

    results = {
        "format": 1,
        "run": "runs/twin",
        "step": 9,
        "templates": {"name": "label", "sha256": "0"},
        "class_names_sha256": "1",
        "noto": {"all": {"top1": 0.5}},
        "retrieval": {},
        "baselines": {"chance": {}},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    write("none")
    record = dense_twin_record(tmp_path)
    assert (record["preset"], record["seed"], record["step"]) == ("p", 3, 9)
    assert record["scores"] == {"noto": {"all": {"top1": 0.5}}, "retrieval": {}}
    write("every")
    with pytest.raises(ValueError, match=r"moe\.placement 'every'"):
        dense_twin_record(tmp_path)
