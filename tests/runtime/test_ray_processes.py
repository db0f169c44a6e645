"""Islands that are processes of a Ray: what only those can show, and local tests on them."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .ray_processes import a_ray_to_use, gone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def a_ray():
    with a_ray_to_use(pytest.importorskip("ray")) as found:
        yield found


@pytest.fixture(scope="module")
def hosts(a_ray):
    with rt.RayIslands(2, devices=2, address=os.environ["BYWAYS_TEST_RAY"]) as made:
        yield made


def test_one_program_over_two_processes(hosts):
    with rt.RayRuntime(hosts=hosts) as system:
        here = system.virtual_devices("island0").add_slice(1)
        there = system.virtual_devices("island1").add_slice(1)
        double = rt.computation(lambda x: 2 * x, here, name="double")
        total = rt.computation(lambda x, y: jnp.sum(x * y), there, name="total")

        @rt.program
        def run(x):
            y = double(x)
            return total(y, double(y)), y

        loss, y = run(jnp.ones(4))
        assert float(loss.result()) == 32
        np.testing.assert_array_equal(np.asarray(y), np.full(4, 2.0))
        _, gradient = rt.value_and_grad(lambda x: run(x)[0])(jnp.ones(4))
        np.testing.assert_array_equal(gradient.result(), np.full(4, 16.0))
        big = np.arange(2**22, dtype=np.float32)  # 16 MB from process to process
        x = double(big)
        move = rt.computation(lambda x: x, there, name="move")
        np.testing.assert_array_equal(move(x).result(), 2 * big)
        del loss, y, gradient, x, _
        gc.collect()
        system.drain()
        assert system.store.live() == 0


def test_a_chain_goes_in_one_message(hosts):
    with rt.RayRuntime(hosts=hosts) as system:
        part = system.virtual_devices("island0").add_slice(1)
        add = rt.computation(lambda x: x + 1, part, name="add")

        @rt.program
        def chain(x):
            for _ in range(128):
                x = add(x)
            return x

        outbox = hosts.outboxes["island0"]
        x = chain(jnp.zeros(3))
        x.result()
        before = outbox.messages
        y = chain(x)
        assert outbox.messages == before + 1
        np.testing.assert_array_equal(y.result(), np.full(3, 256.0))


def test_a_killed_process_is_noticed_and_nothing_hangs(a_ray):
    system = rt.RayRuntime(2, address=os.environ["BYWAYS_TEST_RAY"])
    try:
        pids = system.hosts.pids
        here = system.virtual_devices("island0").add_slice(1)
        there = system.virtual_devices("island1").add_slice(1)

        def long(x):
            import jax

            return jax.lax.fori_loop(0, 3000, lambda _, h: jnp.tanh(h @ x), x)

        work = rt.computation(long, here, name="work")
        use = rt.computation(lambda x: 2 * x, there, name="use")
        program = rt.program(lambda x: use(work(x)))
        work.lower(jnp.ones((400, 400)))
        late = program(jnp.ones((400, 400)))  # in flight on one, waited for by the other
        time.sleep(0.2)
        assert not late.done()
        os.kill(pids["island0"], signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(rt.IslandLost):
            late.result()
        assert time.monotonic() - began < 2
        assert system.islands["island0"].lost
        assert not system.islands["island1"].lost
        np.testing.assert_array_equal(use(jnp.ones(2)).result(), [2, 2])
        with pytest.raises(rt.IslandLost):
            work(jnp.ones((400, 400)))
    finally:
        system.close()
    assert gone(pids.values())


def test_the_documented_example(hosts, root, capsys):
    page = (root / "docs" / "islands.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == "32.0\n"


def test_a_checkout_is_not_on_an_islands_path(hosts):
    import byways

    root = str(Path(byways.__file__).parents[1])
    ray = pytest.importorskip("ray")
    from byways.runtime.ray_actor import ask

    actor = hosts._actors["island0"][0]
    assert root not in ray.get(ask(actor, "path")())


def test_wrong_addresses_and_too_many_islands_are_told_of():
    from byways.runtime import ray_cluster

    code = (
        "from byways import runtime as rt\n"
        "try: rt.RayIslands(1, address='127.0.0.1:1')\n"
        "except rt.RayMissing as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "no Ray answers at '127.0.0.1:1'" in done.stdout, done.stderr
    with pytest.raises(rt.RayMissing, match="100 islands want a core each"):
        ray_cluster.RayIslands(100, address=os.environ["BYWAYS_TEST_RAY"], patience=3.0)


@pytest.mark.timeout(1500)
def test_the_local_runtimes_tests_run_on_processes(a_ray):
    """As `make test-ray` does."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(
        [*command, str(HERE)],
        capture_output=True,
        text=True,
        env=os.environ | {"BYWAYS_TEST_ISLANDS": "ray"},
        cwd=HERE.parents[1],
        timeout=1400,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
