"""Whoever asks to be told may raise: it is a warning, and nobody else waits for ever."""

import threading
import time

import pytest
from byways.experiments.serving import ServingError
from byways.experiments.serving.prompts import PromptLine
from byways.experiments.serving.texts import Asking, serve_lines

from .decoders import DENSE, alone
from .test_engine import PROMPTS, STEPS, engine_on, islands


def gone(_):
    raise BrokenPipeError("the reader went away")


def hold(engine, then):
    """The engine does nothing until an event is set, which is returned; then this at each turn."""
    turn, ready = engine._batching.turn, threading.Event()

    def held():
        if not ready.is_set():
            return False
        then()
        return turn()

    engine._batching.turn = held
    return ready


def test_callbacks_that_raise_are_warned_of_and_hold_nobody_up():
    system, slices = islands(2)
    asked, told, lose = [], [], ["island1"]

    def serve_and_lose(engine):
        ready = hold(engine, lambda: asked[0].made and lose and system.lose_island(lose.pop()))
        asked.append(engine.submit(PROMPTS[0], steps=STEPS))
        asked[0].when_done(gone)
        asked[0].when_done(told.append)
        ready.set()
        with pytest.raises(ServingError, match="no island is left"):
            asked[0].result(60.0)
        system.restart_island("island1")
        return engine.submit(PROMPTS[0], steps=STEPS).result(60.0)

    with system, engine_on(slices, on_event=gone) as engine:
        with pytest.warns(RuntimeWarning, match="the reader went away") as warned:
            found = serve_and_lose(engine)
        assert found == alone(DENSE, PROMPTS[0], STEPS)
        assert told == asked
        assert {str(one.message).partition("(")[0] for one in warned} == {"when_done", "on_event"}


def test_warnings_that_are_errors_change_nothing():
    system, slices = islands(2)
    with system, engine_on(slices) as engine:
        ready = hold(engine, lambda: None)
        one, other = [engine.submit(PROMPTS[0], steps=STEPS) for _ in range(2)]
        one.when_done(gone)
        ready.set()
        assert one.result(60.0) == other.result(60.0) == alone(DENSE, PROMPTS[0], STEPS)


def test_an_engine_that_fails_fails_all_who_wait_whatever_their_callbacks_do():
    system, slices = islands(2)

    ready = threading.Event()

    def fail():
        ready.wait(60.0)
        raise MemoryError("on purpose")

    def submit_and_fail(engine):
        engine._call(fail)
        made = [engine.submit(prompt, steps=STEPS) for prompt in PROMPTS[:3]]
        for generation in made[:2]:
            generation.when_done(gone)
        engine._call(fail)
        ready.set()
        for generation in made:
            with pytest.raises(ServingError, match=r"has failed.*on purpose"):
                generation.result(60.0)
        engine._thread.join(60.0)

    warned = pytest.warns(RuntimeWarning, match=r"when_done.*the reader went away")
    with system, engine_on(slices) as engine, warned:
        submit_and_fail(engine)


def test_a_result_that_cannot_be_written_is_the_caller_s_error():
    class Codes:
        mark = 0

        def start(self, text):
            return [len(text)]

        def decode(self, _):
            raise LookupError("no such token")

    system, slices = islands(2)
    late = time.monotonic() + 60.0
    asking, lines = Asking(DENSE, Codes(), steps=2), [PromptLine(0, "a red", {})]
    how = {"many": 2, "stopping": lambda: time.monotonic() > late}
    with system, engine_on(slices) as engine, pytest.raises(LookupError, match="no such token"):
        serve_lines(engine, asking, lines, print, **how)
