"""An objective in two halves: what is read from rows, by any part of a batch, and one loss of all.

Every loss of the trainer has this form, so that a batch can be cut (in rematerialised chunks, or
over islands) and loss and gradient stay those of the whole batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, Key

from ..routing import RoutingSums
from .chunking import in_chunks

Params = Any
Batch = dict[str, Array]
Parts = dict[str, Array]
Sums = dict[str, RoutingSums]
Found = Any
Loss = tuple[Float[Array, ""], tuple[Parts, Sums]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss to minimise. Called, it is that of a whole batch.

    Attributes:
        groups: rows of a batch -> G, its routing groups; 0 where nothing is routed.
        read: (params, rows, a key per group or None, groups) -> what is found in the rows, arrays
            with a row for each of them, and the routing sums of each sparse block, of which a
            whole's are the sums of its parts'. Nothing else may pass from one row to another.
        loss: what was found in all rows, and all sums -> the loss, its named parts, the sums.
        chunks: rematerialised ones that a batch is read in.
    """

    groups: Callable[[int], int]
    read: Callable[[Params, Batch, Array | None, int], tuple[Found, Sums]]
    loss: Callable[[Found, Sums], Loss]
    chunks: int = 1

    def __call__(self, params: Params, batch: Batch, key: Key[Array, ""] | None) -> Loss:
        """Args:
        batch: as the task's kind has it.
        key: of the routers' noise; None for evaluation's routing.
        """
        rows = next(iter(batch.values())).shape[0]
        # Where nothing is routed, chunks serve as groups.
        groups = self.groups(rows) or self.chunks
        keys = None if key is None else jax.random.split(key, groups)

        def read(batch: Batch, keys: Array | None, groups: int):
            return self.read(params, batch, keys, groups)

        return self.loss(*in_chunks(read, batch, keys, groups, self.chunks))
