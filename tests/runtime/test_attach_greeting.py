"""Who calls a controller, and is no client, or none that it can serve."""

import select
import socket
import time

import pytest
from byways.runtime import attach_wire
from byways.runtime import controller as controller_file
from byways.runtime.attach_wire import greet, versions

from byways import runtime as rt

from . import attached
from .attached import TOKEN, eventually, left, line_to

controller = attached.controller


def calling(address):
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), 20)


def test_who_calls_the_controller_and_is_no_client(controller, monkeypatch):
    address = controller.listen()
    monkeypatch.setattr(attach_wire, "GREETING", 0.2)
    silent, noisy = calling(address), calling(address)
    noisy.sendall(b"x" * 1000)
    assert silent.recv(1 << 16)  # the challenge
    eventually(lambda: not silent.recv(1 << 16))  # and then it is hung up
    noisy.close()
    silent.close()
    monkeypatch.setattr(attach_wire, "GREETING", 20.0)
    with rt.attach(address, token=TOKEN) as client:
        assert [len(island.devices) for island in client.islands.values()] == [8]
    left(controller)


@pytest.mark.parametrize("lacks", ["weight", "priority", "default name"])
def test_a_greeting_that_lacks_something(controller, lacks):
    hello = {"versions": versions(), "default name": "x", "weight": 1.0, "priority": 0}
    del hello[lacks]
    line = line_to(controller)
    with pytest.raises(rt.AttachError, match=f"its greeting says nothing of '{lacks}'"):
        greet(line, TOKEN, "here", hello, 20.0)
    with pytest.raises((EOFError, OSError)):
        line.receive()
    line.close()


def test_a_greeting_of_the_wrong_kind(controller):
    known = {"versions": versions(), "default name": "x", "weight": 1.0, "priority": 0}
    for wrong, kind, said in (
        ({"versions": "3"}, rt.VersionMismatch, "its versions are '3'"),
        ({"priority": float("inf")}, rt.AttachError, "infinity"),
        ({"weight": None}, rt.AttachError, "NoneType"),
    ):
        line = line_to(controller)
        with pytest.raises(kind, match=said):
            greet(line, TOKEN, "here", known | wrong, 20.0)
        line.close()
    watching = line_to(controller)  # of no versions, however it says so
    assert greet(watching, TOKEN, "here", known | {"versions": None}, 20.0) == {"name": ""}
    watching.close()
    assert not controller.sessions


def test_strangers_are_let_in_a_few_at_a_time(system, monkeypatch):
    monkeypatch.setattr(controller_file, "STRANGERS", 2)
    with attached.controlled(system) as controller:
        address = controller.listen()
        strangers = [calling(address) for _ in range(6)]
        challenged = lambda: select.select(strangers, [], [], 0.3)[0]  # noqa: E731
        eventually(lambda: len(challenged()) == 2)
        assert len(challenged()) == 2
        for stranger in strangers:
            stranger.close()
        with rt.attach(address, token=TOKEN) as client:
            assert client.islands
        left(controller)


def test_nobody_comes_in_after_the_end(system):
    controller = rt.Controller(system, TOKEN)
    address = controller.listen()
    with calling(address) as caller:
        assert caller.recv(1 << 16)
    time.sleep(0.2)  # by now, the next one is waited for
    controller.close()
    with pytest.raises(rt.ControllerGone, match="no controller listens"):
        rt.attach(address, token=TOKEN)
