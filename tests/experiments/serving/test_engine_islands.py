"""The engine where its islands are other processes, or as good as: nothing of it changes."""

import os
import signal
import time

import pytest
from byways.experiments.serving import Engine

from byways import runtime as rt

from ...runtime.near_islands import kept
from ...runtime.ray_in_process import NearIslands
from .decoders import DENSE, SPARSE, alone, initialised

STEPS = 20
ASKED = [
    ([3, 1, 4], {}),
    ([1, 5, 9, 2, 6, 5], {"temperature": 1.0, "seed": 1}),
    ([7], {"temperature": 0.8, "top_k": 3, "seed": 2}),
    ([8, 2, 8], {}),
    ([1, 8, 2, 8, 4, 5, 9, 0], {"temperature": 1.0, "seed": 4}),
]


def slices_of(system, many=3):
    return [system.virtual_devices(f"island{n}").add_slice(1) for n in range(many)]


def check(made, config):
    for generation, (prompt, how) in zip(made, ASKED, strict=True):
        assert generation.result(120.0) == alone(config, prompt, STEPS, **how)


def submit_all(engine):
    return [engine.submit(prompt, steps=STEPS, **how) for prompt, how in ASKED]


def test_islands_of_messages_make_the_same_and_keep_little():
    hosts = NearIslands(3)
    with hosts.runtime() as system:
        slices = slices_of(system)
        with Engine(
            DENSE, initialised(DENSE), read=slices[:1], write=slices[1:], rows=2, ahead=4
        ) as engine:
            check(submit_all(engine), DENSE)
            first = kept(hosts)
            outbox = hosts.outboxes["island1"]
            messages, steps = outbox.messages, engine.statistics().steps
            check(submit_all(engine), DENSE)
            assert kept(hosts) == first  # nothing is left of a request
            # A message a step, and some for entering and for what is forgotten.
            there = engine.statistics().steps - steps
            assert outbox.messages - messages <= 2 * there + 40
    hosts.close()


@pytest.mark.slow
def test_an_island_that_dies_is_done_without_and_taken_again_when_it_is_back():
    hosts = NearIslands(3)
    with hosts.runtime() as system:
        slices = slices_of(system)
        with Engine(
            SPARSE, initialised(SPARSE), read=slices[:1], write=slices[1:], rows=2
        ) as engine:
            made = submit_all(engine)
            tokens = made[0].stream(120.0)
            next(tokens), next(tokens)
            hosts.kill("island1")
            check(made, SPARSE)
            while not engine.events:  # it may only be noticed when it is needed
                time.sleep(0.01)
            assert "island 'island1'" in engine.events[0]
            system.restart_island("island1")
            while len(engine.events) < 2:
                engine.submit([1], steps=2).result(120.0)
            check(submit_all(engine), SPARSE)
            assert engine._batching.writers[0].alive
    hosts.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_processes_of_a_ray_make_the_same_and_one_may_be_killed():
    pytest.importorskip("ray")
    with rt.RayIslands(3) as hosts, rt.RayRuntime(hosts=hosts) as system:
        slices = slices_of(system)
        with Engine(
            SPARSE, initialised(SPARSE), read=slices[:1], write=slices[1:], rows=2
        ) as engine:
            engine.compile()
            check(submit_all(engine), SPARSE)
            made = submit_all(engine)
            tokens = made[0].stream(120.0)
            next(tokens), next(tokens)
            os.kill(hosts.pids["island1"], signal.SIGKILL)
            check(made, SPARSE)
            # And the one that reads prompts, which starts again.
            while not engine.events:
                time.sleep(0.01)
            os.kill(hosts.pids["island0"], signal.SIGKILL)
            while not system.islands["island0"].lost:
                time.sleep(0.01)
            system.restart_island("island0")
            check(submit_all(engine), SPARSE)
