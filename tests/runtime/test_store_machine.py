"""The store against a model account, whatever is reserved, delivered, dropped and left behind."""

from __future__ import annotations

import types

import pytest
from byways.runtime import StoreFull
from byways.runtime.store import Store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

ISLANDS = ("here", "there")
CLIENTS = ("ann", "bob", "cy")
NODES = {0: "here", 1: "there"}


class FakeScheduler:
    """Work in flight, whose bytes are dropped when it ends."""

    def __init__(self):
        self.flying = []

    def wait_oldest(self):
        if not self.flying:
            return False
        self.flying.pop(0)()
        return True


class FakeRun:
    """All that the store asks of a run."""

    def __init__(self, client):
        self.client = types.SimpleNamespace(name=client, advance_others=lambda run: False)

    def island_name(self, node):
        return NODES[node]

    def check_going(self):
        pass


class Account(RuleBasedStateMachine):
    """What a run reserves is delivered to values, or dropped when the work that needs it ends."""

    @initialize(budget=st.sampled_from([None, 10, 100]), many=st.sampled_from([0, 3, 1000]))
    def begin(self, budget, many):
        self.store = Store(budget, patience=0.0)
        self.store.many = many
        self.held = dict.fromkeys([(i, c) for i in ISLANDS for c in CLIENTS], 0)
        self.schedulers = {name: FakeScheduler() for name in ISLANDS}
        self.runs = {name: FakeRun(name) for name in CLIENTS}
        # Bytes by who may let them go: runs that have not ended, and values.
        self.running, self.values = [], []

    def total(self, island):
        return sum(n for (where, _), n in self.held.items() if where == island)

    @rule(island=st.sampled_from(ISLANDS), client=st.sampled_from(CLIENTS), need=st.integers(0, 40))
    def reserve(self, island, client, need):
        scheduler, budget = self.schedulers[island], self.store.budget

        def go():
            self.store.reserve(
                types.SimpleNamespace(name=island), self.runs[client], "node", need, scheduler
            )

        if budget is not None:
            if need <= budget:
                # It waits for work in flight, as long as it does not fit.
                left = list(self.flying(island))
                after = self.total(island)
                while left and after + need > budget:
                    after -= left.pop(0)
                fits = after + need <= budget
            else:
                fits = False
            if not fits:
                with pytest.raises(StoreFull, match=f"{need:,} bytes"):
                    go()
                return
        go()
        self.held[island, client] += need
        self.running.append((island, client, need))

    def flying(self, island):
        return [work.bytes for work in self.schedulers[island].flying]

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def send(self, which):
        """Work is in flight, and its bytes are dropped as it ends."""
        island, client, n = self.running.pop(which % len(self.running))

        class Work:
            bytes = n

            def __call__(work):
                self.store.note(island, client, -n)
                self.held[island, client] -= n

        self.schedulers[island].flying.append(Work())

    @rule(island=st.sampled_from(ISLANDS))
    def end(self, island):
        self.schedulers[island].wait_oldest()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def deliver(self, which):
        """A run ends: what it held is a value's."""
        self.values.append(self.running.pop(which % len(self.running)))

    @precondition(lambda self: self.values)
    @rule(which=st.integers(0, 50))
    def release(self, which):
        self.drop(self.values.pop(which % len(self.values)))

    def drop(self, value):
        island, client, n = value
        node = ISLANDS.index(island)
        self.store.let_go(self.runs[client], node, n, self.runs[client].client)
        self.held[island, client] -= n

    @rule(client=st.sampled_from(CLIENTS))
    def leave(self, client):
        """All of a client's values are freed; its work in flight ends by itself."""
        for value in [value for value in self.values if value[1] == client]:
            self.values.remove(value)
            self.drop(value)

    @invariant()
    def accounts_agree(self):
        for island in ISLANDS:
            held = self.store.holders(island)
            wanted = {c: self.held[island, c] for c in CLIENTS if self.held[island, c]}
            assert held == wanted
            assert self.store.live(island) == self.total(island)
            assert min(held.values(), default=0) >= 0
            assert self.store.budget is None or self.store.live(island) <= self.store.budget
        assert self.store.live() == sum(self.held.values())

    def teardown(self):
        if not hasattr(self, "store"):
            return
        for island in ISLANDS:
            while self.schedulers[island].wait_oldest():
                pass
        for value in self.values:
            self.drop(value)
        for island, client, n in self.running:
            self.store.note(island, client, -n)
        assert self.store.live() == 0
        assert not any(self.store._held.values())  # nor a name of who left


Account.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
TestAccount = Account.TestCase
