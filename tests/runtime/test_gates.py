"""Gates: values and gradients of plain JAX, and nothing of the work where nothing is there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

ROWS = 20


def embed(rows, params):
    return jnp.tanh(rows @ params["w"]) + params["b"]


@functools.cache
def model():
    """A gate between two computations."""
    system = rt.Runtime()
    part = system.virtual_devices().add_slice(1)
    gate = rt.Gate(embed, part, name="embed")
    before = rt.computation(lambda x: 2 * x, part, name="before")
    after = rt.computation(lambda y, c: jnp.sum(y**2 * c), part, name="after")

    @rt.program
    def loss(params, x, count):
        return after(gate(count, before(x), params["embed"]), params["c"])

    params = {
        "embed": {"w": jnp.full((3, 4), 0.1), "b": jnp.ones(4)},
        "c": jnp.float32(2),
    }
    x = jax.random.normal(jax.random.key(0), (ROWS, 3))
    return system, gate, loss, rt.value_and_grad(loss, (0, 1)), params, x


def plain(params, x, count):
    y = embed(2 * x, params["embed"])
    return jnp.sum(jnp.where((jnp.arange(ROWS) < count)[:, None], y, 0) ** 2 * params["c"])


@pytest.mark.parametrize("count", [0, 1, 8, 9, ROWS])
def test_values_and_gradients_are_those_of_plain_jax(count):
    _, _, _, both, params, x = model()
    found = rt.fetch(both(params, x, count))
    wanted = jax.value_and_grad(plain, (0, 1))(params, x, count)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def test_nothing_of_the_work_runs_where_nothing_is_there():
    system, _, _, both, params, x = model()
    with rt.recording(system) as recorder:
        jax.block_until_ready(both(params, x, 0))
        system.drain()
    sent = {span.name for span in recorder.spans if span.woken_by is not None}
    assert sent == {"embed zeros", "embed no gradients"}


def test_executables_are_bounded_by_the_ladder():
    _, gate, _, both, params, x = model()
    for count in range(ROWS + 1):
        jax.block_until_ready(both(params, x, count))
    # Both ways of each rung, and of none.
    assert gate.compiled <= 2 * len(rt.ladder(ROWS).rungs) + 2


def test_a_count_that_cannot_be():
    _, _, loss, _, params, x = model()
    with pytest.raises(rt.NodeError, match="a count of 21, and there are 20 rows"):
        loss(params, x, ROWS + 1).result()
    with pytest.raises(rt.ProgramError, match="pass an integer"):
        loss(params, x, 1.5)
    with pytest.raises(rt.ProgramError, match="does not take such rows"):
        loss(params, x[:, :2], 1)
    with pytest.raises(rt.ProgramError, match="only in a program"):
        rt.Gate(embed, model()[1].slice)(1, x, params["embed"])
