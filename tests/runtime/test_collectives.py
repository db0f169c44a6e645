"""Hundreds of collectives that nobody waits for.

Plain JAX hangs on CPU with 64 of them in flight, whatever thread they come from: the devices'
threads all wait inside collectives whose partners have no thread left. The runtime's window and its
one order per island prevent that. Each test is a process of its own, so that a hang ends with it.
"""

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import faulthandler, threading
faulthandler.dump_traceback_later(100, exit=True)
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp
import numpy as np
from byways import runtime as rt
from jax.sharding import PartitionSpec

DEPTH = 200
system = rt.Runtime()
devices = system.virtual_devices()
rows = PartitionSpec("device")

def summed(part, name):
    def local(x):
        # A little work first, so that dispatch runs ahead.
        wide = jnp.tile(x, (128, 2))
        x += 0 * (wide @ wide).sum()
        return jax.lax.psum(x, "device") / part.size + 1
    wide = jax.shard_map(local, mesh=part.mesh, in_specs=rows, out_specs=rows)
    return rt.computation(wide, part, name=name, in_specs=rows, out_specs=rows)

def ones(part):
    return jnp.zeros((part.size, 64))

seen = []
def look():  # gangs in flight, as the scheduler counts them
    seen.append(system.schedulers["local"].gangs)

def check(depth, x):
    np.testing.assert_allclose(x, depth, rtol=1e-5)
"""

ONE_THREAD = """
part = devices.add_slice(8)
node = summed(part, "sum")
# Each by itself: none waits for another, so all of them could be in flight.
values = []
for _ in range(DEPTH):
    values.append(node(ones(part)))
    look()
for x in values:
    check(1, x)

@rt.program
def chain(x):
    for _ in range(DEPTH):
        x = node(x)
    return x

last = chain(ones(part))
look()
check(DEPTH, last)
"""

TWO_CLIENTS = """
parts = [devices.add_slice(8), devices.add_slice(4), devices.add_slice(8), devices.add_slice(2)]
nodes = [summed(part, f"sum {n}") for n, part in enumerate(parts)]
for node, part in zip(nodes, parts):
    node(ones(part)).result()

@rt.program
def several(*xs):
    return [node(x) for node, x in zip(nodes[2:], xs)]

start = threading.Barrier(2)
errors = []
def run(number):
    try:
        with system.client(f"client {number}", weight=1.0 + number):
            start.wait()
            values = []
            for n in range(DEPTH):
                values.append(nodes[number](ones(parts[number])))
                values += several(*map(ones, parts[2:]))
                look()
            for x in values:
                check(1, x)
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if errors:
    raise errors[0]
"""

END = """
system.drain()
assert 0 < max(seen) <= 16, max(seen)
assert system.schedulers["local"].gangs == 0
print("done")
"""


@pytest.mark.timeout(150)
@pytest.mark.parametrize("body", [ONE_THREAD, TWO_CLIENTS], ids=["one thread", "two clients"])
def test_deep_queues_of_collectives_do_not_hang(body, tmp_path):
    script = tmp_path / "collectives.py"
    script.write_text(textwrap.dedent(PREAMBLE + body + END))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["done"]
