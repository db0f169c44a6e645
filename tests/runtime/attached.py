"""A controller in this process and clients at the other ends of socket pairs.

A file of tests takes the fixtures that it uses: `client = attached.client`.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import time

import pytest
from byways.runtime.attach_client import entered
from byways.runtime.attach_wire import Line

from byways import runtime as rt

TOKEN = "secret"


def line_to(controller: rt.Controller) -> Line:
    """One end; the controller serves the other."""
    ours, theirs = socket.socketpair()
    controller.serve(theirs)
    return Line(ours)


def client_of(controller: rt.Controller, token: str = TOKEN, **asked) -> rt.Attached:
    """A client; everything goes through the line, pickled."""
    asked = {"weight": 1.0, "priority": 0} | asked
    return entered(line_to(controller), token, "here", **asked)


def eventually(true, seconds: float = 20.0) -> None:
    """Waits until it is; what other threads do takes a while."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.005)


def left(controller: rt.Controller, clients: int = 0) -> None:
    """Waits until only so many clients are there, and forgets what they had."""
    eventually(lambda: len(controller.sessions) == clients)
    gc.collect()
    controller.system.settle()


@contextlib.contextmanager
def controlled(system: rt.Runtime):
    """A controller of a runtime, which nobody is left at."""
    with rt.Controller(system, TOKEN) as made:
        yield made


@pytest.fixture
def controller(system):
    with controlled(system) as made:
        yield made


@pytest.fixture
def client(controller):
    with client_of(controller, name="me") as made:
        yield made
    left(controller)


@pytest.fixture
def part(client):
    return client.virtual_devices().add_slice(1)
