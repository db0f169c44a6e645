"""Gradients of a lowered function, with experts apart and those alone that were awake."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ... import runtime
from .per_expert import PerExpert
from .resident_experts import refuse_shelved

if TYPE_CHECKING:
    from .lowered import Lowered


class Gradients:
    """The gradients of a lowered function by some of its arguments."""

    def __init__(self, lowered: Lowered, wrt: int | tuple[int, ...]):
        self._lowered, self._wrt = lowered, wrt
        tree = lowered.tree
        counts = [t.num_leaves for t in tree.children()]
        leaves = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
        numbers = (wrt,) if isinstance(wrt, int) else tuple(wrt)
        self._wanted = {n: [int(i) for i in leaves[n]] for n in numbers}
        moving = {i for own in self._wanted.values() for i in own}
        self._moving = [k for k, i in enumerate(lowered.plain) if i in moving]
        self._still = [k for k, i in enumerate(lowered.plain) if i not in moving]
        self._banks = [k for k, bank in enumerate(lowered.banks) if moving & set(bank)]
        self._others = [k for k, bank in enumerate(lowered.banks) if not moving & set(bank)]
        self._program = runtime.value_and_grad(
            runtime.program(self._flat, name=lowered.name), (0, 1), has_aux=True, save=lowered.save
        )

    def __call__(self, *args: Any) -> tuple[Any, Any]:
        return self.begin(*args)()

    def begin(self, *args: Any) -> Callable[[], tuple[Any, Any]]:
        """Sends what depends on no data; the function returned gives `(results, gradients)`."""
        low = self._lowered
        plain, banks = low.apart(args)
        refuse_shelved(banks)
        (loss, rest), (grads, sparse) = self._program(
            [plain[k] for k in self._moving],
            [banks[k] for k in self._banks],
            [plain[k] for k in self._still],
            [banks[k] for k in self._others],
        )
        results = jax.tree.unflatten(low.results, [loss, *rest])
        return lambda: (results, self._trees(args, grads, sparse))

    def compile(self, *args: Any) -> None:
        """Compiles ahead all that a call with such arguments may wake."""
        plain, banks = self._lowered.apart(args)
        self._program.compile(
            [plain[k] for k in self._moving],
            [banks[k] for k in self._banks],
            [plain[k] for k in self._still],
            [banks[k] for k in self._others],
        )

    def _flat(self, moving: Any, banks: Any, still: Any, others: Any) -> tuple[Any, list[Any]]:
        low = self._lowered
        plain: dict[int, Any] = dict(zip(self._moving, moving, strict=True))
        plain |= zip(self._still, still, strict=True)
        every: dict[int, Any] = dict(zip(self._banks, banks, strict=True))
        every |= zip(self._others, others, strict=True)
        loss, *rest = low.flat_results(
            [plain[k] for k in range(len(plain))], [every[k] for k in range(len(every))]
        )
        return loss, rest

    def _trees(self, args: tuple[Any, ...], grads: list[Any], sparse: list[Any]) -> Any:
        """Gradients as trees like the arguments; waits for the reads of who is awake."""
        low = self._lowered
        found: dict[int, Any] = {}
        for k, grad in zip(self._moving, grads, strict=True):
            found[low.plain[k]] = grad
        for k, value in zip(self._banks, sparse, strict=True):
            bank, by_expert = low.banks[k], value.array()
            count = low.count(bank)
            for part, place in enumerate(bank):
                arrays = {e: by_expert[e][part] for e in sorted(by_expert)}
                found[place] = PerExpert(arrays, count)
        trees = tuple(
            jax.tree.unflatten(low.tree.children()[n], [found[i] for i in own])
            for n, own in self._wanted.items()
        )
        return trees[0] if isinstance(self._wrt, int) else trees
