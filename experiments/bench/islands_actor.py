"""What plain Ray does with JAX: actors whose arrays go by the object store."""

from __future__ import annotations

from typing import Any


class Adder:
    """`add` gives a `jax.Array` to Ray, which pickles it for whoever asks for it next."""

    def __init__(self) -> None:
        import jax

        self._add = jax.jit(lambda x: x + 1)

    def add(self, x: Any) -> Any:
        return self._add(x)


class Learner:
    """A model, its gradients, and the update that two learners apply alike."""

    def __init__(self, leaves: int):
        import jax

        self._gradients, self._update = jax.jit(gradients), jax.jit(update, donate_argnums=0)
        self._params = jax.device_put(start(leaves))

    def gradients(self, batch: Any) -> Any:
        return self._gradients(self._params, batch)

    def update(self, mine: Any, theirs: Any) -> None:
        self._params = self._update(self._params, mine, theirs)


def start(leaves: int) -> list[Any]:
    """Matrices (32, 32), float32."""
    import numpy as np

    return [np.eye(32, dtype=np.float32) / leaves for _ in range(leaves)]


def gradients(params: list[Any], batch: Any) -> list[Any]:
    """Of the mean square of what a sum of layers makes of a batch (B, 32)."""
    import jax
    import jax.numpy as jnp

    def loss(params):
        return jnp.mean(sum(jnp.tanh(batch @ leaf) for leaf in params) ** 2)

    return jax.grad(loss)(params)


def update(params: list[Any], mine: list[Any], theirs: list[Any]) -> list[Any]:
    """A step of gradient descent by the mean of both gradients."""
    return [p - 0.005 * (a + b) for p, a, b in zip(params, mine, theirs, strict=True)]
