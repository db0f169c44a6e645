"""Many clients' threads and many random programs at once: right answers, no hang, nothing left."""

from __future__ import annotations

import dataclasses
import gc
import logging
import random
import threading
import time

import jax
import numpy as np
import pytest
from byways.runtime import Cancelled, NodeError, ValueReleased

from byways import runtime as rt

from .random_programs import Broken, Kit, OnPurpose, random_inputs, random_program

AHEAD = 6  # programs of a thread that are on their way


@pytest.fixture(autouse=True)
def quiet():
    """Failing callbacks are neither logged nor remembered by JAX until the process ends."""
    log = logging.getLogger("jax._src.callback")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)
    jax._src.dispatch.runtime_tokens.clear()


@dataclasses.dataclass
class Tally:
    """What became of the results."""

    right: int = 0
    failed: int = 0
    cancelled: int = 0
    left: int = 0


class Customer:
    """A thread's doings: random programs, some given up, some of clients that leave."""

    def __init__(self, kit: Kit, number: int, programs: int, failures: float):
        self.kit, self.number, self.programs, self.failures = kit, number, programs, failures
        self.rng = random.Random(number)
        self.tally = Tally()
        self.clients = 0

    def run(self) -> None:
        left = self.programs
        while left > 0:
            few = min(left, self.rng.randint(5, 40))
            left -= few
            self.clients += 1
            client = self.kit.system.client(
                f"customer {self.number}.{self.clients}",
                weight=self.rng.choice([1.0, 2.0, 5.0]),
                priority=self.rng.choice([0, 0, 0, 1]),
            )
            with client:
                self._go(few)
                if self.rng.random() < 0.5:  # it leaves with work on its way and values held
                    unread = [self._call() for _ in range(self.rng.randint(1, AHEAD))]
                    client.close()
                    for values, _, _ in unread:
                        for value in values:
                            with pytest.raises(ValueReleased, match="left"):
                                value.result()
                            self.tally.left += 1
                    del unread, values, value
            client.close()

    def _go(self, few: int) -> None:
        ahead = []
        for _ in range(few):
            ahead.append(self._call())
            # Results are asked for in any order.
            while len(ahead) > self.rng.randint(0, AHEAD):
                self._look(*ahead.pop(self.rng.randrange(len(ahead))))
        for one in ahead:
            self._look(*one)

    def _call(self):
        given_up = self.rng.random() < 0.1
        made = random_program(self.kit, self.rng, self.failures, late=given_up)
        arrays, counts = random_inputs(made, self.rng)
        expected = made.expected(arrays, counts)
        values = made.program()(arrays, counts, [self.kit.banks, Broken()])
        if given_up:
            self.rng.choice(values).cancel()
        return values, expected, given_up

    def _look(self, values, expected, given_up) -> None:
        order = list(zip(values, expected, strict=True))
        self.rng.shuffle(order)
        for value, wanted in order:
            what = self.rng.random()
            if what < 0.1:
                value.release()
                with pytest.raises(ValueReleased, match="released"):
                    value.result()
                continue
            if what < 0.2:
                value.done()
            try:
                found = value.result()
            except Cancelled:
                assert given_up
                self.tally.cancelled += 1
            except NodeError as error:
                if wanted is not None or not isinstance(cause_of(error), OnPurpose):
                    raise
                self.tally.failed += 1
            else:
                assert wanted is not None
                np.testing.assert_array_equal(found, wanted)
                self.tally.right += 1


def stress(threads: int, programs: int, failures: float = 0.05, seed: int = 0, **options) -> Tally:
    """Runs them all, and looks whether anything is left."""
    system = rt.Runtime(patience=60.0, **options)
    kit = Kit(system)
    Customer(kit, -1, 30, failures).run()  # what all share is made: branches, constants
    before = settled(system)
    customers = [Customer(kit, seed + n, programs, failures) for n in range(threads)]
    errors: list[BaseException] = []

    def work(customer: Customer) -> None:
        try:
            customer.run()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(c,), daemon=True) for c in customers]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive() and not errors:
            worker.join(0.05)
    if errors:
        raise errors[0]
    after = settled(system)
    assert system.store.live() == 0, system.store.holders("local")
    assert set(system.clients) == set()
    assert sorted(after) == sorted(before)
    system.close()
    found = Tally()
    for customer in customers:
        for field in dataclasses.fields(Tally):
            so_far = getattr(found, field.name)
            setattr(found, field.name, so_far + getattr(customer.tally, field.name))
    return found


def cause_of(error: BaseException | None) -> BaseException | None:
    """What was raised first; what a callback raised comes as text in JAX's own error."""
    while error is not None and not isinstance(error, OnPurpose):
        if "OnPurpose" in str(error):
            return OnPurpose(str(error))
        error = error.__cause__
    return error


def settled(system: rt.Runtime) -> list[str]:
    """What arrays there are when nothing is going on, here and on islands elsewhere."""
    system.drain()
    gc.collect()
    end = time.monotonic() + 5
    while system.schedulers["local"].in_flight and time.monotonic() < end:
        time.sleep(0.01)
    hosts = getattr(system, "hosts", None)
    held: list[str] = []
    while hosts is not None and time.monotonic() < end:  # they are told with the next message
        before, held = held, [f"{name}: {n}" for name, n in hosts.held().items()]
        if held == before:
            break
        time.sleep(0.6)
    return held + [f"{x.dtype}{list(x.shape)} on {x.sharding}" for x in jax.live_arrays()]


@pytest.mark.timeout(120)
def test_random_programs_of_many_clients():
    found = stress(threads=4, programs=60)
    assert found.right > 200
    assert min(found.failed, found.cancelled, found.left) > 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("options", [{}, {"fair": False, "window": 2}, {"memory_budget": 1 << 16}])
def test_thousands_of_random_programs(options):
    found = stress(threads=8, programs=1500, seed=1000, **options)
    assert min(found.right, found.failed, found.left) > 500
    # Only what was not sent yet can be cancelled, and little waits.
    assert found.cancelled > 0
