"""Arrays between two processes."""

import time

import jax.numpy as jnp
import pytest

from byways import runtime as rt

from .peers import peer


def test_between_two_processes():
    with rt.Transfers("here", patience=0.5) as here, peer() as other:
        ticket = other.ticket("offer 1000")
        tree = here.pull(ticket).result(20.0)
        assert float(tree["x"].sum()) == 999 * 500
        assert tree["y"][0] == 1.5
        while other.ask("stats") != "1":
            time.sleep(0.01)
        with pytest.raises(rt.NodeError, match="node 'loss' of program 'step'"):
            here.pull(other.ticket("fail")).result(20.0)

        (mine,) = here.offer([jnp.ones(1000), jnp.ones((2, 3))])
        assert other.ask(f"pull {mine.to_json()}") == "1006.0"
        assert other.ask(f"pull {mine.to_json()}").startswith("TransferRefused peer 'here' at 127.")

        # Alive and silent: the data port takes the connection, and nobody answers.
        ticket = other.ticket("offer 1000")
        other.stop()
        began = time.monotonic()
        with pytest.raises(rt.TransferTimeout, match=r"from 'other' at .* answered nothing for"):
            here.pull(ticket).result()
        assert 0.5 < time.monotonic() - began < 3
        other.go_on()

        # Dead while a pull waits for it.
        lost = here.pull(rt.Ticket(99, ticket.peer, ticket.leaves, ticket.structure))
        other.kill()
        began = time.monotonic()
        with pytest.raises(rt.PeerLost, match=r"0x63|'other'"):
            lost.result()
        # And dead before it begins.
        with pytest.raises(rt.PeerLost, match="'other' at"):
            here.pull(ticket).result()
        assert time.monotonic() - began < 2
        while here.stats().pulls:
            time.sleep(0.01)


def test_a_peer_that_closes_in_good_order_ends():
    with rt.Transfers("here") as here, peer() as other:
        first, second = other.ticket("offer 10"), other.ticket("offer 10")
        here.pull(first).result(20.0)
        assert other.end() == "closed"
        with pytest.raises(rt.PeerLost):
            here.pull(second).result(20.0)
