"""Arrays from process to process, device to device, by `jax.experimental.transfer`.

What JAX gives moves the bytes; what is added here are identifiers that nobody can guess, one end
for every wait, room that is given back, errors that keep their names, and an account of it all.
"""

from __future__ import annotations

import ipaddress
import math
import os
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
from jax.experimental import transfer
from jax.sharding import Sharding

from . import ray_store
from .carried_errors import Origin
from .doors import IDLE, MOST, Door
from .errors import StoreFull
from .faults import said
from .layouts import ONE, devices_of
from .offers import Batch, OfferBook, place_on
from .pull_book import PullBook
from .pulls import Pull
from .settled import settled
from .tickets import Leaf, Peer, Ticket, sizes_of, structure_of
from .transfer_errors import TransferError
from .transfer_leaves import arrived_tree, offered_leaf, shape_here
from .transfer_stats import TransferStats
from .values import Value

# Bytes that are copied while the last ones are sent. JAX's own 256 MB never overlap the two, and
# set aside 6 GB of address space.
_CHUNK = 2**19

# Seconds in which a closing process still tells its peers what it has pulled.
_LAST_WORDS = 0.3

Way = Literal["auto", "direct", "ray"]


class Transfers:
    """Offers this process's arrays to others, and pulls theirs. One for a process is enough.

        tickets = mine.offer({"x": x}, pulls=2)   # here; tickets travel in any message
        tree = theirs.pull(ticket).tree           # there: arrays at once, computed when they came

    Neither waits: an array may be offered while it is computed, and used while it is pulled.

    Attributes:
        peer: what tickets say of this process.
    """

    def __init__(
        self,
        name: str = "",
        *,
        listen: str = "127.0.0.1",
        expiry: float = 60.0,
        patience: float = 30.0,
        devices: Sequence[Any] | None = None,
        store_from: int = ray_store.FROM,
    ):
        """Opens two ports, the data's and the door's, and starts a thread.

        Args:
            name: for messages and live views; the process's number if empty.
            listen: address of an interface, which peers connect to. What goes over any other
                than the loopback can be read by whoever sees the wire.
            expiry: seconds that an offer stays open once its arrays are computed.
            patience: seconds that a peer may be silent.
            devices: that arrays are pulled onto; all of this process's.
            store_from: bytes from which the way by Ray's store is chosen.

        Raises:
            TransferError: no address of this machine, or one that peers cannot connect to.
        """
        self._devices = tuple(jax.local_devices() if devices is None else devices)
        self._expiry, self._patience, self._store_from = expiry, patience, store_from
        host = _host(listen)
        try:
            self._server: Any = transfer.start_transfer_server(
                self._devices[0].client, f"{host}:0", [f"{host}:0"], transfer_size=_CHUNK
            )
            self._door = Door(self, listen)
        except (OSError, RuntimeError) as error:
            raise TransferError(f"cannot listen on {listen!r}: {said(error)}") from error
        self.peer = Peer(
            name or f"{socket.gethostname()}:{os.getpid()}",
            self._server.address(),
            self._door.address,
            secrets.token_hex(8),
        )
        self._offers = OfferBook(place_on(self._server), f"peer {self.peer}")
        self._pulls = PullBook(self._server.connect, self._door, patience)
        self._closed = False
        self._door.start()

    def offer(
        self,
        tree: Any,
        pulls: int = 1,
        *,
        expiry: float | None = None,
        origin: Origin | None = None,
        way: Way = "auto",
        near: bool = False,
    ) -> list[Ticket]:
        """Keeps a tree for others to pull; returns at once.

        Args:
            tree: dicts, lists and tuples of `jax.Array`s, `Value`s, anything that makes an array,
                and exceptions in the place of arrays that could not be made. Arrays must not be
                donated before they were pulled.
            pulls: how many tickets, of one pull each.
            expiry: seconds, in place of the usual.
            origin: program, node and island that make it, for errors; `Value`s know theirs.
            way: `direct`, from device to device; `ray`, by Ray's object store, which waits for
                the arrays and copies them; or the one that is faster.
            near: all who pull are on this host and connected to the same Ray, so that `auto`
                may choose Ray for what is large, plain memory and computed.

        Raises:
            TransferError: a tree or an array that cannot be told of.
            ValueReleased: an array is deleted already.
            StoreMissing, StoreFull: of `way="ray"`.
        """
        self._check_open()
        if pulls < 1:
            raise TransferError(f"an offer of {pulls} pulls: give 1 or more")
        given, structure = structure_of(tree, _made_elsewhere)
        made = [offered_leaf(leaf, origin) for leaf in given]
        leaves, arrays, origins = zip(*made, strict=True) if made else ((), (), ())
        nbytes, buffers, travelling = sizes_of(leaves)
        flat = [arrays[n] for n in travelling]
        store, kept = self._stored(way, near, nbytes, leaves, flat)
        waiting = [] if store else [array for array in flat if not settled(array)]
        batch = Batch(nbytes, pulls, waiting, kept)
        buffers = 0 if store else buffers
        wait = self._expiry if expiry is None else expiry
        tickets = []
        for _ in range(pulls):
            ticket = Ticket(
                self._offers.issue(batch, buffers, wait),
                self.peer,
                leaves,
                structure,
                origins if any(origins) else (),
                store,
            )
            tickets.append(ticket)
            if flat and not store:
                try:
                    self._server.await_pull(ticket.identifier, flat)
                except BaseException:
                    self._offers.forget([ticket.identifier])
                    self.release(tickets[:-1])
                    raise
        if wait < 2 * IDLE:  # else it is soon enough when the door looks by itself
            self._door.wake()
        return tickets

    def pull(self, ticket: Ticket, onto: Sharding | Sequence[Any] | None = None) -> Pull:
        """Fetches what a ticket is for; returns at once, except by Ray's store.

        Args:
            ticket: from another process, or this one.
            onto: devices that its arrays are spread over as they were over the peer's, or a
                sharding for each of them; None is this process's devices.

        Raises:
            TransferError: the arrays are spread over more devices than are here.
            StoreMissing, PeerLost, TransferTimeout: of a ticket by Ray's store.
        """
        self._check_open()
        devices, target = self._devices, None
        if isinstance(onto, Sharding):
            devices, target = devices_of(onto), onto
        elif onto is not None:
            devices = tuple(onto)
        if ticket.store:
            what = f"identifier {hex(ticket.identifier)} from {ticket.peer}"
            moved = [leaf for leaf in ticket.leaves if math.prod(leaf.shape)]
            views = ray_store.get_arrays(ticket.store, moved, self._patience, what)
            flat = [jax.device_put(view, devices[0]) for view in views]
            self._pulls.pulled += 1
            self._pulls.pulled_bytes += ticket.nbytes
            self._pulls.tell(ticket.peer, "done", ticket.identifier)
            return Pull(ticket, None, flat, arrived_tree(ticket, flat, devices, target))
        avals = [shape_here(leaf, devices) for leaf in ticket.leaves if math.prod(leaf.shape)]
        link = self._pulls.link(ticket.peer)
        flat = link.connection.pull(ticket.identifier, avals)
        found = Pull(ticket, link, flat, arrived_tree(ticket, flat, devices, target))
        self._pulls.watch(found)
        return found

    def release(self, tickets: Ticket | Sequence[Ticket]) -> None:
        """Gives back what will not be pulled, of this process or of another; returns at once."""
        self._check_open()
        for ticket in [tickets] if isinstance(tickets, Ticket) else tickets:
            if ticket.peer == self.peer:
                self._offers.release([ticket.identifier])
            else:
                self._pulls.tell(ticket.peer, "release", ticket.identifier)

    def stats(self) -> TransferStats:
        """As of now; `taken` lags by some hundredths of a second."""
        offers, pulls = self._offers, self._pulls
        return TransferStats(
            *offers.live(),
            *pulls.live(),
            issued=offers.issued,
            taken=offers.taken,
            taken_bytes=offers.taken_bytes,
            orphans=offers.orphans,
            released=offers.released,
            pulled=pulls.pulled,
            pulled_bytes=pulls.pulled_bytes,
            refused=offers.refused + pulls.refused,
            timed_out=pulls.timed_out,
            peers_lost=pulls.peers_lost,
        )

    def close(self) -> None:
        """Frees all offers, fails all pulls, closes the ports, ends the thread. May be called
        twice."""
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + _LAST_WORDS
        self._door.wake()
        while self._pulls.untold() and time.monotonic() < until:
            time.sleep(0.002)
        self._door.close()
        self._pulls.close(TransferError(f"the transfers of {self.peer} were closed"))
        self._offers.close()
        reset = getattr(self._server, "_reset_rendevous_table", None)
        if reset is not None:
            reset()
        del self._server, self._offers._place, self._pulls._connect

    def __enter__(self) -> Transfers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tick(self) -> float | None:
        """For the door's thread."""
        now = time.monotonic()
        times = [self._offers.tick(now), self._pulls.tick(now)]
        return min((pause for pause in times if pause is not None), default=None)

    def asked(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """For the door's thread: what a visitor wants, and what it is told.

        Raises:
            ValueError, TypeError, KeyError: it is not understood.
        """
        for what in ("done", "release", "ask"):
            if len(message.get(what, ())) > MOST:
                raise ValueError(f"more than {MOST} identifiers")
        self._offers.acknowledge(map(int, message.get("done", ())))
        self._offers.release(map(int, message.get("release", ())))
        if "ask" not in message:
            return None
        asked = [(int(identifier), int(buffers)) for identifier, buffers in message["ask"]]
        return {"told": [[one, self._offers.state(one, buffers)] for one, buffers in asked]}

    def _stored(
        self, way: Way, near: bool, nbytes: int, leaves: Sequence[Leaf], flat: Sequence[Any]
    ) -> tuple[str, Any]:
        """Where Ray's store has the arrays, and what keeps them there; "" is nowhere."""
        if way == "ray":
            ray_store.need_running()
            if any(leaf.layout != ONE for leaf in leaves):
                raise TransferError("way='ray' is for arrays on one device each")
            return ray_store.put_arrays([jax.block_until_ready(array) for array in flat])
        if way != "auto" or not near or not ray_store.running():
            return "", None
        if nbytes < self._store_from or not ray_store.plain_memory(flat):
            return "", None
        try:
            return ray_store.put_arrays(flat)
        except (StoreFull, TransferError, RuntimeError):  # the other way may still work
            return "", None

    def _check_open(self) -> None:
        if self._closed:
            raise TransferError(f"the transfers of {self.peer} were closed")


def _made_elsewhere(leaf: Any) -> bool:
    return isinstance(leaf, Value | BaseException)


def _host(listen: str) -> str:
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise TransferError(
            f"cannot listen on {listen!r}: give the IP address of an interface, which peers "
            "will connect to"
        ) from None
    if address.is_unspecified:
        raise TransferError(
            f"cannot listen on {listen!r}: peers are told the address, and that is every "
            "interface's; give the one that they reach this host by"
        )
    return f"[{listen}]" if address.version == 6 else listen
