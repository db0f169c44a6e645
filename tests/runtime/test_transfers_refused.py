"""Transfers that cannot be, or do not end as they should: each wait ends, with the reason."""

import json
import socket
import time

import jax
import jax.numpy as jnp
import pytest
from byways.runtime.carried_errors import LONGEST, carried_error, error_text
from jax.experimental.transfer import make_error_array

from byways import runtime as rt

from . import islands


@pytest.fixture
def pair():
    with rt.Transfers("here", patience=0.6) as here, rt.Transfers("there") as there:
        yield here, there


def test_errors_arrive_by_their_names(pair):
    here, there = pair
    node = rt.NodeError("ValueError: é" + "x" * 5000, "step", "loss", "island 1")
    with rt.Runtime() as system:
        part = system.virtual_devices().add_slice(1)
        bad = rt.computation(lambda x: islands.refuse(x) + 1, part, name="picky")
        value = bad(jnp.ones(3))
        (ticket, of_value) = there.offer([node, rt.Cancelled("left"), KeyError("k")]) + there.offer(
            value
        )
        pull = here.pull(ticket)
        with pytest.raises(rt.NodeError, match="node 'loss' of program 'step' on isl") as caught:
            pull.result(20.0)
        assert (caught.value.node, caught.value.island) == ("loss", "island 1")
        for number, (kind, text) in enumerate(
            [(rt.NodeError, "'loss'"), (rt.Cancelled, "left"), (rt.RuntimeFault, "KeyError: 'k'")]
        ):
            # Through a computation, and to the next process.
            (on,) = here.offer(jax.jit(lambda x: x * 2)(pull.tree[number]))
            with pytest.raises(kind, match=text):
                there.pull(on).result(20.0)
        with pytest.raises(rt.NodeError, match=r"(?s)'picky'.*on purpose") as caught:
            here.pull(of_value).result(20.0)
        assert caught.value.island == "local"
        with pytest.raises(rt.NodeError):
            value.result()
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    broken = make_error_array(jax.ShapeDtypeStruct((4,), jnp.float32, sharding=where), "boom")
    named = there.offer(broken, origin=("p", "n", "i"))
    with pytest.raises(rt.NodeError, match="node 'n' of program 'p' on island 'i' failed"):
        here.pull(named[0]).result(20.0)


@pytest.mark.parametrize("said", ["plain", "\0\n" * 3000, '"' * 3000, "é" * 3000])
def test_an_error_fits_what_an_array_can_say(said):
    text = error_text(rt.NodeError(said, "é" * 500, "n", "i"))
    assert len(text) < 2048 - 400  # stations add their words
    found = carried_error(RuntimeError(f"INTERNAL: Error while transferring: {text}"))
    assert isinstance(found, rt.NodeError)
    assert found.node == "n"
    assert len(text) <= LONGEST + 20
    assert carried_error(RuntimeError("byways error {broken")) is None
    assert carried_error(RuntimeError('byways error {"kind": "Exit", "said": "x"}')).args == ("x",)


def test_donating_what_was_offered_is_told(pair):
    here, there = pair
    x = jnp.ones(100)
    (ticket,) = there.offer(x)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x).block_until_ready()
    with pytest.raises(rt.ValueReleased, match="donated or deleted there before it was pulled"):
        here.pull(ticket).result(20.0)
    with pytest.raises(rt.ValueReleased, match="before it was offered"):
        there.offer(x)


def test_a_peer_that_is_not_there_and_one_that_left():
    with rt.Transfers("here") as here:
        with rt.Transfers("there") as there:
            (ticket, other) = there.offer(jnp.ones(5), pulls=2)
            here.pull(other).result(20.0)
        began = time.monotonic()
        with pytest.raises(rt.PeerLost, match=r"'there' at .*0x"):
            here.pull(ticket).result(20.0)
        with rt.Transfers("again") as anew:  # at other addresses
            ticket = rt.Ticket(7, ticket.peer._replace(born="x"), ticket.leaves)
            with pytest.raises(rt.IslandLost):
                here.pull(ticket).result()
            (ticket,) = anew.offer(jnp.ones(5))
            here.pull(ticket).result(20.0)
        assert time.monotonic() - began < 5
        assert here.stats().peers_lost == 2


