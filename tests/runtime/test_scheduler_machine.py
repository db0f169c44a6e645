"""The scheduler against a model, whatever its clients' threads and devices do, step by step.

Arrays are fakes that are ready when the machine says so; after each step the machine waits until
the threads stand where the model says they do, so a run is the same every time.
"""

from __future__ import annotations

import threading
import time
import types

import pytest
from byways.runtime import Cancelled
from byways.runtime.client import Client
from byways.runtime.scheduler import ALONE, CREDIT, LONG, SHARED, GangScheduler
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

ISLAND = types.SimpleNamespace(name="local", lost=False)
PATIENCE = 5.0  # of a thread that does not do what the model says


class FakeArray:
    """Is computed when somebody says so."""

    def __init__(self):
        self.ready, self.deleted = threading.Event(), False

    def is_ready(self):
        if self.deleted:
            raise RuntimeError("Array has been deleted")
        return self.ready.is_set()

    def is_deleted(self):
        return self.deleted

    def block_until_ready(self):
        assert self.ready.wait(PATIENCE)


class FakeRun:
    """All that the scheduler asks of a run."""

    def __init__(self, client):
        self.client, self.stopped = client, False
        self.system = types.SimpleNamespace(patience=None)

    def check_going(self):
        if self.stopped:
            raise Cancelled("the test cancelled it")

    def look(self, node, array):
        array.block_until_ready()

    def wait_for(self, array, node, patience):
        array.block_until_ready()

    def node_name(self, node):
        return f"node {node}"


class Asker(threading.Thread):
    """A thread that wants one turn, and keeps it until it is told to leave."""

    def __init__(self, scheduler, client, gangs, cost, inside):
        super().__init__(daemon=True)
        self.scheduler, self.client, self.gangs, self.cost = scheduler, client, gangs, cost
        self.inside, self.run_ = inside, FakeRun(client)
        self.entered, self.go, self.cancelled = threading.Event(), threading.Event(), False
        self.array = FakeArray()
        self.start()

    def run(self):
        try:
            with self.scheduler.turn(self.run_, None, self.gangs, self.cost) as turn:
                self.inside.append(self)
                self.entered.set()
                assert self.go.wait(PATIENCE)
                self.inside.remove(self)
                turn.nodes.append((0, self.array))
        except Cancelled:
            self.cancelled = True


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.0002)


class Model:
    """Start-time fair queueing, told what happens."""

    def __init__(self, window, fair):
        self.window, self.fair = window, fair
        self.now, self.finish = 0.0, {}
        self.waiting, self.flying, self.holder = [], [], None
        self.last, self.alone = None, LONG
        self.at_device = set()  # who waits for the oldest turn in flight

    def ask(self, asker):
        earliest = self.now - CREDIT * asker.cost / asker.client.weight
        if self.holder is None and not self.waiting and self.room(asker):
            self.grant(asker, earliest)
        else:
            self.waiting.append((asker, earliest))
            self.serve()

    def tag(self, asker, earliest):
        return max(earliest, self.finish.get(asker.client.name, 0.0)) if self.fair else 0.0

    def room(self, asker):
        others = any(other.client is not asker.client for other, _ in self.waiting)
        alone = self.alone >= LONG and self.last in (None, asker.client) and not others
        turns = ALONE if alone else SHARED
        gangs = sum(other.gangs for other in self.flying)
        fits = not asker.gangs or not gangs or gangs + asker.gangs <= self.window
        return fits and len(self.flying) < turns

    def grant(self, asker, earliest):
        tag = self.tag(asker, earliest)
        self.now = max(self.now, tag)
        self.finish[asker.client.name] = tag + asker.cost / asker.client.weight
        self.alone = self.alone + 1 if self.last in (None, asker.client) else 0
        self.holder, self.last = asker, asker.client

    def best(self):
        """Who is next; `min` takes the first of equals."""
        return min(self.waiting, key=lambda w: (-w[0].client.priority, self.tag(*w)))

    def serve(self):
        """Grants the next turn, if there is room."""
        if self.holder is None and self.waiting:
            best = self.best()
            if best[0] in self.at_device:
                return  # it looks again when that moves
            if not self.room(best[0]) and all(a.array.deleted for a in self.flying):
                self.flying.clear()  # nobody can tell when they end
            if self.room(best[0]):
                self.waiting.remove(best)
                self.grant(*best)
            else:
                self.at_device.add(best[0])


