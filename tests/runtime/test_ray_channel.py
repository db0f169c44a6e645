"""The direct way into an island's process, with real sockets and no other processes."""

import socket
import threading
import time
import types
from multiprocessing import AuthenticationError
from multiprocessing.reduction import ForkingPickler

import jax
import numpy as np
import pytest
from byways.runtime import ray_channel, ray_line
from byways.runtime.errors import IslandLost
from byways.runtime.ray_actor import IslandActor
from byways.runtime.ray_channel import Entrance, Listening
from byways.runtime.ray_claims import new_claim
from byways.runtime.ray_mail import Mail
from byways.runtime.ray_sending import LIGHT


def soon(what, seconds=10.0):
    """Whether it becomes true."""
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.005)
    return what()


@pytest.fixture
def listening():
    heard = []

    def serve(purpose, found):
        heard.append(purpose)
        while True:
            found.send(found.recv())

    made = Listening("127.0.0.1", serve)
    made.heard = heard
    yield made
    made.close()


def test_who_knows_the_key_is_served(listening):
    found = listening.entrance.connect(("echo", 3))
    for what in ("a", np.arange(3), {"b": b"x" * 300_000}):
        found.send(what)
        assert repr(found.recv()) == repr(what)
    assert listening.heard == [("echo", 3)]
    found.close()


def test_who_does_not_is_not(listening):
    host, port, key = listening.entrance
    assert host == "127.0.0.1"
    with pytest.raises(AuthenticationError):
        Entrance(host, port, b"another key").connect(("echo",))
    with socket.create_connection((host, port)) as stranger:  # who proves nothing
        stranger.sendall(b"\0\0\0\4\x80\x04N.")
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(1000):
            pass
    assert not listening.heard
    Entrance(host, port, key).connect(("echo",)).close()
    assert soon(lambda: listening.heard == [("echo",)])


def test_strangers_who_say_nothing_neither_stop_others_nor_are_many(listening, monkeypatch):
    monkeypatch.setattr(ray_channel, "PROOF", 1)
    few = Listening("127.0.0.1", lambda purpose, found: found.send(found.recv()))
    few._strangers = threading.BoundedSemaphore(2)
    host, port, _ = few.entrance
    silent = [socket.create_connection((host, port)) for _ in range(2)]
    assert all(s.recv(4) for s in silent)  # they are asked for proof
    with socket.create_connection((host, port)) as third:
        third.settimeout(5)
        assert third.recv(4) == b""  # one too many
    for s in silent:  # and time is over for these
        s.settimeout(10)
        while s.recv(1000):
            pass
        s.close()

    def entered():
        try:
            found = few.entrance.connect(("echo",))
        except (OSError, AuthenticationError):
            return False
        found.send(1)
        return found.recv() == 1

    assert soon(entered)
    few.close()


def test_nobody_is_let_in_after_the_end(listening):
    listening.close()
    with pytest.raises((OSError, AuthenticationError)):
        listening.entrance.connect(("echo",))


class Method:
    def __init__(self, call):
        self.call = call
        self.remote = call

    def options(self, **_):
        return self


class Actor:
    """As Ray has it: methods that are called by `options(…).remote(…)`."""

    def __init__(self, inner):
        self.inner, self.calls = inner, []

    def __getattr__(self, name):
        def call(*args):
            self.calls.append(name)
            return getattr(self.inner, name)(*args)

        return Method(call)


class TimeoutOfRay(Exception):
    pass


RAY = types.SimpleNamespace(
    get=lambda answers, timeout=None: answers,
    exceptions=types.SimpleNamespace(
        GetTimeoutError=TimeoutOfRay, RayError=RuntimeError, RayTaskError=KeyError
    ),
)


@pytest.fixture
def island(monkeypatch):
    """An actor that is an island of this process, and the way to it."""
    monkeypatch.setattr(ray_line, "the_ray", lambda: RAY)
    inner = IslandActor("a", False)
    inner._devices = jax.devices()[:1]
    claim = new_claim(5.0)
    assert inner.claim(claim) is None
    actor = Actor(inner)
    entrance = tuple(inner._listening.entrance)
    settings = {"devices": 1, "peer": "a", "hosts": 1, "x64": jax.config.read("jax_enable_x64")}
    inner.begin(settings, {"a": [(actor, entrance)]})
    line = ray_line.RayLine("a", [actor], [entrance], claim)
    yield types.SimpleNamespace(actor=actor, inner=inner, line=line, claim=claim)
    inner._host.close()
    inner._listening.close()


def news_without_end(line):
    for _ in range(100):
        line.ask("news", 0, 0.05, False)


