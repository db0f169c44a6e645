"""Items of residents for tests: numbers in two arrays, on two devices."""

import threading
import time

import jax
import numpy as np
from byways.runtime import InMemory

# No other test has arrays of these shapes; an item is 4 * (7 * 13 + 13) = 416 bytes.
SHAPES = ((7, 13), (13,))
ITEM = 416


def items_of(count, dtype=np.float32):
    rng = np.random.default_rng(0)
    return {(0, n): tuple(rng.normal(size=s).astype(dtype) for s in SHAPES) for n in range(count)}


def place(key):
    return jax.sharding.SingleDeviceSharding(jax.devices()[key[1] % 2])


def living():
    """Bytes of all arrays that are items, as JAX counts them."""
    return sum(x.nbytes for x in jax.live_arrays() if x.shape in SHAPES)


class Slow(InMemory):
    """Notes what is read; reading waits while the gate is closed."""

    def __init__(self, items):
        super().__init__(items)
        self.gate = threading.Event()
        self.gate.set()
        self.reads = []

    def read(self, key):
        self.reads.append(key)
        assert self.gate.wait(30)
        return super().read(key)


def keys(*numbers):
    return [(0, n) for n in numbers]


def until(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)
