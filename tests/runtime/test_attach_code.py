"""Programs by value: what travels, and by what the same program is known again."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.attach_code import pack_program, unpack_program
from byways.runtime.attach_slices import AttachedIsland, AttachedSlice

from byways import runtime as rt

SOURCE = """
import dataclasses
import math
import jax, jax.numpy as jnp
from byways import runtime as rt

SCALE = {"a": jnp.float32(2), "b": [3, None]}

@dataclasses.dataclass(frozen=True)
class Layer:
    width: int

    def __call__(self, x):
        return helper(x) * self.width * SCALE["a"]

def helper(x, power=2):
    return x ** power + math.pi if power else helper(x, 1)

def make(part, layer=Layer(3)):
    double = rt.computation(lambda x: layer(x), part, name="double", donate=(0,))
    switch = rt.Switch(
        lambda w, x: jnp.tanh(x @ w), part, jax.ShapeDtypeStruct((2, 2), jnp.float32), 2
    )
    gate = rt.Gate(lambda rows, w: rows * w, part)
    loss = rt.computation(jnp.sum, part)

    def run(counts, rows, bank, n):
        return loss(gate(n, switch(counts, double(rows), bank), 2.0))

    return rt.value_and_grad(rt.program(run, name="run"), argnums=1)
"""


def slices():
    return AttachedSlice("a system", 7, AttachedIsland("island0"), {"device": 1})


def made(source=SOURCE, name="first.py", lines=0):
    space = {"__name__": "__main__", "__file__": name}
    exec(compile("\n" * lines + source, name, "exec"), space)
    return space["make"](slices())


def test_a_program_is_known_by_what_it_does_and_not_by_where_it_is_written():
    key, payload = pack_program(made())
    assert pack_program(made(name="/tmp/ipykernel_1/2.py", lines=30))[0] == key
    assert pack_program(made(SOURCE.replace("width: int", "width: int  # of it")))[0] == key
    for old, new in (
        ("math.pi", "math.e"),
        ("Layer(3)", "Layer(4)"),
        ("float32(2)", "float32(3)"),
        ("jnp.tanh", "jnp.sin"),
        ("rows * w", "rows - w"),
        ("donate=(0,)", "donate=()"),
        ("argnums=1", "argnums=(1,)"),
        (", jnp.float32), 2", ", jnp.float32), 3"),
    ):
        assert SOURCE.count(old) == 1
        assert pack_program(made(SOURCE.replace(old, new)))[0] != key, (old, new)
    other = AttachedSlice(None, 8, AttachedIsland("island0"), {"device": 1})
    back = unpack_program(payload, {7: other}.__getitem__)
    assert pack_program(back)[0] != key
    assert back.name == "run and gradients"


def test_what_was_traced_or_called_before_does_not_travel(system):
    part = system.virtual_devices().add_slice(1)
    space = {"__name__": "__main__"}
    exec(SOURCE, space)
    here = space["make"](part)
    args = (
        np.array([1, 1]),
        np.ones((3, 2), np.float32),
        rt.Branches([np.eye(2, dtype=np.float32)] * 2),
        np.int32(1),
    )
    expected = rt.fetch(here(*args))
    key, payload = pack_program(made())
    used = unpack_program(payload, lambda number: part)
    for ours, theirs in zip(expected, rt.fetch(used(*args)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # On slices of the same numbers it is still the same, though it was called.
    traced = made()
    traced.trace(*args)
    assert pack_program(traced)[0] == key


def test_recursion_cycles_and_large_constants():
    table = np.arange(1000)

    def countdown(n, x):
        return x if n == 0 else countdown(n - 1, x + table[:3])

    count = rt.computation(lambda x: countdown(3, x), slices())
    run = rt.program(lambda x: count(x))
    key, payload = pack_program(run)
    assert pack_program(run)[0] == key
    assert len(payload) < 2 * table.nbytes
    with rt.Runtime({"a": jax.devices()[:1]}) as system:
        part = system.virtual_devices().add_slice(1)
        back = unpack_program(payload, lambda _: part)
        assert back(jnp.zeros(3)).result().tolist() == [0, 3, 6]


def test_modules_of_the_user_travel_and_installed_ones_go_by_name(tmp_path, monkeypatch):
    (tmp_path / "mine_alone.py").write_text("FACTOR = 5\ndef scaled(x):\n    return x * FACTOR\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine_alone  # pyright: ignore

    scaled = rt.computation(mine_alone.scaled, slices())
    run = rt.program(lambda x: scaled(x))
    _, payload = pack_program(run)
    monkeypatch.undo()
    del sys.modules["mine_alone"]
    with rt.Runtime({"a": jax.devices()[:1]}) as system:
        part = system.virtual_devices().add_slice(1)
        assert unpack_program(payload, lambda _: part)(2).result() == 10
    assert b"FACTOR" in payload
    gelu = rt.computation(jax.nn.gelu, slices())
    assert len(pack_program(rt.program(lambda x: gelu(x)))[1]) < 2000


def test_what_is_not_installed_at_the_other_end_is_told():
    gelu = rt.computation(jax.nn.gelu, slices())
    _, payload = pack_program(rt.program(lambda x: gelu(x)))
    lost = payload.replace(b"jax._src", b"jxa._src")
    assert lost != payload
    with pytest.raises(rt.ProgramError, match="must be installed on both"):
        unpack_program(lost, lambda _: slices())


@pytest.mark.slow
def test_the_same_program_of_other_processes_has_the_same_key(tmp_path):
    keys = set()
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        script = folder / f"script{seed}.py"
        end = """
        from byways.runtime.attach_code import pack_program
        from byways.runtime.attach_slices import AttachedIsland, AttachedSlice
        print(pack_program(make(AttachedSlice(None, 7, AttachedIsland("i"), {"device": 1})))[0])
        """
        script.write_text("\n" * int(seed) + SOURCE + textwrap.dedent(end))
        done = subprocess.run(
            [sys.executable, "-P", str(script)],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PATH": "", "JAX_PLATFORMS": "cpu"},
            timeout=300,
            check=True,
        )
        keys.add(done.stdout.strip())
    assert len(keys) == 1, keys
