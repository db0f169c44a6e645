"""Scores of a classifier: exact integers, merged in any order; a V-MoE under other settings."""

from __future__ import annotations

import functools

import byways.experiments.evaluation as evaluation
import jax
import numpy as np
import pytest
from byways.experiments.evaluation import ClassScores
from byways.models import MoeConfig, Vmoe, VmoeConfig

LOGITS = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 6, 40)  # nothing is of class 6


def test_it_counts_as_a_plain_loop_does():
    state = ClassScores.of_batch(LOGITS, LABELS)
    order = np.argsort(-LOGITS, axis=1)
    first, five = (order[:, 0] == LABELS).sum(), (order[:, :5] == LABELS[:, None]).any(1).sum()
    assert (state.top.hits, state.top.count) == ((first, five), 40)
    confusion = np.zeros((7, 7), int)
    for true, predicted in zip(LABELS, order[:, 0], strict=True):
        confusion[true, predicted] += 1
    assert np.array_equal(state.confusion(), confusion)
    expected = [confusion[c, c] / confusion[c].sum() for c in range(6)]
    np.testing.assert_allclose(state.of_class(), [*expected, np.nan])
    summary = state.summary()
    assert summary["mean_of_classes"] == pytest.approx(np.mean(expected))
    share = np.exp(LOGITS.astype(float))
    sure = (share / share.sum(1, keepdims=True)).max(1)
    error = 0.0
    for i in range(15):
        inside = (sure >= i / 15) & (sure < (i + 1) / 15)
        error += abs((order[inside, 0] == LABELS[inside]).sum() - sure[inside].sum())
    assert summary["calibration_error"] == pytest.approx(error / 40, abs=1e-8)


def equal(left: ClassScores, right: ClassScores) -> bool:
    arrays = ("cells", "cell_count", "bin_count", "bin_hits", "bin_confidence")
    same = all(np.array_equal(getattr(left, a), getattr(right, a)) for a in arrays)
    return same and (left.classes, left.top) == (right.classes, right.top)


def test_parts_merge_to_the_whole_in_any_order_and_padding_counts_nowhere():
    whole = ClassScores.of_batch(LOGITS, LABELS)
    parts = []
    for start in (0, 16, 32):
        logits, labels, mask = np.full((16, 7), np.nan, np.float32), np.full(16, -1), np.arange(16)
        many = min(16, 40 - start)
        logits[:many], labels[:many] = LOGITS[start:][:many], LABELS[start:][:many]
        parts.append(ClassScores.of_batch(logits, labels, mask < many))
    for order in (parts, parts[::-1]):
        assert equal(sum(order, start=ClassScores.empty(7)), whole)
    with pytest.raises(ValueError, match=r"\(7, 15\) and \(8, 15\) do not merge"):
        whole + ClassScores.empty(8)


def test_several_labels_ties_and_rows_without_any():
    logits = np.array([[3, 2, 1], [1, 1, 0], [0, 5, 4]], np.float32)
    labels = np.array([[2, 0], [0, -1], [2, 0]])
    state = ClassScores.of_batch(logits, labels)
    # A hit under class 0; a tie, which is class 1 for class 0; a miss under its first label.
    assert state.confusion().tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert state.top.hits == (1, 3)
    with pytest.raises(ValueError, match="no label"):
        ClassScores.of_batch(logits, np.full((3, 2), -1))
    with pytest.raises(ValueError, match="no examples were counted"):
        ClassScores.empty(3).summary()


CONFIG = VmoeConfig(
    image_size=8,
    patch_size=4,
    width=8,
    hidden=12,
    depth=1,
    heads=2,
    num_classes=3,
    moe=MoeConfig(n=1, num_experts=4, selected=1),
)


@functools.cache
def params():
    blank = np.zeros((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(Vmoe(CONFIG).init, jax.random.key(0), blank)["params"]
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return tree.unflatten([rng.normal(size=x.shape).astype(np.float32) for x in leaves])


def batches():
    rng = np.random.default_rng(0)
    for real in (8, 5):
        yield {
            "image": rng.integers(0, 256, (8, 8, 8, 3), np.uint8),
            "label": rng.integers(0, 3, 8).astype(np.int32),
            "mask": np.arange(8) < real,
        }


def test_a_model_under_other_settings():
    settings = [(None, None), (4, 0.25)]
    plain, limited = evaluation.evaluate_settings(CONFIG, params(), batches, settings)
    assert (plain.selected, plain.capacity_factor) == (1, None)
    assert (limited.selected, limited.capacity_factor) == (4, 0.25)
    assert plain.scores.top.count == limited.scores.top.count == 13
    assert not np.array_equal(plain.scores.bin_confidence, limited.scores.bin_confidence)
    rows = [plain.as_dict(), limited.as_dict()]
    assert rows[0]["top5"] == 1
    cells = [list(column.cells) for column in evaluation.settings_table(rows).columns]
    assert cells[:2] == [["1", "4"], ["dropless", "0.25"]]


def test_features_are_what_the_head_reads():
    features = evaluation.vmoe_features(CONFIG, params())
    found = evaluation.collect_features(features, batches())
    assert found.features.shape == (13, 8)
    logits = evaluation.collect_features(evaluation.vmoe_logits(CONFIG, params()), batches())
    head = params()["head"]
    expected = found.features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits.features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("router", "setting", "message"),
    [
        ("top_k", (5, None), "selected=5: a token chooses 1 to 4"),
        ("top_k", (0, None), "selected=0"),
        ("top_k", (None, 0.0), "capacity_factor=0.0"),
        ("soft", (2, None), "'soft' has no K"),
    ],
)
def test_settings_that_cannot_be_are_refused(router, setting, message):
    with pytest.raises(ValueError, match=message):
        evaluation.eval_settings(MoeConfig(num_experts=4, router=router), *setting)


def test_a_few_shot_table_says_where_lambda_was_chosen():
    row = {"shots": 5, "lambda": 1024.0, "accuracy": 0.5, "of_seed": [0.25, 0.75]}
    table = evaluation.few_shot_table([{**row, "chosen_on": "test"}])
    assert table.caption == "λ chosen on: test (has seen the answers)"
    assert [next(iter(column.cells)) for column in table.columns] == [
        "5", "2^10", "50.00", "25.00–75.00"
    ]  # fmt: skip
