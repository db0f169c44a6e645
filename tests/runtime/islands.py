"""What the tests of the runtime share: programs that wait, and nodes that fail or take long."""

from __future__ import annotations

import contextlib
import dataclasses
import threading

import jax
import jax.numpy as jnp
from byways.runtime.conditional import Conditional
from byways.runtime.graph import Shape
from byways.runtime.tracing import builder

from byways import runtime as rt


class OnPurpose(Exception):
    """What a failing node raises."""


def refuse(x):
    """Fails if any number in x is above 0; else gives it."""

    def look(x):
        if (x > 0).any():
            raise OnPurpose("this node fails on purpose")
        return x

    return jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def slow(x):
    """Some hundred ms of matrix products: x (400, 400) -> the same."""
    return jax.lax.fori_loop(0, 60, lambda _, h: jnp.tanh(h @ x), x)


def wait_at(read, x, part, name="gate", seen=None):
    """A conditional node in a program that reads `read`, then gives x.

    Args:
        seen: a list that gets what was read.
    """

    def expand(wake, numbers, inputs):
        if seen is not None:
            seen.append(numbers[0])
        return [inputs[0]]

    what = Conditional(name, 1, expand)
    (out,) = builder().conditional(what, part, [read, x], [Shape(x.shape, x.dtype)])
    return out


class NotYet:
    """Stands for an array in a run's slot that is not computed until `open` is set."""

    def __init__(self, array, door):
        self.array, self.door = array, door

    def __getattr__(self, name):
        found = getattr(self.array, name)
        if name == "wait_at_most":  # of an array on an island of another process
            return lambda seconds: self.door.wait(seconds) and found(20.0)
        return found

    def is_ready(self):
        return self.door.is_set()

    def block_until_ready(self):
        assert self.door.wait(20)
        self.array.block_until_ready()
        return self

    def __array__(self, *args, **kwargs):
        return self.array.__array__(*args, **kwargs)


@contextlib.contextmanager
def held_back(computation):
    """Outputs of a computation (called before) count as not computed until the door is set."""
    door = threading.Event()
    flats = list(computation._flats.values())
    before = [dict(flat._executables) for flat in flats]
    for flat in flats:
        for key, found in flat._executables.items():
            call = found.call
            later = lambda *given, call=call: [NotYet(out, door) for out in call(*given)]  # noqa: E731
            flat._executables[key] = dataclasses.replace(found, call=later)
    try:
        yield door
    finally:
        door.set()
        for flat, executables in zip(flats, before, strict=True):
            flat._executables.update(executables)


def pair(devices=2):
    """A runtime of two islands, `here` and `there`, with so many devices each."""
    found = jax.devices()
    return rt.Runtime({"here": found[:devices], "there": found[devices : 2 * devices]})


def all_devices():
    """Eight that a test may make one island of; on whatever back end the tests run."""
    hosts = getattr(rt.Runtime, "hosts", None)
    return jax.devices() if hosts is None else next(iter(hosts.devices.values()))


def stands_on(array, part):
    """Whether an array (of `Value.array()`: where it was made) is on the devices of a slice."""
    return array.sharding.device_set == set(part.devices)


def shard_shapes(array):
    """Shapes of its pieces."""
    if isinstance(array, jax.Array):
        return {shard.data.shape for shard in array.addressable_shards}
    return {array.sharding.shard_shape(array.shape)}


def said_where(error):
    """Notes on an error and on its cause, of which one says where the cause was raised."""
    notes = [*getattr(error, "__notes__", ()), *getattr(error.__cause__, "__notes__", ())]
    return [note for note in notes if "Traceback" in note]