class Silent:
    """Accepts connections and says nothing, as a stopped process does."""

    def __enter__(self):
        self._ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        return [f"127.0.0.1:{port.getsockname()[1]}" for port in self._ports]

    def __exit__(self, *_):
        for port in self._ports:
            port.close()


def test_a_peer_that_is_alive_and_silent(pair):
    here, there = pair
    (ticket,) = there.offer(jnp.ones(5))
    with Silent() as (data, door):
        silent = rt.Ticket(
            9, ticket.peer._replace(name="mute", data=data, door=door), ticket.leaves
        )
        pull = here.pull(silent)
        with pytest.raises(rt.TransferTimeout, match=r"0x9 from 'mute' at .* after 0.05 s: ask ag"):
            pull.result(0.05)
        with pytest.raises(rt.TransferTimeout, match=r"answered nothing for 0\.[67] s"):
            pull.result()
        with pytest.raises(rt.RunTimeout):
            pull.result()
        assert here.stats().timed_out == 1
        # A door that answers, and a data port that does not.
        (other,) = there.offer(jnp.ones(5))
        stuck = rt.Ticket(other.identifier, other.peer._replace(data=data), other.leaves)
        with pytest.raises(rt.TransferTimeout, match="its data port has sent nothing whole"):
            here.pull(stuck).result()
    assert here.pull(ticket).result(20.0).shape == (5,)


def test_a_door_answers_about_identifiers_and_nothing_else(pair):
    here, there = pair
    host, port = there.peer.door.split(":")
    (ticket,) = there.offer(jnp.ones(3))
    for nonsense in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'{"ask": 3}\n',
        b"[" * 200_000 + b"\n",
        b"{" * (2 << 20),
    ):
        with socket.create_connection((host, int(port)), timeout=5) as visitor:
            try:
                visitor.sendall(nonsense)
                assert visitor.recv(10) == b""
            except ConnectionError:
                pass
    with socket.create_connection((host, int(port)), timeout=5) as visitor:
        visitor.sendall(json.dumps({"ask": [[1, 1], [ticket.identifier, 1]]}).encode() + b"\n")
        told = json.loads(visitor.makefile().readline())["told"]
    assert "never issued" in told[0][1]
    assert told[1] == [ticket.identifier, "open"]
    assert here.pull(ticket).result(20.0).shape == (3,)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({1: jnp.ones(2)}, "string keys"),
        (rt.Branches([jnp.ones(2)]), "jax.tree.leaves"),
    ],
)
def test_what_cannot_be_told_is_refused(pair, tree, why):
    _, there = pair
    with pytest.raises((rt.TransferError, TypeError), match=why):
        there.offer(tree)
    with pytest.raises(rt.TransferError, match="give 1 or more"):
        there.offer(jnp.ones(2), pulls=0)
    assert there.stats().issued == 0


@pytest.mark.parametrize(
    "text", ["", "3", "{}", '{"byways_ticket": 9}', '{"byways_ticket": 1, "identifier": 4}']
)
def test_what_is_no_ticket_is_refused(text):
    with pytest.raises(rt.TransferError, match="ticket"):
        rt.Ticket.from_json(text)


def test_without_a_ray_the_plain_way_is_taken_and_a_wish_for_it_refused(pair, monkeypatch):
    here, there = pair
    large = jnp.ones(5 * 2**20)
    (ticket,) = there.offer(large, near=True)
    assert not ticket.store
    assert here.pull(ticket).result(20.0).shape == large.shape
    with pytest.raises(rt.StoreMissing, match="way='ray' needs"):
        there.offer(large, way="ray")
    import importlib.metadata

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(rt.StoreMissing, match=r"pip install 'byways\[ray\]'"):
        there.offer(large, way="ray")
    with pytest.raises(rt.StoreMissing, match="Ray"):
        here.pull(rt.Ticket(3, there.peer, ticket.leaves, store="eA==:eA=="))
