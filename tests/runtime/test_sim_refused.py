"""What a simulated machine refuses, and how it says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

SCALAR = jax.ShapeDtypeStruct((), jnp.float32)
FREE = rt.SimMachine(islands=2, hosts=4, devices=2)


def plus(part, **more):
    return rt.computation(lambda x: x + 1, part, name="step", **more)


@pytest.mark.parametrize("bad", [{"islands": 0}, {"hosts": -1}, {"devices": 0}])
def test_a_topology_has_whole_numbers(bad):
    with pytest.raises(rt.SliceError, match="whole number"):
        rt.SimMachine(**bad)


@pytest.mark.parametrize(
    "bad", [{"host_seconds": -1.0}, {"dcn_bytes": 0.0}, {"relay": 1}, {"flops": -1.0}]
)
def test_constants_have_their_ranges(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        rt.SimMachine(**bad)


def test_a_computation_without_a_cost():
    system = rt.SimulatedRuntime(FREE, {"other": 1.0})
    with pytest.raises(rt.ProgramError, match=r"'step' has no cost.*other.*xla"):
        plus(system.virtual_devices().add_slice(1))(SCALAR)


@pytest.mark.parametrize("bad", ["flops", None, [1]])
def test_what_is_no_cost(bad):
    with pytest.raises(ValueError, match="cost"):
        rt.SimulatedRuntime(FREE, {"step": bad})


def test_a_negative_cost():
    with pytest.raises(ValueError, match="seconds=-1"):
        rt.SimulatedRuntime(FREE, {"step": -1})


def test_a_slice_larger_than_the_island_and_an_unknown_island():
    system = rt.SimulatedRuntime(FREE, {})
    with pytest.raises(rt.SliceError, match="slice of 9 devices"):
        system.virtual_devices("island0").add_slice(9)
    with pytest.raises(rt.SliceError, match="island7"):
        system.virtual_devices("island7")


def test_numbers_are_not_there():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0})
    out = plus(system.virtual_devices().add_slice(1))(SCALAR)
    with pytest.raises(rt.ProgramError, match="no numbers"):
        np.asarray(out.result())


def test_conditional_nodes_need_numbers():
    system = rt.SimulatedRuntime(FREE, {"*": 1.0})
    part = system.virtual_devices().add_slice(1)
    shapes = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    switch = rt.Switch(lambda w, x: x @ w, part, shapes, 2)
    weights = rt.Branches([jnp.eye(8)] * 2)
    program = rt.program(lambda counts, rows: switch(counts, rows, weights))
    with pytest.raises(rt.ProgramError, match="conditional"):
        program(jax.ShapeDtypeStruct((2,), jnp.int32), jax.ShapeDtypeStruct((4, 8), jnp.float32))


def test_what_does_not_divide_over_the_devices():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0})
    part = system.virtual_devices().add_slice(8)
    with pytest.raises(rt.ProgramError, match="does not divide"):
        plus(part, in_specs=P("device"))(jax.ShapeDtypeStruct((9,), jnp.float32))
