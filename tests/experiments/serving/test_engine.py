"""An engine gives each request what it would get alone, whoever else is there and whatever dies."""

import threading
import time

import jax
import numpy as np
import pytest
from byways.experiments.serving import Engine, RequestCancelled, ServingError
from byways.experiments.serving.reading import prompt_buckets

from byways import runtime as rt

from .decoders import DENSE, SPARSE, alone, initialised

STEPS = 12
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 29, RNG.integers(1, 9)).tolist() for _ in range(9)]
HOW = [{}, {"temperature": 1.0}, {"temperature": 0.8, "top_k": 3}]


def islands(many=3):
    devices = jax.devices()
    system = rt.Runtime({f"island{n}": [devices[n]] for n in range(many)})
    return system, [system.virtual_devices(f"island{n}").add_slice(1) for n in range(many)]


def engine_on(slices, config=DENSE, **options):
    given = {"rows": 2, "read": slices[:1], "write": slices[1:], **options}
    return Engine(config, initialised(config), **given)


def lose_after(engine, when, system, island):
    """Loses an island between two turns of the engine, at the first where it is time."""
    turn = engine._batching.turn

    def watched():
        if when() and not system.islands[island].lost:
            system.lose_island(island)
        return turn()

    engine._batching.turn = watched


@pytest.mark.parametrize("config", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_each_request_gets_what_generate_makes_of_it_alone(config):
    system, slices = islands()
    with system, engine_on(slices, config) as engine:
        asked = [(p, {**HOW[n % 3], "seed": n}) for n, p in enumerate(PROMPTS)]
        made = [engine.submit(prompt, steps=STEPS, **how) for prompt, how in asked]
        for generation, (prompt, how) in zip(made, asked, strict=True):
            assert generation.result(60.0) == alone(config, prompt, STEPS, **how)
            assert generation.reason == "length"
        # An end that comes on the way: the row is free for others.
        plain = alone(config, PROMPTS[0], STEPS)
        ended = engine.submit(PROMPTS[0], steps=STEPS, end=plain[4])
        assert list(ended.stream(60.0)) == plain[: plain.index(plain[4]) + 1]
        assert ended.reason == "end"
        assert engine.submit(PROMPTS[0], steps=1).result(60.0) == plain[:1]
        found = engine.statistics()
        assert found.requests == 11
        assert found.tokens == 9 * STEPS + len(ended.tokens) + 1
        assert 0 < found.occupancy <= 1
        assert 0 < found.first_token <= found.first_token_slowest
        # Two sides of two slices, whose prompts fill one bucket.
        assert 1 + 2 * 2 <= engine.compiled <= 1 + 2 * 3  # steps by one, and by four
        assert not engine.events
        deadline = time.monotonic() + 10
        while len(engine._client.values) > 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(engine._client.values) <= 20  # two times the rows' arrays
    assert system.store.live() == 0


def test_prompts_are_padded_to_few_lengths():
    assert prompt_buckets(16) == (16,)
    assert prompt_buckets(2048) == (16, 32, 64, 128, 256, 512, 1024, 2048)
    system, slices = islands(1)
    with system, engine_on(slices, write=slices) as engine:
        engine.compile()
        compiled = engine.compiled
        assert compiled == 3 + 3 + 2  # of 16, 32 and 48 tokens, read and entered; and steps
        for length in (1, 16, 17, 40):
            engine.submit([3] * length, steps=2).result(60.0)
        assert engine.compiled == compiled


def test_steps_run_ahead_of_what_is_read_and_no_further():
    """The device never waits for a read, and what is under way stays bounded."""
    system, slices = islands(2)
    with system, engine_on(slices, ahead=5) as engine:
        batching, most = engine._batching, 0
        turn = batching.turn

        def watched():
            nonlocal most
            went = turn()
            most = max(most, batching.writers[0].under_way)
            assert len(engine._client.values) < 40
            return went

        batching.turn = watched
        for generation in [engine.submit([5], steps=30) for _ in range(6)]:
            generation.result(60.0)
        assert 1 < most <= 5


def test_a_writer_that_is_lost_hands_its_requests_on_and_nothing_changes():
    system, slices = islands()
    told = []
    with system, engine_on(slices, SPARSE, on_event=told.append) as engine:
        asked = [(p, {**HOW[n % 3], "seed": n}) for n, p in enumerate(PROMPTS[:5])]
        made = []
        lose_after(engine, lambda: made and made[0].made >= 3, system, "island1")
        made += [engine.submit(prompt, steps=STEPS, **how) for prompt, how in asked]
        for generation, (prompt, how) in zip(made, asked, strict=True):
            assert generation.result(60.0) == alone(SPARSE, prompt, STEPS, **how)
        (sentence,) = engine.events
        assert told == [sentence]
        assert "island 'island1' is lost" in sentence
        assert engine.statistics().losses == 1
        assert made[0].attempts == 1
        # And the last one: nobody waits for ever.
        late = engine.submit(PROMPTS[0], steps=40)
        next(late.stream(60.0))
        system.lose_island("island2")
        with pytest.raises(ServingError, match=r"no island is left to make tokens.*1.*2"):
            late.result(60.0)
        with pytest.raises(ServingError, match="no island is left"):
            engine.submit(PROMPTS[0], steps=2).result(60.0)


def test_a_reader_that_is_lost_hands_its_prompts_on():
    system, slices = islands()
    with system, engine_on(slices, read=slices[:2], write=slices[2:]) as engine:
        pending = engine._batching.readers[0].pending
        lose_after(engine, lambda: pending, system, "island0")
        made = [engine.submit(prompt, steps=STEPS) for prompt in PROMPTS]
        for generation, prompt in zip(made, PROMPTS, strict=True):
            assert generation.result(60.0) == alone(DENSE, prompt, STEPS)
        assert sum(generation.attempts for generation in made) >= 1
        system.lose_island("island1")
        with pytest.raises(ServingError, match="no island is left to read prompts"):
            engine.submit(PROMPTS[0], steps=2).result(60.0)


def test_either_side_grows_while_it_serves():
    system, slices = islands(3)
    with system, engine_on(slices, write=slices[1:2]) as engine:
        made = [engine.submit(prompt, steps=STEPS) for prompt in PROMPTS]
        engine.grow(read=slices[2:], write=slices[2:])
        for generation, prompt in zip(made, PROMPTS, strict=True):
            assert generation.result(60.0) == alone(DENSE, prompt, STEPS)
        for lost in ("island0", "island1"):
            system.lose_island(lost)
        assert (
            engine.submit(PROMPTS[0], steps=2).result(60.0) == alone(DENSE, PROMPTS[0], STEPS)[:2]
        )
        other, theirs = islands(1)
        with other, pytest.raises(ValueError, match="of another runtime"):
            engine.grow(write=theirs)


def test_beginning_again_is_bounded():
    system, slices = islands(2)
    with system, engine_on(slices, retries=2) as engine:
        writer = engine._batching.writers[0]

        def fail(steps):
            raise rt.NodeError("on purpose", "step", "step", "island1")

        writer.send = fail
        with pytest.raises(ServingError, match=r"began again 2 times.*on purpose") as caught:
            engine.submit([1], steps=5).result(60.0)
        assert isinstance(caught.value.__cause__, rt.NodeError)
        assert len(engine.events) == 3
        del writer.send
        assert engine.submit(PROMPTS[0], steps=STEPS).result(60.0) == alone(
            DENSE, PROMPTS[0], STEPS
        )


def test_cancelled_requests_leave_their_rows_to_others_and_closing_ends_the_rest():
    system, slices = islands(2)
    with system, engine_on(slices, rows=1) as engine:
        long, waits = engine.submit([1], steps=40), engine.submit([2], steps=40)
        other = engine.submit(PROMPTS[0], steps=STEPS)
        next(long.stream(60.0))
        waits.cancel()
        long.cancel()
        assert other.result(60.0) == alone(DENSE, PROMPTS[0], STEPS)
        for generation in (long, waits):
            with pytest.raises(RequestCancelled, match="as asked"):
                generation.result(60.0)
        last = engine.submit([1], steps=40)
        waiter = threading.Thread(target=engine.close)
        waiter.start()
        with pytest.raises(RequestCancelled, match="closed"):
            last.result(60.0)
        waiter.join()
        with pytest.raises(ServingError, match="closed"):
            engine.submit([1], steps=2)
    with pytest.raises(TimeoutError):
        last_of(engine).result(0.01)


def last_of(engine):
    """A request that nobody serves."""
    from byways.experiments.serving import Generation, Wanted

    return Generation(1, Wanted((1,), 2), np.zeros((2, 2), np.uint32))


def test_what_cannot_be_served_is_refused_at_once():
    system, slices = islands(2)
    with system, engine_on(slices, room=20) as engine:
        refused = [
            (([], {"steps": 1}), "prompt is empty"),
            (([1], {"steps": 0}), "at least one token"),
            (([29], {"steps": 1}), "expected 0..28"),
            (([1] * 15, {"steps": 6}), "at most 5 can be made"),
            (([1], {"steps": 1, "temperature": -1.0}), "zero"),
            (([1], {"steps": 1, "top_k": 30}), "1..29"),
        ]
        for (prompt, how), words in refused:
            with pytest.raises(ValueError, match=words):
                engine.submit(prompt, **how)
    params = initialised(DENSE)
    with pytest.raises(ValueError, match="no slice to read"):
        Engine(DENSE, params, read=[], write=slices)
    with pytest.raises(ValueError, match="room=49"):
        Engine(DENSE, params, read=slices, write=slices, room=49)
    with pytest.raises(ValueError, match="rows=0"):
        Engine(DENSE, params, read=slices, write=slices, rows=0)
    other, theirs = islands(1)
    with other, pytest.raises(ValueError, match="two runtimes"):
        Engine(DENSE, params, read=theirs, write=slices)
