"""Arrays from one `Transfers` to another: most in one process, between two servers."""

import asyncio
import gc
import os
import pickle
import socket
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from byways import runtime as rt

from . import islands
from .peers import until


@pytest.fixture
def pair():
    with rt.Transfers("here", patience=0.6) as here, rt.Transfers("there") as there:
        yield here, there


def test_a_tree_arrives_as_it_was(pair):
    here, there = pair
    tree = {
        "b": [jnp.arange(6.0).reshape(2, 3), (jnp.ones(3, jnp.bfloat16), None)],
        "a": {"none": jnp.zeros((0, 4)), "scalar": jnp.array(True), "int4": jnp.ones(7, jnp.int4)},
        "plain": np.arange(3, dtype=np.int16),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2),
    }
    (ticket,) = there.offer(tree)
    ticket = rt.Ticket.from_json(pickle.loads(pickle.dumps(ticket)).to_json())
    pull = here.pull(ticket)
    found = pull.result(20.0)
    assert pull.done()
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert bool(jnp.all(one == other))
    assert ticket.shapes["b"][0].shape == (2, 3)
    # 24 + 6 bytes, 0 + 1 + 7 of int4 (a byte each), 6, 8 of a threefry and 32 of two rbg keys
    assert ticket.nbytes == 24 + 6 + 0 + 1 + 7 + 6 + 8 + 32


def test_a_pull_is_used_before_it_has_come_and_an_offer_made_before_it_is_computed(pair):
    here, there = pair
    x = jax.device_put(jnp.eye(400), jax.devices()[3])
    (ticket,) = there.offer(jax.jit(islands.slow)(x))
    pulled = here.pull(ticket).tree
    assert bool((jnp.dot(pulled, jnp.ones(400)) == islands.slow(jnp.eye(400)).sum(1)).all())


@pytest.mark.parametrize("spec", [("data", "model"), (None, "model"), (("data", "model"),), ()])
def test_a_sharding_is_the_same_over_the_devices_of_the_other(pair, spec):
    here, there = pair
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    x = jax.device_put(jnp.arange(64.0).reshape(8, 8), NamedSharding(mesh, PartitionSpec(*spec)))
    one, other, third = there.offer(x, pulls=3)
    at = here.pull(one, onto=jax.devices()[4:]).result(20.0)
    assert bool((np.asarray(at) == np.asarray(x)).all())
    if spec:
        assert [d.id for d in at.sharding.mesh.devices.flat] == [4, 5, 6, 7]
        assert at.sharding.spec == x.sharding.spec
        with pytest.raises(rt.TransferError, match=r"4 devices \(data=2, model=2\).* here are 1"):
            here.pull(other, onto=jax.devices()[:1])
    target = NamedSharding(Mesh(jax.devices()[:4], "all"), PartitionSpec("all"))
    moved = here.pull(third, onto=target).result(20.0)
    assert moved.sharding == target
    assert bool((np.asarray(moved) == np.asarray(x)).all())


def test_an_offer_serves_one_pull_and_a_second_is_refused(pair):
    here, there = pair
    tickets = there.offer(jnp.ones(5), pulls=3)
    assert len({ticket.identifier for ticket in tickets}) == 3
    for ticket in tickets:
        here.pull(ticket).result(20.0)
    until(lambda: there.stats().taken == 3)
    assert there.stats().offers == there.stats().pinned == 0
    again = here.pull(tickets[0])
    with pytest.raises(rt.TransferRefused, match="it was taken: one offer serves one pull"):
        again.result()
    with pytest.raises(jax.errors.JaxRuntimeError, match="it was taken"):  # not only the future
        jnp.sum(again.tree).block_until_ready()
    until(lambda: here.stats().refused == there.stats().refused == 1)


def test_an_identifier_that_was_never_issued_is_refused(pair):
    here, there = pair
    (ticket,) = there.offer({"x": jnp.ones(5), "y": jnp.ones((3, 2))})
    forged = rt.Ticket(12345, ticket.peer, ticket.leaves, ticket.structure)
    with pytest.raises(rt.TransferRefused, match=r"'there' at 127.* identifier 0x3039: it was nev"):
        here.pull(forged).result()
    assert here.pull(ticket).result(20.0)["y"].shape == (3, 2)  # the connection is whole


def test_what_nobody_pulls_expires_and_is_freed(pair):
    here, there = pair
    one, other = jnp.ones(1000).block_until_ready(), jnp.ones(1000)
    (later,) = there.offer(other)
    (ticket,) = there.offer(one, expiry=0.5)
    assert there.stats().pinned == 8000
    until(lambda: there.stats().orphans == 1)
    stats = there.stats()
    assert (stats.offers, stats.pinned, stats.issued) == (1, 4000, 2)
    with pytest.raises(rt.TransferRefused, match="nobody pulled it in time"):
        here.pull(ticket).result(20.0)
    assert here.pull(later).result(20.0).shape == (1000,)


def test_expired_buffers_leave_memory():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with rt.Transfers() as mine:
        x = jnp.ones(2**24).block_until_ready()  # 64 MB
        before = resident()
        mine.offer(x, expiry=0.05)
        del x
        until(lambda: mine.stats().orphans == 1)
        gc.collect()
        until(lambda: resident() < before - 40e6)


