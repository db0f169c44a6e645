"""Counts of tokens and pairs, against sums by hand."""

import math

import numpy as np
import pytest
from byways.experiments.evaluation.ngrams import NGrams, segments_of, targets_of


def batch(tokens, segments):
    return {"tokens": np.array(tokens, np.int32), "segments": np.array(segments, np.int32)}


TRAIN = batch([[0, 1, 1, 0, 2]], [[1, 1, 1, 2, 2]])


def test_targets_stay_within_their_text():
    assert targets_of(TRAIN).tolist() == [[True, True, False, True]]
    assert targets_of(batch([[0, 1, 0]], [[1, 1, 0]])).tolist() == [[True, False]]
    assert list(segments_of(TRAIN)) == [[0, 1, 1], [0, 2]]


def test_probabilities_are_counts_with_something_for_the_unseen():
    grams = NGrams.of([TRAIN, TRAIN], 3)
    # Targets, twice each: 0→1, 1→1, 0→2; so 1 came four times, 2 twice, 0 never.
    np.testing.assert_allclose(grams.one, np.array([1, 5, 3]) / 9)
    np.testing.assert_allclose(grams.two[0], (np.array([0, 2, 2]) + grams.one) / 5)
    # After 2 nothing ever came: what is left are the tokens' own frequencies.
    np.testing.assert_allclose(grams.two[2], grams.one)
    np.testing.assert_allclose(grams.two.sum(axis=1), 1.0)
    found = grams.entropies([batch([[0, 2, 1]], [[1, 1, 1]])])
    assert found["unigram"] == pytest.approx(-(math.log(3 / 9) + math.log(5 / 9)) / 2)
    by_hand = -(math.log((2 + 3 / 9) / 5) + math.log(5 / 9)) / 2
    assert found["bigram"] == pytest.approx(by_hand)


def test_nothing_to_foretell_is_refused():
    with pytest.raises(ValueError, match="no tokens"):
        NGrams.of([TRAIN], 3).entropies([batch([[0, 1]], [[1, 2]])])
