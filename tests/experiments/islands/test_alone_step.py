"""Where no part waits for another's forward pass, the step is still that of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments.islands.alone_step import AloneStep, step_in_parts
from byways.experiments.islands.needs import needed
from byways.experiments.islands.part_step import PartStep
from byways.experiments.train_state import initial_state

from . import small


def test_a_decoder_needs_numbers_of_targets_and_no_forward_pass_of_others():
    step = step_in_parts(small.DENSE, 2)
    assert isinstance(step, AloneStep)
    assert not step.waits
    batch = small.batch(small.DENSE)
    rows = [{k: v[p * step.rows :][: step.rows] for k, v in batch.items()} for p in range(2)]
    (first,), (second,) = step.known(rows)
    both = [int(np.sum(known)) for known in (first, second)]
    assert both[0] > both[1] > 0  # texts are longer at the beginning
    assert sum(both) == np.sum((batch["segments"][:, 1:] > 0) & (batch["segments"][:, :-1] > 0))


def test_one_part_needs_nothing():
    step = step_in_parts(small.DENSE, 1)
    assert not step.waits
    assert step.known([small.batch(small.DENSE)]) == [[]]


@pytest.mark.parametrize("name", ["SPARSE", "LIMOE"])
def test_pairs_and_balance_losses_wait(name):
    step = PartStep(getattr(small, name), 2)
    assert needed(step) is None


def test_both_ways_give_the_same_step():
    waits, alone = PartStep(small.DENSE, 2), step_in_parts(small.DENSE, 2)
    assert isinstance(alone, AloneStep)
    batch = jax.tree.map(jnp.asarray, small.batch(small.DENSE))
    rows = [{k: v[p * alone.rows :][: alone.rows] for k, v in batch.items()} for p in range(2)]
    numbers = [jnp.int32(0), jnp.int32(1)]

    @jax.jit
    def by_exchange(state, rows):
        read = [waits.forward(state, r, n) for r, n in zip(rows, numbers, strict=True)]
        found = [found for found, _ in read]
        made = [
            waits.backward(state, r, kept, found, n)
            for r, (_, kept), n in zip(rows, read, numbers, strict=True)
        ]
        return waits.update(state, [gradient for gradient, _ in made], made[0][1])

    @jax.jit
    def by_gradients(state, rows, known):
        read = [alone.forward(state, r, n) for r, n in zip(rows, numbers, strict=True)]
        made = [
            alone.backward(state, r, kept, found, known, n)
            for r, (found, kept), n in zip(rows, read, numbers, strict=True)
        ]
        return alone.update(state, made, [found for found, _ in read])

    state = alone.state.pack(initial_state(small.DENSE, alone.task, alone.optimizer))
    (one, loss), (other, same) = (
        by_exchange(state, rows),
        by_gradients(state, rows, alone.known(rows)),
    )
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6)
