"""What is in the slots of a run: arrays, errors instead of them, and who still needs which."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax

from .branches import Branches, Keeps, Sparse
from .errors import IslandLost
from .faults import bare, fault
from .holding import Holding
from .sent import Sent
from .steps import Expansion, Mover, Step

if TYPE_CHECKING:
    from .client import Client
    from .plan import Plan
    from .system import Runtime


class Slots(Sent):
    """Those of one run; all that is here is called under its lock."""

    def __init__(self, system: Runtime, plan: Plan, client: Client):
        super().__init__(system, plan, client)
        self._slots: list[Any] = plan.blank.copy()
        self._holding = Holding(plan, system.store, client)
        self._ill = False  # some slot holds an exception, or is on an island that was lost
        self._given: Sequence[weakref.ref[Any]] = ()  # the arguments, while a read is waited for

    def _poisoned(self, step: Step) -> bool:
        poison = self._poison(step.inputs)
        if poison is None:
            return False
        for out in step.outputs:
            self._slots[out] = poison
        if isinstance(step.call, Mover):
            # Others may use what goes in the same batch and is well.
            well = [n for n, slot in enumerate(step.inputs) if self._poison((slot,)) is None]
            arrays = step.call.only(well)(*[self._slots[step.inputs[n]] for n in well])
            for n, array in zip(well, arrays, strict=True):
                self._slots[step.outputs[n]] = array
        return True

    def _poison(self, slots: Sequence[int]) -> BaseException | None:
        """What is wrong with one of these slots."""
        for slot in slots:
            found, island = self._slots[slot], self.plan.islands[slot]
            if isinstance(found, BaseException):
                return found
            if island and self.lost(island):
                return IslandLost(f"island {island!r} is lost, with what {self!r} had on it")
        return None

    def _fail(self, step: Step, error: Exception) -> None:
        found = fault(self.plan.graph, step.node, error)
        self.failed[step.node] = found
        self._give_up(step.outputs, found)

    def _give_up(self, slots: Sequence[int], error: BaseException) -> None:
        self._ill, error = True, bare(error)
        for slot in slots:
            self._slots[slot] = error

    def last_use(self, part: Expansion, slot: int) -> bool:
        """Whether nobody else will read this slot's array."""
        if not (slot in part.drop or (slot in part.shared and self._holding.left[slot] == 1)):
            return False
        array = self._slots[slot]
        # A conditional node may have put one array into several slots, or keep it for its backward.
        others = sum(_has(other, array) for other in self._slots)
        return others == 1 == part.inputs.count(slot)

    def keep_in_mind(self, given: Sequence[Any]) -> None:
        """Arguments as they were passed: what is in the slots may be copies that share memory."""
        self._given = [weakref.ref(leaf) for leaf in given if hasattr(leaf, "is_deleted")]

    def may_use(self, arrays: Sequence[Any]) -> bool:
        """Whether what is still to be sent may need one of these arrays.

        Called without the lock, which somebody who sends this may have for long.
        """
        given = [ref() for ref in self._given]
        held = [array for found in list(self._slots) for array in _within(found)]
        wanted = {id(array) for array in arrays}
        return any(id(array) in wanted for array in (*given, *held))

    def _used(self, shared: Sequence[int]) -> None:
        left, gone = self._holding.left, []
        for slot in shared:
            left[slot] -= 1
            if not left[slot]:
                self._slots[slot] = None
                gone.append(slot)
        self._holding.drop(gone)

    def _drop(self, slot: int) -> None:
        """Forgets a slot whose bytes no segment has counted as dropped."""
        self._slots[slot] = None
        self._holding.drop([slot])


def _has(found: Any, array: Any) -> bool:
    """Whether what is in a slot is this array, or will need it."""
    return found is array or (isinstance(found, Keeps) and any(x is array for x in found.rows))


def _within(found: Any) -> Iterable[Any]:
    """The arrays that others may have, too, of what is in a slot."""
    if isinstance(found, Keeps):
        return found.rows
    if isinstance(found, (Branches, Sparse)):
        trees = found.trees if isinstance(found, Branches) else found
        return jax.tree.leaves([*trees.values()])
    return (found,)