def put(number, *arrays):
    return ("put", range(number, number + len(arrays)), list(arrays), [((0,), (), ())])


def test_light_messages_and_news_do_not_go_by_ray(island):
    line = island.line
    line.send(1, 1, [put(0, np.ones(3, np.float32))])
    assert line.ask("news", 0, 5.0, False) == (1, [], [])
    assert line.ask("held") == 1
    assert island.actor.calls == ["held"]


def test_who_waits_is_heard_without_ray(island):
    wanted = []
    island.inner._host.want = wanted.append
    island.line.want(7)
    assert soon(lambda: wanted == [7])
    island.line._sends[0]._way.close()
    island.line.want(8)  # never raises: who listens for news hears why
    assert island.actor.calls == []


def test_heavy_ones_do_and_the_order_is_kept(island):
    line, heavy = island.line, np.ones(LIGHT, np.uint8)
    for number in range(1, 9):
        line.send(number, number, [put(number, heavy if number % 2 else heavy[:10])])
    assert soon(lambda: line.ask("news", 0, 0.01, False)[0] == 8)
    assert island.actor.calls == ["take_message"] * 4
    assert island.inner._host.fetch(7)[0].nbytes == heavy.nbytes


def test_a_message_that_nobody_understands_is_the_end_of_the_island(island):
    (sending,) = island.line._sends
    sending._way.send_bytes(b"\x80\x04cbyways_nothing\nhere\n.")
    with pytest.raises(IslandLost, match="byways_nothing"):
        news_without_end(island.line)


def test_so_is_one_that_cannot_be_taken(island, monkeypatch):
    def take_message(*_):
        raise MemoryError("no room for it")

    monkeypatch.setattr(island.inner._host, "take_message", take_message)
    island.line.send(1, 1, [])
    with pytest.raises(IslandLost, match="no room for it"):
        news_without_end(island.line)


def test_a_connection_that_ends_is_a_loss_and_ray_says_why(island, monkeypatch):
    (way,) = island.line._news
    way.close()
    with pytest.raises(IslandLost, match="does not speak any more"):
        island.line.ask("news", 0, 0.05, False)

    def killed(*_, **__):
        raise RuntimeError("the actor was killed")

    monkeypatch.setattr(RAY, "get", killed)
    with pytest.raises(IslandLost, match="the actor was killed"):
        island.line.ask("news", 0, 0.05, False)


def test_messages_go_by_ray_where_the_entrance_takes_them_no_more(island):
    (sending,) = island.line._sends
    sending._way.send_bytes(ForkingPickler.dumps((1, 1, [put(0, np.ones(2, np.float32))])))
    assert soon(lambda: island.inner.held() == 1)
    sending._way.close()
    sending._takes = types.SimpleNamespace(poll=lambda _: [1])
    island.line.send(2, 2, [put(1, np.ones(2, np.float32))])
    assert soon(lambda: island.inner.held() == 2)
    assert island.actor.calls == ["take_message"]


def test_another_controllers_questions_are_refused_and_its_messages_dropped(island):
    other = new_claim(5.0)
    line = ray_line.RayLine("a", [island.actor], [tuple(island.inner._listening.entrance)], other)
    with pytest.raises(IslandLost, match="has been taken by process"):
        line.ask("news", 0, 0.1, False)
    line.send(1, 1, [put(0, np.ones(2, np.float32))])
    island.line.send(1, 1, [put(5, np.ones(2, np.float32))])
    assert soon(lambda: island.inner.held() == 1)
    assert list(island.inner._host.values) == [5]


def test_mail_goes_by_entrances_and_by_ray_where_there_is_none(island):
    told = []

    def tell(actor, what):
        return lambda *args: told.append((what, *args))

    mail, entrance = Mail(tell), tuple(island.inner._listening.entrance)
    mail.meet({"a": [(island.actor, entrance)], "b": [(None, ("127.0.0.1", 1, b"key"))]})
    mail.post("a", "first", ("ticket", []), 0)
    assert island.inner._host._letterbox.word("first", "a", 1) == ("ticket", [])
    mail.post("b", "second", ("ticket", []), 0)
    mail.post("c", "third", ("ticket", []), 0)  # whom nobody knows: it is gone
    assert told == [("deliver", "second", ("ticket", []))]
    mail._ways["a", 0].close()
    mail.post("a", "fourth", (), 0)
    assert told[1:] == [("deliver", "fourth", ())]
    mail.lose("a")
    mail.post("a", "fifth", (), 0)
    mail.close()
    mail.post("b", "sixth", (), 0)
    assert len(told) == 2
