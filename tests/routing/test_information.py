"""Mutual information of tables and label counts, against loops and known answers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    contingency,
    information_bias,
    mutual_information,
    normalised_information,
    route_expert_choice,
    route_top_k,
)

from . import reference


@jax.jit
def measures(table):
    return mutual_information(table), normalised_information(table), information_bias(table)


def slow(table):
    table = np.asarray(table, np.float64) / np.sum(table)
    total = 0.0
    for a in range(table.shape[0]):
        for b in range(table.shape[1]):
            if table[a, b]:
                total += table[a, b] * math.log(table[a, b] / (table[a].sum() * table[:, b].sum()))
    both = reference.entropy(table.sum(1)) * reference.entropy(table.sum(0))
    return total, total / math.sqrt(both) if both else 0.0


def test_known_answers():
    # The label tells the expert; they are independent; counts in between.
    information, normalised, bias = measures(5.0 * jnp.eye(3))
    assert information == pytest.approx(math.log(3), rel=1e-6)
    assert normalised == pytest.approx(1.0, rel=1e-6)
    assert bias == pytest.approx(2 * 2 / (2 * 15))
    information, normalised, _ = measures(jnp.outer(jnp.asarray([1.0, 2, 3]), jnp.arange(3.0)))
    assert information == pytest.approx(0.0, abs=1e-6)
    assert normalised == pytest.approx(0.0, abs=1e-6)
    # Soft tables need no normalising, not even to a sum above 1.
    table = np.random.default_rng(0).uniform(size=(3, 3)) * (np.eye(3) < 1) * 1e-3
    information, normalised, _ = measures(jnp.asarray(table, jnp.float32))
    assert (information, normalised) == pytest.approx(slow(table), rel=1e-4)


def test_gradients_are_finite_where_there_is_nothing_to_tell():
    slope = jax.jit(jax.grad(lambda table: sum(measures(table)[:2])))
    for table in (jnp.zeros((3, 3)), jnp.ones((3, 3)), jnp.eye(3), jnp.zeros((3, 3)).at[1].set(2)):
        assert np.isfinite(slope(table)).all()


@functools.cache
def counted(layout):
    @jax.jit
    def run(logits, mask, labels, key):
        if layout == "token":
            assignment = route_top_k(logits, mask, selected=2, capacity=4).assignment
        else:
            assignment = route_expert_choice(logits, mask, capacity=4).assignment
        return assignment, contingency(assignment, labels, 3, mask=mask, key=key)

    return run


@pytest.mark.parametrize("layout", ["token", "expert"])
def test_counts_against_loops(layout):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.standard_normal((4, 16, 4)), jnp.float32)
    mask = jnp.asarray(rng.uniform(size=(4, 16)) < 0.8)
    labels = rng.integers(-1, 3, (4, 16))  # -1 is no label
    a, table = counted(layout)(logits, mask, jnp.asarray(labels), jax.random.key(1))
    wanted, kept = np.zeros((3, 4)), np.zeros((3, 4))
    for g in range(4):
        for p in range(a.token.shape[1]):
            label = labels[g, a.token[g, p]]
            if label >= 0:
                wanted[label, a.expert[g, p]] += a.routed[g, p]
                kept[label, a.expert[g, p]] += a.kept[g, p]
    np.testing.assert_array_equal(table.assigned, wanted)
    np.testing.assert_array_equal(table.kept, kept)
    # Dealt anew: the same experts; with K fixed, the same number of each label, too.
    if layout == "token":
        np.testing.assert_array_equal(table.assigned_shuffled.sum(0), wanted.sum(0))
        np.testing.assert_array_equal(table.assigned_shuffled.sum(1), wanted.sum(1))
        assert not np.array_equal(table.assigned_shuffled, wanted)


def test_the_shuffled_baseline_is_what_chance_gives():
    """I of labels that tell nothing is the bias; of those that decide, when shuffled."""
    rng = np.random.default_rng(1)
    run, total = counted("token"), {}
    for call in range(40):
        labels = rng.integers(0, 3, (4, 16))
        noise = rng.standard_normal((4, 16, 4))
        for name, told in (("blind", 0.0), ("told", 9.0)):
            logits = noise + told * (labels[..., None] == np.arange(4))
            _, table = run(
                jnp.asarray(logits, jnp.float32),
                jnp.ones((4, 16), bool),
                jnp.asarray(labels),
                jax.random.key(call),
            )
            total[name] = total[name].merge(table) if name in total else table
    blind, told = total["blind"], total["told"]
    bias = float(measures(blind.assigned)[2])
    assert bias == pytest.approx(3 * 2 / (2 * 40 * 64 * 2))
    # The expectation of a chi-squared variable; these are single draws of it.
    for table in (blind.assigned, blind.assigned_shuffled, told.assigned_shuffled):
        assert measures(table)[0] < 5 * bias
    # The first of two choices is the label's expert, the second any other: p(e|label) is 1/2 or
    # 1/6, p(e) 5/18 thrice and 1/6. H(E) = 1.3656 less H(E|label) = 1.2425.
    assert measures(told.assigned)[0] == pytest.approx(0.1231, rel=0.15)
    with pytest.raises(ValueError, match="the same labels and experts"):
        blind.merge(jax.tree.map(lambda leaf: leaf[:2], told))


def test_labels_of_another_shape():
    assignment, _ = jax.eval_shape(
        counted("token"),
        jnp.zeros((4, 16, 4)),
        jnp.ones((4, 16), bool),
        jnp.zeros((4, 16), jnp.int32),
        jax.random.key(0),
    )
    with pytest.raises(ValueError, match=r"labels has shape \(4, 8\), expected \(G, T\)"):
        contingency(assignment, jnp.zeros((4, 8), jnp.int32), 3)


@pytest.mark.parametrize("low", [-40.0, -45.0, -60.0, -90.0])
def test_an_expert_that_nobody_wants_has_a_finite_gradient(low):
    gate = jnp.array([[0.0, low, -1.0], [0.0, low, -2.0]])
    table = jax.jit(jax.grad(lambda x: mutual_information(jax.nn.softmax(x))))
    assert jnp.isfinite(table(gate)).all()
