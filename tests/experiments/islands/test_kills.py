"""A real run over islands that are processes, which are killed at random while it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import threading
import time

import pytest
from byways.experiments.islands import hosts
from byways.experiments.train import train

from .small import DENSE
from .test_runs import assert_same_run, events

pytest.importorskip("ray")

# BYWAYS_TEST_KILLS=20 for the figure in docs/multi_island.md.
KILLS = int(os.environ.get("BYWAYS_TEST_KILLS", "3"))
CONFIG = dataclasses.replace(DENSE, islands=2, steps=60 + 60 * KILLS, log_every=20)


class Killer(threading.Thread):
    """Ends an island's process by SIGKILL at random moments, so many times, while steps are done.

    Attributes:
        killed: the island, when, and when the runtime knew.
    """

    def __init__(self, system, log, kills: int):
        super().__init__(daemon=True)
        self.system, self.log, self.kills, self.stop = system, log, kills, threading.Event()
        self.killed, self.random, self.known = [], random.Random(0), {}
        system.on_lost(lambda name: self.known.setdefault(name, time.monotonic()))

    def run(self):
        while len(self.killed) < self.kills and not self.stop.is_set():
            seen = self.steps()
            self.wait_for(lambda seen=seen: self.steps() > seen)
            time.sleep(self.random.uniform(0, 2))
            name = self.random.choice(sorted(self.system.islands))
            if self.system.islands[name].lost or self.stop.is_set():
                continue  # it is on its way back; try again
            self.known.pop(name, None)
            now = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.system.hosts.pids[name], signal.SIGKILL)
                self.wait_for(lambda name=name: name in self.known, 10)
                self.killed.append((name, self.known.get(name, now + 10) - now))

    def steps(self):
        if not self.log.exists():
            return 0
        return self.log.read_text().count("\n")

    def wait_for(self, what, seconds=600):
        end = time.monotonic() + seconds
        while not what() and not self.stop.is_set() and time.monotonic() < end:
            time.sleep(0.01)


# Ray starts its processes by a fork that JAX warns of where it is in use already.
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_kills_at_any_moment_change_nothing(tmp_path, monkeypatch):
    whole = train(CONFIG, tmp_path / "whole", cluster="local")
    run, opened, killers = tmp_path / "killed", hosts.open_islands, []

    @contextlib.contextmanager
    def with_killer(*given, **options):
        with opened(*given, **options) as islands:
            killers.append(Killer(islands.system, run / "metrics.jsonl", KILLS))
            killers[0].start()
            yield islands
            killers[0].stop.set()
            killers[0].join()

    monkeypatch.setattr(hosts, "open_islands", with_killer)
    train(CONFIG, run)
    assert_same_run(run, whole)
    (killer,) = killers
    told = [line["event"] for line in events(run)]
    print(json.dumps({"killed": killer.killed, "events": {e: told.count(e) for e in told}}))
    assert len(killer.killed) == KILLS, "the run ended before: give it more steps"
    assert max(seconds for _, seconds in killer.killed) < 2