class Turns(RuleBasedStateMachine):
    """Clients of different weights and priorities ask, leave, cancel; devices finish in order."""

    @initialize(fair=st.booleans(), window=st.integers(2, 6))
    def begin(self, fair, window):
        self.scheduler = GangScheduler(ISLAND, window, fair)
        self.model, self.inside = Model(window, fair), []
        kinds = [(1.0, 0), (2.0, 0), (4.0, 0), (1.0, 1)]
        self.clients = [Client(None, f"{n}", w, p) for n, (w, p) in enumerate(kinds)]
        self.threads, self.order = [], []

    def settle(self):
        """Waits until the threads are where the model has them."""
        model, scheduler = self.model, self.scheduler
        if model.holder is not None:
            assert model.holder.entered.wait(PATIENCE), f"client {model.holder.client} waits"
            until(lambda: self.inside == [model.holder], "another has the turn")
        until(lambda: len(scheduler._waiting) == len(model.waiting), "tickets differ")

    @precondition(lambda self: len(self.model.waiting) < 6)
    @rule(
        client=st.integers(0, 3),
        gangs=st.sampled_from([0, 0, 1, 2]),
        cost=st.sampled_from([1.0, 1.0, 3.0]),
    )
    def ask(self, client, gangs, cost):
        asker = Asker(self.scheduler, self.clients[client], gangs, cost, self.inside)
        self.threads.append(asker)
        self.model.ask(asker)
        self.settle()

    @precondition(lambda self: self.model.holder is not None)
    @rule(donated=st.booleans())
    def leave(self, donated):
        asker, self.model.holder = self.model.holder, None
        self.model.flying.append(asker)
        asker.array.deleted = donated
        asker.go.set()
        asker.join(PATIENCE)
        # What was donated tells nothing, so its turn ends with a later one, or when none is left.
        self.model.serve()
        self.settle()

    @precondition(lambda self: any(not asker.array.deleted for asker in self.model.flying))
    @rule()
    def finish(self):
        """The device ends the oldest turn; those before it whose output was donated end with it."""
        flying = self.model.flying
        while flying[0].array.deleted:
            flying.pop(0)
        flying.pop(0).array.ready.set()
        self.model.at_device.clear()
        self.model.serve()
        self.settle()

    @precondition(lambda self: self.model.waiting)
    @rule(which=st.integers(0, 5))
    def cancel(self, which):
        """Of those that wait for others; who was first in line waits for the device."""
        model = self.model
        few = [entry for entry in model.waiting if entry[0] not in model.at_device]
        if few:
            entry = few[which % len(few)]
            model.waiting.remove(entry)
            entry[0].run_.stopped = True
            for ticket in list(self.scheduler._waiting):
                ticket.event.set()
            entry[0].join(PATIENCE)
            assert entry[0].cancelled
            self.settle()

    @invariant()
    def one_inside_and_few_in_flight(self):
        assert self.inside == ([self.model.holder] if self.model.holder else [])
        gangs = self.scheduler.gangs
        assert gangs <= max(self.model.window, 2)
        assert gangs == sum(asker.gangs for asker in self.model.flying)
        finish = {c.name: c.finish["local"] for c in self.clients if c.finish}
        assert finish == pytest.approx(self.model.finish)

    def teardown(self):
        if not hasattr(self, "model"):
            return
        for asker in self.threads:
            asker.array.ready.set()
            asker.go.set()
        for asker in self.threads:
            asker.join(PATIENCE)
            assert not asker.is_alive()
        self.scheduler.drain()
        assert self.scheduler.in_flight == self.scheduler.gangs == 0


Turns.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestTurns = Turns.TestCase


