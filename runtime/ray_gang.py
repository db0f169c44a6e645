"""What runs on each host of an island of several.

All hosts are told the same in the same order, so that they enqueue the same nodes (SPMD). An array
lies over devices of several hosts, of one, or of others alone; then nothing of it is here. What is
brought to several hosts is there on all of them, or on none.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Sharding, SingleDeviceSharding

from .ray_gang_arrays import ELSEWHERE, Elsewhere, hosts_of, own_copy, placed, said_by
from .ray_island import IslandHost, Poison, ended
from .ray_wire import from_wire, pack_error

# Operations over several hosts that are remembered, to tell which failed on some of them alone.
WIDE = 10_000
# Seconds between looks at the parts of an array: at first, and at most.
PAUSE, LONGEST = 5e-5, 2e-3


class GangHost(IslandHost):
    """One host.

    Attributes:
        host: its number.
        peer: by which islands, also this one's hosts, know the island.
    """

    def __init__(
        self,
        name: str,
        devices: Sequence[Any],
        post: Callable[..., None],
        host: int,
        peer: str,
        listen: str = "127.0.0.1",
    ):
        """Args:
        name, post, listen: as of an `IslandHost`.
        devices: of all hosts, in the order of their indices.
        host, peer: see above.
        """
        self.host, self.peer = host, peer
        self._spans: dict[str, tuple[int, ...]] = {}  # hosts of an executable, by its key
        self._wide: deque[tuple[int, int]] = deque(maxlen=WIDE)  # operation, how many hosts
        super().__init__(name, devices, post, listen)
        self.news = self._wide_news

    # Nodes.

    def compile(self, key: str, *packed: Any) -> tuple[dict[str, float], tuple | None]:
        """As of an `IslandHost`; what runs on other hosts alone is not compiled here."""
        _, _, _, _, ins, outs, donated, _ = packed
        hosts = {host for spread in (*ins, *outs) for host in hosts_of(self.sharding(spread))}
        self._spans[key] = tuple(sorted(hosts))
        if self.host in hosts:
            return super().compile(key, *packed)
        self.codes[key] = donated
        return {}, None

    def _run(self, op: int, key: str, ins: list[int], outs: range, tells: tuple[int, ...]) -> None:
        if self.host not in self._spans[key]:
            for place in self.codes[key]:
                self.values.pop(ins[place], None)
            self.values.update(dict.fromkeys(outs, ELSEWHERE))
            self._batch.append((op, None, ()))
            return
        if len(self._spans[key]) > 1:
            self._wide.append((op, len(self._spans[key])))
        super()._run(op, key, ins, outs, tells)
        _, watched, told = self._batch[-1]
        if told:
            self._batch[-1] = op, watched, [found for found in told if self._tells(found[1])]

    def _tells(self, array: jax.Array) -> bool:
        """Whether this is the host that says what a small result is."""
        whole = array.is_fully_addressable or array.is_fully_replicated
        return whole and hosts_of(array.sharding)[0] == self.host

    # Arrays that come.

    def _put(self, op: int, outs: range, arrays: list[Any], spreads: list[tuple]) -> None:
        there = [self.sharding(spread) for spread in spreads]
        try:
            made = [
                placed(from_wire(array), where) if self._mine(where) else ELSEWHERE
                for array, where in zip(arrays, there, strict=True)
            ]
        except Exception as error:
            self._fail(op, outs, (), error)
            return
        self._came(op, outs, made)

    def _move(
        self,
        op: int,
        ins: list[int],
        outs: range,
        spreads: list[tuple],
        whence: Sequence[tuple[int, ...]] = (),
    ) -> None:
        """To other devices of the island; `whence` are the hosts that have each array."""
        there = [self.sharding(spread) for spread in spreads]
        for n, (place, where, have) in enumerate(zip(ins, there, whence, strict=True)):
            away = [host for host in hosts_of(where) if host not in have]
            for host in self._served(have, away):
                self._offer([place], f"{op} {n}", self.peer, host)
        made = []
        for n, (place, where, have) in enumerate(zip(ins, there, whence, strict=True)):
            wanted, found = hosts_of(where), ELSEWHERE
            if self.host in wanted and self.host in have:
                found = self._moved_here(self.values[place], where)
            elif self.host in wanted:
                (found,) = self._pulled(f"{op} {n}", [where], self.peer)
            if len(wanted) > 1 and not set(wanted) <= set(have) and self.host in wanted:
                (found,) = self._agreed(f"{op} {n}", wanted, [found])
            made.append(found)
        self._came(op, outs, made)

    def _moved_here(self, array: Any, where: Any) -> Any:
        if type(array) is Poison:
            return array
        try:
            have = array.sharding
            if len(have.device_set) > 1 and have.device_set == where.device_set:
                return self._moved(array, where)
            return placed(own_copy(array), where)
        except Exception as error:
            return Poison(pack_error(error))

    def _take(self, op: int, outs: range, key: str, spreads: list[tuple], whose: str) -> None:
        there = [self.sharding(spread) for spread in spreads]
        hosts, made = hosts_of(there[0]), [ELSEWHERE] * len(there)
        if self.host in hosts:
            made = self._pulled(key, there, whose)
            if len(hosts) > 1:
                made = self._agreed(key, hosts, made)
        self._came(op, outs, made)

    def _served(self, have: Sequence[int], wanted: Sequence[int]) -> list[int]:
        return [host for n, host in enumerate(wanted) if have[n % len(have)] == self.host]

    def _own(self, array: Any) -> Any:
        return own_copy(array)

    def _pulled(self, key: str, there: Sequence[Sharding], whose: str) -> list[Any]:
        self._push()
        ticket, ill = self._letterbox.word(key, whose, len(there))
        well = [where for where, packed in zip(there, ill, strict=True) if packed is None]
        first = [SingleDeviceSharding(min(w.addressable_devices, key=_by_id)) for w in well]
        try:
            came = iter(self._carrier.pull(ticket, first) if well else ())
            return [
                placed(next(came), where) if packed is None else Poison(packed)
                for where, packed in zip(there, ill, strict=True)
            ]
        except Exception as error:
            return [Poison(pack_error(error))] * len(there)

    def _agreed(self, key: str, hosts: Sequence[int], made: list[Any]) -> list[Any]:
        """Waits for what came; an array that did not come to one host has come to none."""
        mine = [ended(array) for array in made]
        others = [host for host in hosts if host != self.host]
        for host in others:
            self._post(self.peer, f"{key} at {self.host}", ("", mine), host)
        told = {self.host: mine}
        for host in others:
            told[host] = self._letterbox.word(f"{key} at {host}", self.peer, len(made))[1]
        found = []
        for n, array in enumerate(made):
            ill = next((told[host][n] for host in hosts if told[host][n] is not None), None)
            found.append(array if ill is None else Poison(ill))
        return found

    def _came(self, op: int, outs: range, made: list[Any]) -> None:
        self.values.update(zip(outs, made, strict=True))
        there = [array for array in made if type(array) is not Elsewhere]
        ill = [array for array in there if type(array) is Poison]
        self._batch.append((op, (*ill, *there, None)[0], ()))

    def _mine(self, where: Sharding) -> bool:
        return self.host in hosts_of(where)

    def _ended(self, watched: Any) -> tuple | None:
        try:
            return self._part_ended(watched)
        except Exception as error:  # else nobody would hear of anything any more
            return pack_error(error)

    def _part_ended(self, watched: Any) -> tuple | None:
        # Each device's part by itself: where one fails, the others may wait for it for ever.
        if watched is None or type(watched) is Poison or watched.is_deleted():
            return ended(watched)
        if jax.numpy.issubdtype(watched.dtype, jax.dtypes.prng_key):
            return ended(watched)  # it cannot be asked whether it is there
        left, pause = [shard.data for shard in watched.addressable_shards], PAUSE
        while left:
            waits = []
            for part in left:
                if not (part.is_deleted() or part.is_ready()):
                    waits.append(part)
                elif (failed := ended(part)) is not None:
                    return failed
            if len(waits) == len(left):
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)
            left = waits
        return None

    # Questions.

    def _wide_news(self, seen: int, seconds: float, eager: bool) -> tuple:
        """And of operations that failed how many hosts they are over."""
        reached, failed, told = self._news.wait(seen, seconds, eager)
        wide = dict(self._wide) if failed else {}
        return reached, failed, told, {op: wide[op] for op, _ in failed if op in wide}

    def fetch(self, number: int) -> tuple[Any, tuple | None]:
        """This host's part of an array's numbers, or what was raised instead."""
        try:
            found = self.values[number]
            if type(found) is Poison:
                return None, found.packed
            return said_by(found, self.host), None
        except Exception as error:
            return None, pack_error(error)


def _by_id(device: Any) -> int:
    return device.id