def test_what_is_computed_does_not_expire_meanwhile(pair):
    here, there = pair
    (ticket,) = there.offer(jax.jit(islands.slow)(jnp.eye(400) * 1.5), expiry=0.01)
    pulled = here.pull(ticket)
    assert pulled.result(20.0).shape == (400, 400)


def test_the_consumer_releases(pair):
    here, there = pair
    tickets = there.offer(jnp.ones(10), pulls=2)
    here.release(tickets[0])
    there.release(tickets[1])
    until(lambda: there.stats().released == 2)
    assert there.stats().pinned == 0
    with pytest.raises(rt.TransferRefused, match="released"):
        here.pull(tickets[0]).result(20.0)


def test_nothing_is_kept_of_peers_that_left():
    def files():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with rt.Transfers("here") as here:

        def once():
            with rt.Transfers("there") as there:
                here.pull(there.offer(jnp.ones(5))[0]).result(20.0)
                until(lambda: there.stats().taken == 1)
            until(lambda: not here._pulls._links, 20.0)

        once()
        before = files()
        for _ in range(3):
            once()
        until(lambda: files() <= before)
        assert here.stats().peers_lost == 0


def test_a_line_that_ended_is_no_peer_that_did():
    def ends(link):
        line = link.line
        line._socket.shutdown(socket.SHUT_RDWR)
        until(lambda: line.gone)

    with (
        rt.Transfers("here") as here,
        rt.Transfers("there") as there,
        socket.create_server(("127.0.0.1", 0)) as mute,
    ):
        (ticket,) = there.offer(jnp.ones(5))
        # Whose door answers, and whose data port does not.
        data = f"127.0.0.1:{mute.getsockname()[1]}"
        peer = ticket.peer._replace(data=data)
        here.release(rt.Ticket(7, peer, ticket.leaves))
        until(lambda: here._pulls._links[peer].line is not None)
        ends(here._pulls._links[peer])
        pull = here.pull(rt.Ticket(ticket.identifier, peer, ticket.leaves))
        until(lambda: pull.state == "open")  # asked by another line
        pull.state = ""
        ends(pull.link)
        until(lambda: pull.state == "open")
        assert pull.fault is None
        assert here.stats().peers_lost == 0


def test_awaiting_a_pull(pair):
    here, there = pair

    async def both():
        tickets = there.offer(jnp.ones(5), pulls=2)
        return await asyncio.gather(*(one(here.pull(ticket)) for ticket in tickets))

    async def one(pull):
        return await pull

    assert [x.shape for x in asyncio.run(both())] == [(5,), (5,)]


def test_many_threads(pair):
    here, there = pair
    tickets = [there.offer(jnp.full(100, n)) for n in range(40)]
    found = {}

    def take(part):
        for n in part:
            found[n] = float(here.pull(tickets[n][0]).result(20.0)[7])

    threads = [threading.Thread(target=take, args=(range(n, 40, 4),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n for n in range(40)}
    until(lambda: there.stats().taken == 40)
    stats = here.stats()
    assert (stats.pulled, stats.pulled_bytes, stats.pulls) == (40, 40 * 400, 0)


def test_nothing_is_left_when_closed():
    def left():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def use():
        with rt.Transfers() as one, rt.Transfers() as other:
            (ticket, orphan, *_) = one.offer(jnp.ones(10), pulls=3)
            other.pull(ticket).result(20.0)
            pending = other.pull(rt.Ticket(5, one.peer, ticket.leaves))
        with pytest.raises(rt.TransferError):
            pending.result(20.0)
        with pytest.raises(rt.TransferError, match="were closed"):
            other.pull(orphan)
        other.close()

    use()
    time.sleep(0.2)
    files, threads = left()
    for _ in range(5):
        use()
    until(lambda: left()[0] <= files and left()[1] <= threads)


def test_who_closes_says_what_it_has_pulled():
    with rt.Transfers() as one:
        tickets = one.offer(jnp.ones(10), pulls=2)
        with rt.Transfers() as other:
            other.pull(tickets[0]).result(20.0)
            other.release(tickets[1])
        until(lambda: one.stats().offers == 0)
        assert (one.stats().taken, one.stats().released) == (1, 1)


def test_an_abandoned_one_ends_its_thread():
    before = threading.active_count()
    transfers = rt.Transfers()
    transfers.offer(jnp.ones(3), expiry=0.2)  # so that it looks again soon
    assert threading.active_count() == before + 1
    del transfers
    gc.collect()
    until(lambda: threading.active_count() == before)


def test_only_the_loopback_listens_unless_told_otherwise():
    with rt.Transfers() as mine:
        assert mine.peer.data.startswith("127.0.0.1:")
        assert mine.peer.door.startswith("127.0.0.1:")
        with open("/proc/self/net/tcp") as file:
            listening = [line.split()[1] for line in file if " 0A " in line]
        for address in (mine.peer.data, mine.peer.door):
            port = f"{int(address.rpartition(':')[2]):04X}"
            assert [one for one in listening if one.endswith(port)] == [f"0100007F:{port}"]
    for listen, why in [("0.0.0.0", "every interface"), ("my-host", "IP address"), ("", "IP add")]:
        with pytest.raises(rt.TransferError, match=why):
            rt.Transfers(listen=listen)
    with pytest.raises(rt.TransferError, match=r"cannot listen on '192\.0\.2\.1'"):
        rt.Transfers(listen="192.0.2.1")
