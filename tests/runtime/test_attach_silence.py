"""Signs of life: who gives them stays, however idle, and who gives none holds up nobody else."""

import socket
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime import attach_exchange, controller_session
from byways.runtime import controller as controller_file
from byways.runtime.attach_exchange import Exchange
from byways.runtime.attach_wire import Line, greet, versions

from byways import runtime as rt

from . import attached
from .attached import TOKEN, client_of, eventually, left, line_to

controller, client, part = attached.controller, attached.client, attached.part


@pytest.fixture
def short(monkeypatch):
    """Silence is short, and signs of life come much more often than that."""
    monkeypatch.setattr(attach_exchange, "SILENCE", 2.0)
    monkeypatch.setattr(controller_session, "SILENCE", 2.0)
    monkeypatch.setattr(attach_exchange, "BEAT", 0.05)
    monkeypatch.setattr(controller_file, "BEAT", 0.05)


@pytest.fixture
def patient(short, system):
    """A controller, and a client that both are to be heard of again soon."""
    with attached.controlled(system) as controller:
        with client_of(controller) as client:
            yield controller, client
        left(controller)


def stopped_client(controller, floats):
    """The end of a client that is sent a large answer and reads none of it, as after Ctrl-Z."""
    line = line_to(controller)
    hello = {"versions": versions(), "default name": "stopped", "weight": 1.0, "priority": 0}
    greet(line, TOKEN, "here", hello, 20.0)
    line.send(("ask", 1, "slice", None, {"device": 1}))
    while (told := line.receive())[0] != "answer":
        pass
    line.send(("put", told[3][0], [0], {0: np.zeros(floats, np.float32)}, 1))
    line.send(("ask", 2, "fetch", 1, None))
    session = controller.sessions[-1]
    eventually(session.line._lock.locked)  # it is being sent
    return line


def test_an_idle_client_stays(patient):
    _, client = patient
    value = client.virtual_devices().add_slice(1).put(jnp.ones(3))
    time.sleep(3.0)
    assert client.exchange.ended is None
    assert value.result().tolist() == [1, 1, 1]


def test_who_waits_long_for_an_answer_stays(patient):
    controller, client = patient
    (session,) = controller.sessions
    session._answers.ask_compile = lambda plan: time.sleep(3.0)
    client.exchange.ask("compile", 5)
    assert client.exchange.ended is None


def test_a_long_message_is_no_silence(short):
    ours, theirs = socket.socketpair()
    line, other = Line(ours), Line(theirs)
    line.expect(0.4)
    data = memoryview(b"x" * 1000)
    theirs.sendall(len(data).to_bytes(4, "big"))

    def dribble():
        for byte in range(0, 1000, 100):
            time.sleep(0.1)
            theirs.sendall(data[byte : byte + 100])

    threading.Thread(target=dribble, daemon=True).start()
    assert line.connection.recv_bytes() == data
    with pytest.raises(TimeoutError):
        line.receive()
    other.close()
    line.close()


def test_a_controller_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(attach_exchange, "SILENCE", 0.3)
    monkeypatch.setattr(attach_exchange, "BEAT", 0.05)
    ours, theirs = socket.socketpair()
    exchange = Exchange(Line(ours), "me", "here")
    with pytest.raises(rt.ControllerGone, match=r"has said nothing for 0.3 s"):
        exchange.ask("status")
    theirs.close()


def test_a_controller_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(attach_exchange, "SILENCE", 0.3)
    ours, theirs = socket.socketpair()
    exchange = Exchange(Line(ours), "me", "here")
    with pytest.raises(rt.ControllerGone, match=r"has said nothing for 0.3 s"):
        exchange.tell("put", b"x" * 10_000_000)
    exchange.close()
    theirs.close()


def test_a_client_leaves_a_controller_that_takes_nothing():
    ours, theirs = socket.socketpair()
    exchange = Exchange(Line(ours), "me", "here")
    failed = []

    def put():
        try:
            exchange.tell("put", b"x" * 10_000_000)
        except rt.ValueReleased as error:
            failed.append(error)

    sending = threading.Thread(target=put)
    sending.start()
    eventually(exchange.line._lock.locked)
    exchange.close()
    sending.join(20)
    assert failed
    theirs.close()


def test_a_client_that_says_nothing_is_sent_away(controller, monkeypatch):
    monkeypatch.setattr(attach_exchange, "BEAT", 60.0)
    monkeypatch.setattr(controller_session, "SILENCE", 0.2)
    client = client_of(controller)
    left(controller)
    eventually(lambda: client.exchange.ended is not None)
    with pytest.raises(rt.ControllerGone, match="has not heard of this client"):
        client.status()


def test_a_stopped_client_holds_up_no_other(controller, monkeypatch):
    polled = []
    monkeypatch.setattr(controller.system, "poll", lambda: polled.append(1))
    monkeypatch.setattr(controller_session, "SILENCE", 1.0)
    line = stopped_client(controller, 8_000_000)
    monkeypatch.setattr(controller_session, "SILENCE", 60.0)
    with client_of(controller, name="other") as other:
        left(controller, 1)  # the stopped one
        seen = len(polled)
        eventually(lambda: len(polled) > seen + 1)
        assert [c["name"] for c in other.status()["clients"]] == ["other"]
    left(controller)
    line.close()


def test_a_stopped_client_holds_up_no_end(system):
    controller = rt.Controller(system, TOKEN)
    line = stopped_client(controller, 8_000_000)
    end = threading.Thread(target=controller.close, daemon=True)
    end.start()
    end.join(30)
    assert not end.is_alive()
    line.close()


def test_whether_it_is_done_is_looked_up_beside_all_else(client, part, controller, monkeypatch):
    looked, go = threading.Event(), threading.Event()
    out = rt.computation(lambda x: x + 1, part)(jnp.zeros(3))
    assert out.result().tolist() == [1, 1, 1]
    # As when what it needs is to be sent first, and there is no room for it.
    monkeypatch.setattr(rt.Value, "done", lambda self: looked.set() or go.wait(20))
    asking = threading.Thread(target=out.done)
    asking.start()
    assert looked.wait(20)
    assert client.status()["clients"][0]["name"] == "me"
    assert asking.is_alive()
    go.set()
    asking.join(20)


def test_many_who_wait_hold_up_no_look(client, part, controller):
    go = threading.Event()
    early = rt.computation(lambda x: x + 1, part)(jnp.zeros(3))
    early.result()
    (session,) = controller.sessions
    session._enqueue(go.wait, [20])
    late = part.put(np.ones(3))
    waiting = [threading.Thread(target=late.result) for _ in range(controller_session.WAITING)]
    for thread in waiting:
        thread.start()
    eventually(lambda: len(session._waiting._threads) == controller_session.WAITING)
    assert early.done()
    assert not late.done()
    go.set()
    for thread in waiting:
        thread.join(20)
    assert late.done()
