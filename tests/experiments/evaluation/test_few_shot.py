"""Few-shot ridge regression: a direct solution, the choice of the support and of λ."""

from __future__ import annotations

import dataclasses

import byways.experiments.evaluation as evaluation
import numpy as np
import pytest
from byways.datasets import LabelledImages
from byways.experiments.evaluation import Features, FewShotProtocol

LAMBDAS = tuple(2.0**power for power in range(-10, 20))


def split(seed: int, many: int, classes: int = 3, width: int = 6, noise: float = 1.0) -> Features:
    """Points about the corners of a cube."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, many)
    features = np.eye(classes, width)[labels] * 2 + noise * rng.normal(size=(many, width))
    return Features(features.astype(np.float32), labels)


def direct(x, y, classes, new, lam):
    """The protocol, written out once more."""
    mean, std = x.astype(np.float64).mean(0), x.astype(np.float64).std(0) + 1e-5
    x, new = (np.append((a - mean) / std, np.full((len(a), 1), 100.0), 1) for a in (x, new))
    targets = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    return new @ np.linalg.solve(x.T @ x + lam * np.eye(x.shape[1]), x.T @ targets)


@pytest.mark.parametrize("many", [4, 7, 40])  # fewer rows than features, as many, more
def test_ridge_is_the_direct_solution_for_every_lambda(many):
    support, test = split(many, many), split(99, 20)
    fit = evaluation.Ridge(support.features, support.labels, 3)
    for lam in LAMBDAS[::6]:
        expected = direct(support.features, support.labels, 3, test.features, lam)
        np.testing.assert_allclose(fit.scores(test.features, lam), expected, rtol=1e-6, atol=1e-7)


def test_the_support_is_the_published_choice():
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    rng = np.random.default_rng(5)
    expected = [rng.permutation([1, 3, 5, 7]), rng.permutation([0, 2, 4, 6])]
    for shots in (1, 3):
        found = evaluation.choose_support(labels, 2, shots, seed=5)
        assert found.tolist() == [*expected[0][:shots], *expected[1][:shots]]


def test_a_class_with_too_few_images_is_named():
    labels = np.array([0, 0, 2, 2])
    with pytest.raises(ValueError, match="class 1 has 0 training images, fewer than the 1"):
        evaluation.choose_support(labels, 3, 1, 0)


def test_lambda_is_chosen_on_validation_and_scored_on_test():
    support, validation, test = split(1, 60), split(2, 40), split(3, 50)
    protocol = FewShotProtocol(shots=(2, 5), seeds=(0, 1))
    rows = evaluation.few_shot_rows(support, validation, test, protocol)
    assert [(row.shots, row.classes, row.chosen_on) for row in rows] == [
        (2, 3, "validation"),
        (5, 3, "validation"),
    ]
    for row in rows:

        def hits(where, lam, seed, shots=row.shots):
            chosen = evaluation.choose_support(support.labels, 3, shots, seed)
            x, y = support.features[chosen], support.labels[chosen]
            guess = direct(x, y, 3, where.features, lam).argmax(1)
            return int((guess == where.labels).sum())

        on_validation = [sum(hits(validation, lam, s) for s in (0, 1)) for lam in LAMBDAS]
        best = max(range(30), key=lambda i: (on_validation[i], i))
        assert row.lam == LAMBDAS[best]
        assert [one.hits[0] for one in row.of_seed] == [hits(test, row.lam, s) for s in (0, 1)]
        assert row.test.hits[0] == sum(one.hits[0] for one in row.of_seed)
        assert row.test.count == 100
        assert row.as_dict()["accuracy"] == row.test.hits[0] / 100

    peeking = dataclasses.replace(protocol, choose_on="test")
    theirs = evaluation.few_shot_rows(support, None, test, peeking)
    assert {row.chosen_on for row in theirs} == {"test"}
    assert all(a.test.hits >= b.test.hits for a, b in zip(theirs, rows, strict=True))


def test_one_lambda_is_fixed_and_needs_no_validation():
    protocol = dataclasses.replace(evaluation.BIG_VISION, shots=(1,))
    (row,) = evaluation.few_shot_rows(split(1, 30), None, split(3, 10), protocol)
    assert (row.lam, row.chosen_on, len(row.of_seed)) == (1024, "fixed", 3)


def test_several_labels_may_be_right_and_ties_are_not():
    support = split(1, 30, noise=0.01)
    test = split(3, 10, noise=0.01)
    either = np.stack([test.labels, np.full(10, -1)], 1)
    wrong = np.stack([(test.labels + 1) % 3, np.full(10, -1)], 1)
    protocol = FewShotProtocol(shots=(2,), lambdas=(1.0,))

    def hits(test):
        return evaluation.few_shot_rows(support, None, test, protocol)[0].test.hits[0]

    assert hits(Features(test.features, either)) == 10
    assert hits(Features(test.features, wrong)) == 0
    assert hits(Features(test.features, np.stack([wrong[:, 0], test.labels], 1))) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": None}, "no validation split to choose λ on"),
        ({"test": Features(np.zeros((2, 5)), np.zeros(2, int))}, "test has 5 features an image"),
        ({"test": Features(np.zeros((2, 6)), np.zeros(3, int))}, "2 features and 3 labels"),
        ({"test": Features(np.full((1, 6), np.nan), np.zeros(1, int))}, "not finite"),
        ({"support": Features(np.zeros((2, 6)), np.array([-1, 0]))}, "labels go from -1"),
        ({"support": Features(np.zeros((0, 6)), np.zeros(0, int))}, "no images"),
        ({"support": Features(np.zeros((2, 6)), np.zeros((2, 1), int))}, r"shape \(2, 1\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, message):
    splits = {"support": split(1, 40), "validation": split(2, 4), "test": split(3, 4)}
    with pytest.raises(ValueError, match=message):
        evaluation.few_shot_rows(**(splits | change), protocol=FewShotProtocol(shots=(2,)))


@pytest.mark.parametrize("change", [{"shots": ()}, {"shots": (0,)}, {"lambdas": (0.0, 1.0)}])
def test_protocols_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        FewShotProtocol(**change)


def test_of_a_classifier_it_is_the_same_with_few_images_embedded():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 70).astype(np.int32)
    images = (60 * labels[:, None, None] + rng.integers(0, 90, (70, 8, 8))).astype(np.uint8)
    splits = {"train": np.arange(40), "validation": np.arange(40, 50), "test": np.arange(50, 70)}
    data = LabelledImages(images, labels, ("a", "b", "c"), splits)
    seen = []

    def features(batch):
        seen.append(batch["id"][batch["mask"]])
        assert batch["image"].shape == (16, 8, 8, 3)
        return batch["image"][:, ::4, ::4, 0].reshape(16, -1).astype(np.float32)

    protocol = FewShotProtocol(shots=(1, 3), seeds=(0, 1))
    found = evaluation.few_shot_of_classifier(features, data, 8, protocol, batch_size=16)
    embedded = np.concatenate(seen)
    assert len(embedded) == len(set(embedded.tolist())) < 70

    def whole(name):
        return Features(
            images[splits[name]][:, ::4, ::4].reshape(-1, 4).astype(np.float32),
            labels[splits[name]],
        )

    expected = evaluation.few_shot_rows(*map(whole, ("train", "validation", "test")), protocol)
    assert found == expected
