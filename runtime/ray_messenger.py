"""How the island with a switch's router has other islands do what is theirs: it drafts errands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .ray_errands import Errand, Forget, Made, Others, Param
from .ray_waker import Waker
from .ray_wire import unpack_error
from .switch_kinds import BACKWARD, KEEPING
from .waking import Awake

if TYPE_CHECKING:
    from .ray_island import IslandHost
    from .ray_waker import Way


@dataclasses.dataclass(frozen=True)
class Sender:
    """Who sends errands, for one run of a switch.

    Attributes:
        me: the router's island, as others know it.
        key: of this run.
        after: by island, the operation that made the last of its branches' parameters.
    """

    me: str
    key: str
    after: dict[str, int]


class Messenger(Waker):
    """A driver of `Forward` and `Training` whose homes may be on other islands."""

    def __init__(
        self, host: IslandHost, way: Way, params: list[list[int]], keeps: bool, sender: Sender
    ):
        super().__init__(host, way, params, keeps)
        self._sender = sender
        self._drafts: dict[str, _Draft] = {}

    def node(self, kind: str, home: int, leaves: list[Any], group: Awake | None = None) -> list:
        to = self.way.places[home]
        if not to:
            return super().node(kind, home, leaves, group)
        key, note = self.key(kind, home, group)
        draft = self._draft(to)
        first = draft.add(("node", key, leaves, note))
        alike = self.way.training.forward.alike
        if kind == KEEPING.grouped(alike):
            return [first, Others(first.step)]
        if group is None or kind != BACKWARD.grouped(alike):
            return [first]
        each, made = self.way.training.leaves, [first]
        for branch in group.branches:
            for n in range(each):
                number = self.numbers[to][branch * each + n]
                draft.stores.append((number, first.step, len(made)))
                made.append(Made(to, first.step, len(made)))
        return made

    def move(self, arrays: Sequence[Any], homes: Sequence[int]) -> list[Any]:
        import jax

        wanted = [array for array in arrays if type(array) is Made]
        came = self._exchange(wanted) if wanted else {}
        found = []
        for array, home in zip(arrays, homes, strict=True):
            to, spread = self.way.places[home], self.way.spreads[home]
            if to:
                found.append(self._draft(to).give(array, spread))
            elif type(array) is Made:
                found.append(came[array])
            else:
                found.append(jax.device_put(array, self.host.sharding(spread)))
        return found

    def owns(self, number: int) -> bool:
        # What others may still be pulling is not written to.
        given = self.given[number]
        return super().owns(number) and not any(d.gives(given) for d in self._drafts.values())

    def params(self, branches: Sequence[int]) -> list[Any]:
        if self.at_home(branches[0]):
            return super().params(branches)
        return [Param(n) for branch in branches for n in self._params[branch]]

    def finish(self) -> None:
        self._exchange([])
        super().finish()

    def forget(self) -> None:
        for to, draft in self._drafts.items():
            if draft.kept:
                self.host._post(to, self._key(to), Forget(self._key(to)), 0)

    def _draft(self, to: str) -> _Draft:
        return self._drafts.setdefault(to, _Draft(to))

    def _key(self, to: str) -> str:
        return f"{self._sender.key} {to}"

    def _exchange(self, wanted: list[Made]) -> dict[Made, Any]:
        """Sends all errands, then waits for the words, and not for the bytes, of what is wanted."""
        host, sender = self.host, self._sender
        drafts = [draft for draft in self._drafts.values() if draft.steps]
        outs = {draft.to: [m.step for m in wanted if m.to == draft.to] for draft in drafts}
        for draft in drafts:
            to, arrays = draft.to, [array for array, _ in draft.arrays]
            ticket = host._carrier.offer(arrays, to) if arrays else ""
            errand = draft.errand(self._key(to), sender, ticket, outs[to], self.keeps)
            host._post(to, errand.key, errand, 0)
            if host._letterbox.has_lost(to):
                host._carrier.lose(to)
        words = {
            draft.to: host._letterbox.word(
                self._key(draft.to), draft.to, max(1, len(outs[draft.to]))
            )
            for draft in drafts
        }
        found: dict[Made, Any] = {}
        for draft in drafts:
            ticket, (failed, *_) = words[draft.to]
            if failed is not None:
                raise unpack_error(failed)
            if ticket:
                self.pulled.append(draft.to)
                there = [host.sharding(self.way.spreads[0])] * len(outs[draft.to])
                came = host._carrier.pull(ticket, there)
                places = [Made(draft.to, step) for step in outs[draft.to]]
                found.update(zip(places, came, strict=True))
        return found


class _Draft:
    """An errand to one island, before it is sent, and what was sent of it.

    Attributes:
        to: the island.
        steps, stores: as of an `Errand`.
        arrays: to be given, and where each goes first.
        kept: the island keeps what it has made.
    """

    def __init__(self, to: str):
        self.to, self.kept = to, False
        self.steps: list[tuple] = []
        self.stores: list[tuple[int, int, int]] = []
        self.arrays: list[tuple[Any, tuple]] = []
        self._sent = 0

    def add(self, step: tuple) -> Made:
        self.steps.append(step)
        return Made(self.to, self._sent + len(self.steps) - 1)

    def give(self, array: Any, spread: tuple) -> Made:
        for number, (known, _) in enumerate(self.arrays):
            if known is array:
                return self.add(("given", number, spread))
        self.arrays.append((array, spread))
        return self.add(("given", len(self.arrays) - 1, spread))

    def gives(self, array: Any) -> bool:
        return any(known is array for known, _ in self.arrays)

    def errand(self, key: str, sender: Sender, ticket: str, outs: list[int], keeps: bool) -> Errand:
        """What is to be sent now."""
        spreads = [spread for _, spread in self.arrays]
        found = Errand(
            key,
            sender.me,
            sender.after.get(self.to, 0),
            ticket,
            spreads,
            self.steps,
            self.kept,
            outs,
            self.stores,
            keeps,
        )
        self._sent += len(self.steps)
        self.steps, self.stores, self.arrays, self.kept = [], [], [], keeps
        return found
