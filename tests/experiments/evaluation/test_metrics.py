"""Ranks and top-k states against brute force and by hand."""

import numpy as np
import pytest
from byways.experiments.evaluation import TopK, label_ranks, similarities, top_candidates
from byways.experiments.evaluation.metrics import distinct_rows


def brute_top_k(scores, labels, k):
    """Hits by sorting, wrong answers placed before right ones of the same score."""
    hits = 0
    for row, right in zip(scores, labels, strict=True):
        right = {int(i) for i in right if i >= 0}
        order = sorted(range(len(row)), key=lambda j: (-row[j], j in right))
        hits += any(j in right for j in order[:k])
    return hits


def test_ranks_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.5, 0.5, 0.5], [0.9, 0.9, 0.1]])
    # Row 0: the best is right. Row 1: two wrong ones above. Row 2: a constant model is
    # last, not first. Row 3: tied with one wrong candidate, so second.
    labels = np.array([[0], [2], [1], [1]])
    np.testing.assert_array_equal(label_ranks(scores, labels), [0, 2, 2, 1])


def test_several_right_answers_do_not_block_each_other():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]])
    # 1 and 2 are right: only candidate 0 is a wrong one above the best of them.
    assert label_ranks(scores, np.array([[2, 1, -1]])) == [1]
    # Two right answers of equal score are no tie against the model.
    assert label_ranks(np.array([[0.5, 0.5, 0.1]]), np.array([[0, 1]])) == [0]


@pytest.mark.parametrize("levels", [3, 1000])
def test_top_k_equals_brute_force(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (64, 13)).astype(np.float32)
    labels = rng.integers(-1, 13, (64, 3))
    labels[:, 0] = rng.integers(0, 13, 64)
    state = TopK.from_ranks(label_ranks(scores, labels), (1, 5, 10))
    assert state.count == 64
    assert state.hits == tuple(brute_top_k(scores, labels, k) for k in (1, 5, 10))


def test_merged_states_equal_the_whole_where_averaged_averages_do_not():
    rng = np.random.default_rng(0)
    ranks = rng.integers(0, 8, 50)
    whole = TopK.from_ranks(ranks, (1, 5))
    parts = [TopK.from_ranks(part, (1, 5)) for part in (ranks[:7], ranks[7:40], ranks[40:])]
    assert sum(parts, TopK.empty((1, 5))) == whole
    # A ragged last batch by hand: 4 of 4 and 0 of 1 are 4/5, not the mean of 1 and 0.
    ragged = TopK.from_ranks(np.zeros(4, int), (1,)) + TopK.from_ranks(np.array([3]), (1,))
    assert ragged.fractions() == {"top1": 0.8}


def test_padding_rows_count_nowhere():
    scores = np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]])
    mask = np.array([True, False, True])
    ranks = label_ranks(scores, np.array([[0], [-1], [0]]), mask)
    assert TopK.from_ranks(ranks, (1,), mask) == TopK((1,), (1,), 2)


def test_a_label_that_can_never_be_named_is_never_a_hit():
    # The pixel matcher scores -inf for classes that it never saw; all of them tie.
    scores = np.array([[0.3, -np.inf, -np.inf]])
    assert label_ranks(scores, np.array([[1]])) == [2]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        label_ranks(np.array([[np.nan, 0.0]]), np.array([[0]]))
    with pytest.raises(ValueError, match=r"rows \[1\] have no label"):
        label_ranks(np.eye(2), np.array([[0], [-1]]))
    with pytest.raises(ValueError, match="label 2 names no candidate"):
        label_ranks(np.eye(2), np.array([[0], [2]]))
    with pytest.raises(ValueError, match="no examples"):
        TopK.empty((1,)).fractions()
    with pytest.raises(ValueError, match="do not merge"):
        TopK.empty((1,)) + TopK.empty((1, 5))


def test_top_candidates_are_sorted_with_ties_by_index():
    scores = np.array([[0.1, 0.7, 0.7, 0.2]])
    np.testing.assert_array_equal(top_candidates(scores, 3), [[1, 2, 3]])


def test_equal_vectors_score_equal():
    # A shape at which a matrix product alone rounds its last columns another way.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 96)).astype(np.float32)
    name = rng.normal(size=(1, 96)).astype(np.float32)
    scores = similarities(images, np.repeat(name, 37, axis=0))
    assert (scores == scores[:, :1]).all()
    ranks = label_ranks(scores, np.array([[0], [17], [36]]))
    assert ranks.tolist() == [36, 36, 36]
    # The same of equal images, which average precision ranks.
    scores = similarities(np.repeat(images[:1], 37, axis=0), rng.normal(size=(5, 96)))
    assert (scores == scores[:1]).all()


def test_similarities_are_the_product():
    rng = np.random.default_rng(1)
    queries, candidates = rng.normal(size=(11, 7)), rng.normal(size=(9, 7))
    again = candidates[[0, 3, 0, 8, 8, 1]]
    np.testing.assert_allclose(similarities(queries, again), queries @ again.T, atol=1e-12)
    assert (similarities(queries, candidates) == queries @ candidates.T).all()
    assert similarities(np.zeros((0, 7)), candidates).shape == (0, 9)
    rows, of = distinct_rows(np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 1.0]]))
    assert (len(rows), of[0] == of[1], rows[of[2]].tolist()) == (2, True, [2.0, 1.0])
