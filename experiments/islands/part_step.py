"""A training step in parts: pure functions that put together are the step of the whole batch.

    forward   part p of the batch   ->  what is found in its rows, its routing sums, and residuals
    backward  what parts have found ->  the loss's cotangents of part p, part p's gradient
    update    all gradients         ->  their sum in the order of the parts, the optimiser's step

Between them lies what islands exchange (`exchange`). The batch is always cut in the same number of
parts, and sums are made in the same order: the result is the same, bit for bit, whoever computes
which part.

The state is packed in a few arrays, since each array of a program costs the controller some time.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..chunking import in_chunks
from ..config import Experiment
from ..freezing import stop_frozen
from ..objective import Batch, Loss
from ..tasks import task_of
from ..train_state import initial_state, interval_metrics, updated, whole_optimizer
from .exchange import Exchange, FoundByAll
from .packing import Packed, Packing, differentiable, packing_of

# What the backward pass needs of the forward, less the parameters and rows themselves: the large
# arrays, and all small ones packed.
Residuals = tuple[list[Array], Packed]
# Bytes of a residual that costs less to copy than to account for.
SMALL = 1 << 16


class PartStep:
    """The functions for one config and number of parts.

    Attributes:
        parts: P.
        rows: of one part.
        task: what is trained.
        state: how the canonical state is packed.
        params: shapes of the parameters.
        exchanged: how what is found in a part is packed.
        exchange: what the parts tell each other.
    """

    def __init__(self, config: Experiment, parts: int):
        """Args:
        config: whose batch and routing groups divide into so many parts.
        parts: P.
        """
        self.config, self.parts, self.rows = config, parts, config.batch_size // parts
        self.task = task_of(config)
        self.objective = self.task.objective
        self.optimizer, self._trained = whole_optimizer(config)
        self.chunks = _chunks(self.objective.groups(config.batch_size), config, parts)
        # Of each part; where nothing is routed, chunks serve as groups.
        self.groups = self.objective.groups(config.batch_size) // parts or self.chunks
        state = jax.eval_shape(lambda: initial_state(config, self.task, self.optimizer))
        params, self.state = state["params"], Packing(state)
        self.params = params
        blank = jax.eval_shape(lambda: self.task.blank(self.rows))
        number = jax.ShapeDtypeStruct((), jnp.int32)
        self.exchanged, each = packing_of(self.read, params, blank, number, number)
        self.exchange: Exchange = FoundByAll(self, each)
        self._gradients = Packing(self._of_trained(params))
        self._back: Any = None

    def forward(self, state: Packed, rows: Batch, part: Array) -> tuple[Packed, Residuals]:
        """Reads one part.

        Args:
            state: packed; its step is that of the routers' noise.
            rows: B/P of them, in the order of the batch.
            part: its number p.

        Returns:
            what is exchanged, and what stays for the backward pass.
        """

        before = self.state.unpack(state)
        params, step = before["params"], before["step"]

        def read(params: Any) -> tuple[Packed, Packed]:
            moving = params if self._trained is None else stop_frozen(params, self._trained)
            return differentiable(self.exchanged.pack(self.read(moving, rows, step, part)))

        floats, back, rest = jax.vjp(read, params, has_aux=True)
        residuals, structure = jax.tree.flatten(back)
        # Parameters and rows are there anyway: giving them back would copy them.
        there = {id(leaf): n for n, leaf in enumerate(jax.tree.leaves((params, rows)))}
        places = [there.get(id(leaf)) for leaf in residuals]
        kept = [leaf for leaf, place in zip(residuals, places, strict=True) if place is None]
        small = [leaf for leaf in kept if _small(leaf)]
        self._back = structure, places, [_small(leaf) for leaf in kept], Packing(small)
        return floats | rest, ([x for x in kept if not _small(x)], Packing(small).pack(small))

    def backward(
        self, state: Packed, rows: Batch, residuals: Residuals, seen: Any, part: Array
    ) -> tuple[Packed, Any]:
        """One part's gradient of the loss of the whole batch.

        Args:
            state, rows, residuals: of the forward pass of this part, which was traced before.
            seen: of what was found, by `exchange.seen`.
            part: p.

        Returns:
            the gradient, and what it tells the update.
        """
        cotangents, told = self.exchange.cotangents(seen, part)
        return self._pulled(state, rows, residuals, cotangents), told

    def _pulled(self, state: Packed, rows: Batch, residuals: Residuals, own: Packed) -> Packed:
        """One part's gradient, of the cotangents of what was found in it."""
        structure, places, are_small, packing = self._back
        large, small = iter(residuals[0]), iter(packing.unpack(residuals[1]))
        kept = iter([next(small) if is_small else next(large) for is_small in are_small])
        params = self.state.unpack(state)["params"]
        there = jax.tree.leaves((params, rows))
        leaves = [next(kept) if place is None else there[place] for place in places]
        back = jax.tree.unflatten(structure, leaves)
        (gradient,) = back(own)
        return self._gradients.pack(self._of_trained(gradient))

    def update(self, state: Packed, gradients: list[Packed], told: Any) -> tuple[Packed, Array]:
        """The state after the step, and the loss.

        Args:
            state: packed.
            gradients: of each part, in order.
            told: by `exchange.told`.
        """
        total = functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), gradients)
        loss, (named, sums) = self.exchange.loss(told)
        before = self.state.unpack(state)
        grads = self._of_all(self._gradients.unpack(total), before["params"])
        after = updated(self.task, self.optimizer, before, grads, named, sums, self._trained)
        return self.state.pack(after), loss

    def read_metrics(self, state: Packed) -> tuple[dict[str, Array], Packed]:
        """The metrics since the last call, and the state with an empty interval."""
        before = self.state.unpack(state)
        metrics = interval_metrics(self.config, self.task, before)
        empty = jax.tree.map(jnp.zeros_like, before["interval"])
        return metrics, self.state.pack(before | {"interval": empty})

    def read(self, params: Any, rows: Batch, step: Array, part: Array) -> tuple[Any, Any]:
        """What is found in the rows of a part, and its routing sums."""
        # The keys of the whole batch's groups, of which these are part p's.
        key = jax.random.fold_in(jax.random.key(self.config.seed), step)
        keys = jax.random.split(key, self.parts * self.groups).reshape(self.parts, self.groups)

        def read(rows: Batch, keys: Array | None, groups: int):
            return self.objective.read(params, rows, keys, groups)

        return in_chunks(read, rows, keys[part], self.groups, self.chunks)

    def loss_of(self, *parts: Packed) -> Loss:
        """The loss of what is exchanged."""
        return self.loss(*map(self.exchanged.unpack, parts))

    def loss(self, *parts: tuple[Any, Any]) -> Loss:
        """The loss of all that was read."""
        found, sums = zip(*parts, strict=True)
        whole = jax.tree.map(lambda *rows: jnp.concatenate(rows), *found)
        return self.objective.loss(
            whole, jax.tree.map(lambda *s: functools.reduce(jnp.add, s), *sums)
        )

    def _of_trained(self, tree: Any) -> list[Any]:
        """The leaves that are trained."""
        leaves = jax.tree.leaves(tree)
        if self._trained is None:
            return leaves
        moves = jax.tree.leaves(self._trained)
        return [leaf for leaf, moved in zip(leaves, moves, strict=True) if moved]

    def _of_all(self, leaves: list[Array], params: Any) -> Any:
        """A gradient for every parameter: zeros for those that are frozen."""
        given, structure = iter(leaves), jax.tree.structure(params)
        moves = [True] * structure.num_leaves
        if self._trained is not None:
            moves = jax.tree.leaves(self._trained)
        everything = zip(jax.tree.leaves(params), moves, strict=True)
        grads = [next(given) if moved else jnp.zeros_like(leaf) for leaf, moved in everything]
        return jax.tree.unflatten(structure, grads)


def _small(leaf: Array) -> bool:
    plain = not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return plain and leaf.size * leaf.dtype.itemsize < SMALL


def _chunks(groups: int, config: Experiment, parts: int) -> int:
    """Chunks of a part, so that one is as large as a chunk of the whole batch, or smaller."""
    divided = (groups or config.batch_size) // parts
    wished = -(-config.loss.chunks // parts)
    return next(n for n in range(wished, divided + 1) if divided % n == 0)
