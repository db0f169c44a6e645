"""Residuals that nodes keep for their backward."""

import jax
import jax.numpy as jnp
import numpy as np

from byways import runtime as rt


def test_saved_residuals_give_the_same_gradients():
    """And residuals that are inputs of their node are not kept twice."""

    part = rt.Runtime().virtual_devices().add_slice(1)
    first = rt.computation(lambda w, x: (jnp.tanh(x @ w), x.sum()), part, name="first")
    second = rt.computation(lambda w, y: jnp.sum(jnp.sin(y @ w) * y), part, name="second")
    w, x = jnp.linspace(-1, 1, 9).reshape(3, 3), jnp.arange(6.0).reshape(2, 3)

    def loss(w, x):
        y, _ = first(w, x)
        z, _ = first(w, y)
        return second(w, z)

    def plain(w, x):
        z = jnp.tanh(jnp.tanh(x @ w) @ w)
        return jnp.sum(jnp.sin(z @ w) * z)

    wanted = jax.value_and_grad(plain, (0, 1))(w, x)
    for save in (False, True):
        found = rt.fetch(rt.value_and_grad(loss, (0, 1), save=save)(w, x))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, wanted)
    graph = rt.value_and_grad(loss, (0, 1), save=True).trace(w, x)
    kept = [node for node in graph.nodes if node.name == "first"]
    # The product's factors are inputs; what tanh keeps is one more output.
    assert [len(node.outputs) for node in kept] == [3, 3]
