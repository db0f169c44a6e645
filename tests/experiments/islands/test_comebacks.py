"""An island that starts again is told of and known, whatever goes wrong on its way."""

from __future__ import annotations

import json

import jax
import pytest
from byways.experiments.islands.comebacks import ATTEMPTS, Comebacks
from byways.experiments.islands.events import Events
from byways.runtime import IslandLost, Runtime


@pytest.fixture
def lost(tmp_path):
    """A runtime whose island b is lost, a maker of comebacks, and what they tell."""
    file = tmp_path / "islands.jsonl"
    events = Events(file, tell=lambda _: None)
    devices = jax.local_devices()
    with Runtime({"a": devices[:1], "b": devices[1:2]}) as system:
        system.lose_island("b")

        def told():
            return [json.loads(line) for line in file.read_text().splitlines()]

        yield system, lambda warm: Comebacks(system, warm, events), told


def start(comebacks):
    """Has b started, and waits until its thread ends."""
    comebacks.start("b")
    thread = comebacks._threads["b"]
    thread.join(60.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [OSError("no such port"), IslandLost("it does not answer")])
def test_any_error_of_a_start_is_told_and_it_is_tried_again(lost, monkeypatch, error):
    system, make, told = lost
    restart, errors = system.restart_island, [error]

    def fail_first(name):
        if errors:
            raise errors.pop()
        restart(name)

    monkeypatch.setattr(system, "restart_island", fail_first)
    comebacks = make(lambda name: None)
    start(comebacks)
    assert list(comebacks.back) == ["b"]
    first, second = told()
    assert (first["event"], first["attempt"]) == ("no restart", 1)
    assert str(error) in first["error"]
    assert type(error).__name__ in first["error"]
    assert second["event"] == "started"


def test_one_that_never_starts_is_not_waited_for(lost, monkeypatch):
    system, make, told = lost

    def refuse(_):
        raise OSError("no such port")

    monkeypatch.setattr(system, "restart_island", refuse)
    comebacks = make(lambda name: None)
    start(comebacks)
    assert not comebacks.wait()
    assert [line["attempt"] for line in told()] == list(range(1, ATTEMPTS + 1))


@pytest.mark.parametrize("error", [ValueError("RESOURCE_EXHAUSTED"), IslandLost("a is lost")])
def test_one_that_is_there_and_does_not_compile_takes_part(lost, error):
    system, make, told = lost
    warmed = []

    def fail(name):
        warmed.append(name)
        raise error

    comebacks = make(fail)
    start(comebacks)
    assert comebacks.wait()
    assert list(comebacks.back) == ["b"]
    assert not system.islands["b"].lost
    assert warmed == ["b"]  # it is not started anew for that
    first, second = told()
    assert first["event"] == "not compiled"
    assert str(error) in first["error"]
    assert second["event"] == "started"


def test_one_that_is_lost_again_while_it_compiles_is_started_again(lost):
    system, make, told = lost
    losses = ["b"]

    def lose(_):
        if losses:
            system.lose_island(losses.pop())
            raise RuntimeError("the connection is gone")

    comebacks = make(lose)
    start(comebacks)
    assert list(comebacks.back) == ["b"]
    assert [line["event"] for line in told()] == ["no restart", "started"]


def test_after_the_end_nothing_is_told(lost):
    _, make, told = lost

    def end(_):
        comebacks.close()
        raise RuntimeError("the runtime is closed")

    comebacks = make(end)
    start(comebacks)
    assert not comebacks.back
    assert not comebacks.coming
    with pytest.raises(FileNotFoundError):
        told()


def test_one_that_comes_between_two_looks_is_seen(lost):
    class Between(Comebacks):
        @property
        def coming(self):
            self.back.append("b")
            return False

    system, _, _ = lost
    assert Between(system, lambda name: None, Events(None)).wait()
