"""Where no part waits for another's forward pass, the step is still that of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments.islands.gradients_alone import GradientsAlone, step_in_parts
from byways.experiments.islands.needs import needed
from byways.experiments.islands.part_step import PartStep
from byways.experiments.train_state import initial_state

from . import small


def test_a_decoder_needs_numbers_of_targets_and_no_forward_pass_of_others():
    step = step_in_parts(small.DENSE, 2)
    assert isinstance(step.exchange, GradientsAlone)
    batch = small.batch(small.DENSE)
    rows = [{k: v[p * step.rows :][: step.rows] for k, v in batch.items()} for p in range(2)]
    (first,), (second,) = step.exchange.known(rows)
    both = [int(np.sum(known)) for known in (first, second)]
    assert both[0] > both[1] > 0  # texts are longer at the beginning
    assert sum(both) == np.sum((batch["segments"][:, 1:] > 0) & (batch["segments"][:, :-1] > 0))


def test_one_part_needs_nothing():
    step = step_in_parts(small.DENSE, 1)
    assert isinstance(step.exchange, GradientsAlone)
    assert step.exchange.known([small.batch(small.DENSE)]) == [[]]


@pytest.mark.parametrize("name", ["SPARSE", "LIMOE"])
def test_pairs_and_balance_losses_wait(name):
    step = PartStep(getattr(small, name), 2)
    assert needed(step) is None


def test_a_classifier_needs_nothing_of_others():
    step = step_in_parts(small.CLASSES, 2)
    assert isinstance(step.exchange, GradientsAlone)
    assert step.exchange.known([{}, {}]) == [[], []]


@pytest.mark.parametrize("name", ["DENSE", "CLASSES"])
def test_both_ways_give_the_same_step(name):
    config = getattr(small, name)
    waits, alone = PartStep(config, 2), step_in_parts(config, 2)
    batch = jax.tree.map(jnp.asarray, small.batch(config))
    rows = [{k: v[p * alone.rows :][: alone.rows] for k, v in batch.items()} for p in range(2)]

    def taken(step):
        @jax.jit
        def take(state, rows, known):
            read = [step.forward(state, r, jnp.int32(n)) for n, r in enumerate(rows)]
            found = [found for found, _ in read]
            made = [
                step.backward(state, r, kept, step.exchange.seen(found, known, n), jnp.int32(n))
                for n, (r, (_, kept)) in enumerate(zip(rows, read, strict=True))
            ]
            told = step.exchange.told(found, made[0][1])
            return step.update(state, [gradient for gradient, _ in made], told)

        state = step.state.pack(initial_state(config, step.task, step.optimizer))
        return take(state, rows, step.exchange.known(rows))

    (one, loss), (other, same) = taken(waits), taken(alone)
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6)