def served(clients, threads, turns, fair=True, costs=None):
    """Who gets each turn where every client always has so many threads that want one."""
    scheduler, inside, order = GangScheduler(ISLAND, 4, fair), [], []

    def ask(n):
        before = len(scheduler._waiting) + len(inside)
        asker = Asker(scheduler, clients[n], 0, costs[n] if costs else 1.0, inside)
        until(lambda: len(scheduler._waiting) + len(inside) > before, "nobody came")
        return n, asker

    askers = [ask(n) for n, count in enumerate(threads) for _ in range(count)]
    while len(order) < turns:
        until(lambda: inside, "nobody has the turn")
        (who,) = [entry for entry in askers if entry[1] is inside[0]]
        order.append(who[0])
        askers.remove(who)
        askers.append(ask(who[0]))
        who[1].array.ready.set()
        who[1].go.set()
        who[1].join(PATIENCE)
    for _, asker in askers:
        asker.run_.stopped = True
        asker.array.ready.set()
        asker.go.set()
    for _, asker in askers:
        asker.join(PATIENCE)
        assert not asker.is_alive()
    scheduler.drain()
    assert not scheduler._waiting
    return order


@pytest.mark.parametrize("threads", [(1, 1, 1, 1), (4, 1, 2, 1)])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 4, 8)])
def test_shares_are_the_weights_whatever_the_threads(weights, threads):
    """Each client gets the turns that are due to it, up to one; its threads share them."""
    clients = [Client(None, f"{n}", float(w)) for n, w in enumerate(weights)]
    order = served(clients, threads, 150)
    for n, weight in enumerate(weights):
        due = 150 * weight / sum(weights)
        assert abs(order.count(n) - due) <= 1.5, (n, order.count(n), due)


def test_shares_are_of_time_and_not_of_turns():
    """Turns of one client take five times as long: it gets a fifth as many, or with its weight."""
    for weight, each in ((1.0, (25, 5)), (5.0, (15, 15))):
        clients = [Client(None, "short", 1.0), Client(None, "long", weight)]
        order = served(clients, (1, 1), 30, costs=(1.0, 5.0))
        for n in range(2):
            assert abs(order.count(n) - each[n]) <= 1.5


def test_a_segment_that_others_compete_with_is_timed():
    """Twice at first, with nothing else on the device."""
    scheduler, inside = GangScheduler(ISLAND, 4), []
    what = types.SimpleNamespace(seconds=None, turns=0)
    clients = [Client(None, f"{n}") for n in range(3)]
    holder = Asker(scheduler, clients[0], 0, 1.0, inside)
    assert holder.entered.wait(PATIENCE)
    done = threading.Event()

    def timed():
        with scheduler.turn(FakeRun(clients[1]), what, 0, None) as turn:
            assert scheduler.in_flight == 0
            turn.nodes.append((0, array))
        done.set()

    array = FakeArray()
    threading.Thread(target=timed, daemon=True).start()
    until(lambda: len(scheduler._waiting) == 1, "no ticket")
    other = Asker(scheduler, clients[2], 0, 1.0, inside)
    until(lambda: len(scheduler._waiting) == 2, "no ticket")
    holder.go.set()
    time.sleep(0.02)
    assert not done.is_set()  # it waits for the holder's work, and then for its own
    holder.array.ready.set()
    time.sleep(0.02)
    assert not done.is_set()
    array.ready.set()
    assert done.wait(PATIENCE)
    assert 0.0 < what.seconds < PATIENCE
    assert what.turns == 1
    other.go.set()
    other.join(PATIENCE)
    other.array.ready.set()
    scheduler.drain()


def test_first_come_first_served():
    """Whoever was served asks again at once, so clients take turns by their numbers of threads."""
    clients = [Client(None, f"{n}", w) for n, w in enumerate((1.0, 8.0))]
    assert served(clients, (2, 1), 9, fair=False) == [0, 0, 1] * 3


def test_higher_priorities_go_first():
    clients = [Client(None, "low", 100.0), Client(None, "high", 1.0, priority=1)]
    assert served(clients, (2, 2), 8) == [0] + [1] * 7
