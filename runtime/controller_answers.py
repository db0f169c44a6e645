"""What a client asks that is answered in the order in which it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from .attach_faults import pack_fault, unpack_fault
from .faults import bare

if TYPE_CHECKING:
    from .controller import Controller
    from .controller_session import Session


class Failed:
    """In the place of a value that will never be, since its call failed."""

    def __init__(self, error: BaseException):
        self.packed = pack_fault(error)
        bare(error)  # nothing of the call is kept alive by its frames

    def error(self) -> BaseException:
        """It, for one who asks."""
        return unpack_fault(self.packed, "by the controller")


class Answers:
    """Of one client; a method for each question, which takes what the client sent with it."""

    def __init__(self, controller: Controller, session: Session):
        self._controller, self._session = controller, session

    def ask_slice(self, island: str | None, shape: dict[str, int]) -> tuple:
        number = self._controller.slices.take(self._session, island, shape)
        return self._controller.slices.told(number)

    def ask_islands(self) -> list[tuple]:
        islands = self._controller.system.islands.values()
        return [(i.name, [repr(device) for device in i.devices], i.lost) for i in islands]

    def ask_restart(self, name: str) -> None:
        self._controller.system.restart_island(name)

    def ask_status(self) -> dict[str, Any]:
        return self._controller.status()

    def ask_code(self, key: str) -> bool:
        return self._controller.programs.has(self._session, key)

    def ask_new_code(self, key: str, payload: bytes) -> None:
        self._controller.programs.add(self._session, key, payload)

    def ask_compile(self, plan: int, shapes: list[tuple]) -> None:
        program, tree, _ = self._session.plans[plan]
        if isinstance(program, Failed):
            raise program.error()
        leaves = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        program.compile(*jax.tree.unflatten(tree, leaves))

    def ask_named(self, kind: str) -> list[str]:
        if kind == "value":
            return self._controller.names.names()
        return sorted(self._controller.programs.names)

    def ask_unname(self, kind: str, name: str) -> None:
        if kind == "value":
            self._controller.names.delete(name)
        else:
            self._controller.programs.unname(name)

    def ask_name(
        self, name: str, tree: bytes, handles: list[int], given: dict[int, Any], replace: bool
    ) -> None:
        self._controller.names.set(name, tree, self._session.leaves(handles, given), replace)

    def ask_take(self, name: str) -> tuple[bytes, list[tuple]]:
        found = self._controller.names.get(name)
        told = []
        for leaf in found.leaves:
            number = -self._controller.next_number()
            self._session.table[number] = leaf
            told.append((number, tuple(leaf.shape), leaf.dtype))
        return found.tree, told

    def ask_name_program(self, name: str, key: str, replace: bool) -> None:
        self._controller.programs.name(name, key, replace)

    def ask_code_of(self, name: str) -> tuple[str, bytes, list[tuple]]:
        programs, slices = self._controller.programs, self._controller.slices
        entry = programs.get(programs.key_of(name))
        programs.has(self._session, entry.key)
        for number in entry.slices:
            slices.hold(self._session, number)
        return entry.key, entry.payload, [slices.told(number) for number in entry.slices]
