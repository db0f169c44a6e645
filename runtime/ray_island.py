"""What runs on an island: it takes messages of operations, and says what has become of them.

One thread takes the messages, in their order, and enqueues without waiting for results, as a local
runtime does; another waits for what was enqueued and keeps the news; others answer questions.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .errors import IslandLost
from .ray_carrier import Carrier
from .ray_errands import Errand, Errands, Forget
from .ray_letterbox import Letterbox
from .ray_news import News
from .ray_waker import KeptHere
from .ray_wire import from_wire, pack_error, to_wire, unpack_error

# So many operations of a message are watched together.
CHUNK = 16


class Poison:
    """In the place of an array that will never be."""

    __slots__ = ("packed",)

    def __init__(self, packed: tuple):
        self.packed = packed


class IslandHost:
    """A process's arrays, by number, and the executables that work on them.

    Attributes:
        values: by the controller's number.
        codes: executables by key.
        news, want: answer the controller.
    """

    def __init__(
        self,
        name: str,
        devices: Sequence[Any],
        post: Callable[..., None],
        listen: str = "127.0.0.1",
    ):
        """Args:
        name: the island's.
        devices: JAX's, in the order of their indices.
        post: `post(to, key, what, host)` gives another island's host (by the island's name, and
            a number) what is under a key; returns at once.
        listen: address at which other islands get arrays.
        """
        self.name, self.devices, self._post = name, list(devices), post
        self.values: dict[int, Any] = {}
        self.codes: dict[str, Any] = {}
        self._shardings: dict[Any, Any] = {}
        self._messages: dict[int, tuple[int, list[tuple]]] = {}
        self._next = 1
        self._letterbox, self._errands = Letterbox(), Errands(self)
        self._news = News()
        self.news, self.want = self._news.wait, self._news.want
        self._watched: deque[Any] = deque()
        self._batch: list[tuple] = []
        self._work = threading.Semaphore(0)
        own = [d for d in devices if d.process_index == d.client.process_index()]
        self._carrier = Carrier(name, own, listen)
        self._offered: set[int] = set()
        threading.Thread(target=self._watch, name=f"byways {name} watch", daemon=True).start()

    # Messages.

    def take_message(self, number: int, first: int, ops: list[tuple]) -> None:
        """Enqueues its operations; `first` is the number of the first that counts."""
        self._messages[number] = (first, ops)
        while self._next in self._messages:
            op, found = self._messages.pop(self._next)
            self._next += 1
            self._news.expect(op - 1 + sum(what[0] != "free" for what in found))
            for what in found:
                if what[0] == "free":
                    for number in what[1]:
                        if type(gone := self.values.pop(number, None)) is KeptHere:
                            gone.driver.forget()
                        self._offered.discard(number)
                else:
                    try:
                        getattr(self, "_" + what[0])(op, *what[1:])
                    except Exception as error:  # whatever it is, the next ones go on
                        self._batch.append((op, Poison(pack_error(error)), ()))
                    self._errands.enqueued(op)
                    op += 1
                    if len(self._batch) >= CHUNK:
                        self._push()
            self._push()

    def _run(self, op: int, key: str, ins: list[int], outs: range, tells: tuple[int, ...]) -> None:
        values, code = self.values, self.codes[key]
        given = [values[n] for n in ins]
        try:
            if code.donated and self._offered:
                self._keep_offered(code.donated, ins, given)
            made = code.call(*given)
        except Exception as error:
            self._fail(op, outs, given, error)
            return
        finally:
            for place in code.donated:
                values.pop(ins[place], None)
        values.update(zip(outs, made, strict=True))
        watched = made[code.watched] if code.watched >= 0 else None
        self._batch.append((op, watched, [(outs[n], made[n]) for n in tells] if tells else ()))

    def _keep_offered(self, donated: tuple[int, ...], ins: list[int], given: list[Any]) -> None:
        """What others may still be pulling is not given away: a copy of it is."""
        import jax.numpy as jnp

        for place in donated:
            if ins[place] in self._offered and type(given[place]) is not Poison:
                given[place] = jnp.copy(given[place])

    def _put(self, op: int, outs: range, arrays: list[Any], spreads: list[tuple]) -> None:
        import jax

        try:
            there = [self.sharding(spread) for spread in spreads]
            made = jax.device_put([from_wire(array) for array in arrays], there)
        except Exception as error:
            self._fail(op, outs, (), error)
            return
        self.values.update(zip(outs, made, strict=True))
        self._batch.append((op, None, ()))

    def _wake(self, op: int, way: str, *given: Any) -> None:
        """A switch that is expanded here; what comes behind it waits for its counts."""
        from .ray_waker import WAYS

        self._push()  # others are told what is done while this waits
        done = WAYS[way](self, *given)
        for whose in done.pulled:
            self._letterbox.pulls(op, whose)
        self._batch.append((op, done.watched, done.tells))

    def _see(self, op: int, numbers: list[int]) -> None:
        """Arrays that were made here for another island."""
        self._batch.append((op, [self.values[n] for n in numbers], ()))

    def value(self, number: int) -> Any:
        """An array by its number.

        Raises:
            Exception: what was raised where it was to be made.
        """
        found = self.values[number]
        if type(found) is Poison:
            raise unpack_error(found.packed)
        return found

    def _ill(self, op: int, outs: range, packed: tuple) -> None:
        """Arrays that could not be sent here."""
        self.values.update(dict.fromkeys(outs, Poison(packed)))
        self._batch.append((op, Poison(packed), ()))

    def _move(self, op: int, ins: list[int], outs: range, spreads: list[tuple]) -> None:
        watched = None
        for number, place, spread in zip(outs, ins, spreads, strict=True):
            array = self.values[place]
            try:  # each by itself: others of the batch may be well
                made = array if type(array) is Poison else self._moved(array, self.sharding(spread))
            except Exception as error:
                made = Poison(pack_error(error))
            self.values[number] = made
            if watched is None or type(made) is Poison:
                watched = made
        self._batch.append((op, watched, ()))

    def _moved(self, array: Any, wanted: Any) -> Any:
        import jax

        from .steps import resharder

        have = array.sharding
        if len(have.device_set) > 1 and have.device_set == wanted.device_set:
            return resharder(array.shape, array.dtype, have, wanted)(array)[0]
        return jax.device_put(array, wanted)

    def _send(
        self,
        op: int,
        ins: list[int],
        key: str,
        to: str,
        have: Sequence[int] = (0,),
        wanted: Sequence[int] = (0,),
    ) -> None:
        """Another island gets the right to pull arrays, computed or not.

        Args:
            have: hosts of this island that have the arrays.
            wanted: hosts of the other where they are to be.
        """
        for host in self._served(have, wanted):
            self._offer(ins, key, to, host)
        self._batch.append((op, None, ()))

    def _served(self, have: Sequence[int], wanted: Sequence[int]) -> Sequence[int]:
        """Those of the hosts that want an array who get it from this one, of all that have it."""
        return wanted

    def _offer(self, ins: list[int], key: str, to: str, host: int) -> None:
        ticket, ill = "", []
        try:
            given = [self.values[n] for n in ins]
            ill = [array.packed if type(array) is Poison else None for array in given]
            well = [self._own(array) for array in given if type(array) is not Poison]
            ticket = self._carrier.offer(well, to) if well else ""
            if self._letterbox.has_lost(to):
                self._carrier.lose(to)
        except Exception as error:  # who waits for it must be told
            ill = [pack_error(error)] * len(ins)
        self._offered.update(ins)
        self._post(to, key, (ticket, ill), host)

    def _own(self, array: Any) -> Any:
        """What of an array others are offered."""
        return array

    def _take(self, op: int, outs: range, key: str, spreads: list[tuple], whose: str) -> None:
        """What another island offers; waits for the word that it does, and not for the bytes."""
        self._push()
        ticket, ill = self._letterbox.word(key, whose, len(outs))
        there = [self.sharding(s) for s, packed in zip(spreads, ill, strict=True) if packed is None]
        try:
            came = iter(self._carrier.pull(ticket, there) if there else ())
            self._letterbox.pulls(op, whose)
        except Exception as error:
            self._fail(op, outs, (), error)
            return
        watched = None
        for number, packed in zip(outs, ill, strict=True):
            made = next(came) if packed is None else Poison(packed)
            self.values[number] = made
            if watched is None or packed is not None:
                watched = made
        self._batch.append((op, watched, ()))

    def _fail(self, op: int, outs: Sequence[int], given: Sequence[Any], error: Exception) -> None:
        ill = next((a for a in given if type(a) is Poison), None)
        found = Poison(pack_error(error)) if ill is None else ill
        for number in outs:
            self.values[number] = found
        self._batch.append((op, found, ()))

    # What becomes of them.

    def _push(self) -> None:
        if self._batch:
            self._watched.append(self._batch)
            self._batch = []
            self._work.release()

    def _watch(self) -> None:
        while True:
            self._work.acquire()
            if self._letterbox.closed and not self._watched:
                return
            self._look(self._watched.popleft())

    def _look(self, batch: list[tuple]) -> None:
        # A function of its own, whose frame does not keep the last arrays while nothing comes.
        for op, watched, tells in batch:
            failed = self._letterbox.reason(op, self._ended(watched))
            told = []
            if failed is None and tells:
                for number, array in tells:
                    try:
                        told.append((number, to_wire(array)))
                    except Exception as error:
                        if not array.is_deleted():
                            failed = pack_error(error)
            self._news.done(op, failed, told)

    def _ended(self, watched: Any) -> tuple | None:
        return ended(watched)

    # Questions.

    def fetch(self, number: int) -> tuple[Any, tuple | None]:
        """An array's numbers, or what was raised instead."""
        try:
            found = self.values[number]
            return (None, found.packed) if type(found) is Poison else (to_wire(found), None)
        except Exception as error:
            return None, pack_error(error)

    def compile(self, key: str, *packed: Any) -> tuple[dict[str, float], tuple | None]:
        """Compiles what is not compiled yet.

        Returns:
            what it costs, by XLA's count; or what the compiler raised.
        """
        from .ray_code import unpacked

        try:
            if key not in self.codes:
                self.codes[key] = unpacked(self.sharding, *packed)
            return self.codes[key].cost, None
        except Exception as error:
            return {}, pack_error(error)

    def deliver(self, key: str, what: Any) -> None:
        """What another island sends."""
        if isinstance(what, Errand | Forget):
            self._errands.take(what)
        else:
            self._letterbox.deliver(key, what)

    def close(self) -> None:
        """Closes what others pull from, and ends what waits here. May be called twice."""
        if self._letterbox.close(pack_error(IslandLost(f"island {self.name!r} was closed"))):
            self._work.release()
            self._carrier.close()

    def lose(self, name: str, packed: tuple) -> None:
        """Another island is gone: what it has not sent will not come."""
        self._letterbox.lose(name, packed)
        self._errands.lose(name)
        self._carrier.lose(name)

    def held(self) -> int:
        """How many arrays are here."""
        return len(self.values)

    def figures(self) -> dict[str, Any]:
        """Arrays that are here, their bytes, and what went to and from other islands."""
        arrays = list(self.values.values())
        held = sum(getattr(array, "nbytes", 0) for array in arrays)
        return {"arrays": len(arrays), "held": held, "transfers": self._carrier.stats()}

    def sharding(self, spread: tuple) -> Any:
        """JAX's sharding over this process's devices."""
        import numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

        if spread not in self._shardings:
            places, axes, spec = spread
            devices = [self.devices[place] for place in places]
            if len(devices) == 1:
                self._shardings[spread] = SingleDeviceSharding(devices[0])
            else:
                names, sizes = zip(*axes, strict=True)
                mesh = Mesh(np.array(devices).reshape(sizes), names)
                parts = PartitionSpec(*(names or None for names in spec))
                self._shardings[spread] = NamedSharding(mesh, parts)
        return self._shardings[spread]


def ended(watched: Any) -> tuple | None:
    """Waits for an array, or for all of a list; what it raised, if it did. One that was donated,
    or whose shards are just being, was there: who took it tells of itself.
    """
    from .waiting import is_partly_gone

    if watched is None:
        return None
    if type(watched) is list:
        return next((failed for one in watched if (failed := ended(one)) is not None), None)
    if type(watched) is Poison:
        return watched.packed
    try:
        if not watched.is_deleted():
            watched.block_until_ready()
    except Exception as error:
        if not is_partly_gone(watched):
            return pack_error(error)
    return None
