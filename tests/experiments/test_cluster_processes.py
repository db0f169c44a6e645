"""Clusters that are processes: up, status, down; clients and controllers that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from byways import runtime as rt


@pytest.fixture(autouse=True)
def state(tmp_path_factory, monkeypatch):
    """A folder for clusters' files that no test shares."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("BYWAYS_STATE", str(folder))
    monkeypatch.delenv("BYWAYS_TOKEN", raising=False)
    return folder


def byways(*words, expect=0):
    """The command, as a shell runs it; what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "byways", *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def eventually(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.05)


def memory(pid):
    """Resident bytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def status(name="default"):
    with rt.Watched(cluster=name) as watched:
        return watched.status()


@pytest.fixture
def up(state):
    """Starts clusters, and sees to their end."""
    names = []

    def start(*words, name="default"):
        names.append(name)
        byways("cluster", "up", "--name", name, *words)
        return rt.read_cluster(name)

    yield start
    for name in names:
        if rt.cluster_alive(name):
            os.kill(rt.read_cluster(name).pid, signal.SIGCONT)
            byways("cluster", "down", "--name", name)


@pytest.mark.slow
def test_up_status_down(up, state):
    found = up("--local", "--islands", "2", "--devices", "2")
    assert alive(found.pid)
    assert "is up since" in byways("cluster", "up", "--local", expect=1)
    assert f"process {found.pid} at {found.address}" in byways("cluster", "up", expect=1)
    told = json.loads(byways("cluster", "status", "--json"))
    assert [(one["name"], one["devices"]) for one in told["islands"]] == [
        ("island0", 2),
        ("island1", 2),
    ]
    assert "islands within" in byways("cluster", "status", "--once")
    said = byways("cluster", "up", "--name", "wide", "--local", "--listen", "0.0.0.0")
    assert "to other machines, too" in said
    byways("cluster", "down", "--name", "wide")
    second = up("--local", name="second")
    assert second.address != found.address
    with rt.attach(name="me") as client:
        part = client.virtual_devices("island1").add_slice(2)
        client.names["x"] = rt.computation(lambda x: x + 1, part)(np.zeros(3, np.float32))
        said = byways("cluster", "down")
        assert f"controller {found.pid} at {found.address}" in said
        assert "client 'me' was sent away" in said
        assert "value 'x' is freed" in said
        with pytest.raises(rt.ControllerGone):
            client.status()
    assert not alive(found.pid)
    assert not (state / "default.json").exists()
    assert "no cluster 'default' is up" in byways("cluster", "down", expect=1)
    assert alive(second.pid)


@pytest.mark.slow
def test_it_does_not_start(state):
    said = byways("cluster", "up", "--ray-address", "127.0.0.1:1", expect=1)
    assert "does not start" in said
    assert "no Ray answers at '127.0.0.1:1'" in said
    said = byways("cluster", "up", "--local", "--listen", "203.0.113.1", expect=1)
    assert "annot assign requested address" in said
    said = byways("cluster", "up", "--local", "--patience", "0.1", expect=1)
    assert "was not up after 0.1 s, and was ended" in said
    assert not rt.cluster_alive("default")


CLIENT = """
import os, sys
import jax.numpy as jnp
from byways import runtime as rt

system = rt.attach()
part = system.virtual_devices("island0").add_slice(1)
work = rt.computation(lambda x: x * 2, part, name="work")
if sys.argv[1] == "name":
    system.names["kept"] = work(jnp.ones(1000))
values = [work(jnp.ones(500)) for _ in range(3)]
values[-1].result()
print("there", flush=True)
sys.stdin.read()
"""


def a_client(tmp_path, *words):
    """A process with three unnamed values of 2,000 bytes each."""
    script = tmp_path / "client.py"
    script.write_text(textwrap.dedent(CLIENT))
    process = subprocess.Popen(
        [sys.executable, "-P", str(script), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


@pytest.mark.slow
def test_a_killed_client_is_noticed_and_what_has_a_name_stays(up, tmp_path):
    up("--local")
    process = a_client(tmp_path, "name")
    assert status()["islands"][0]["bytes"] == 10_000
    process.kill()
    process.communicate()
    eventually(lambda: not status()["clients"])
    assert status()["islands"][0]["bytes"] == 4000
    with rt.attach() as client:
        assert client.names["kept"].result().sum() == 2000


PUMP = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from byways import runtime as rt

system = rt.attach(name=sys.argv[1], weight=float(sys.argv[2]))
part = system.virtual_devices("island0").add_slice(1)
many = lambda x: jax.lax.fori_loop(0, 20, lambda _, h: jnp.tanh(h @ x), x)
work = rt.computation(many, part, name="work")
x = part.put(np.ones((200, 200), np.float32) / 200)
work(x).result()
print("there", flush=True)
sys.stdin.readline()
sent = [work(x) for _ in range(40)]
while True:
    sent.append(work(x))
    sent.pop(0).result()
"""


@pytest.mark.slow
def test_two_clients_share_an_island_by_their_weights(up, tmp_path):
    up("--local", "--islands", "1")
    script = tmp_path / "pump.py"
    script.write_text(PUMP)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen([sys.executable, "-P", str(script), name, weight], **pipes)
        for name, weight in (("light", "1"), ("heavy", "4"))
    ]
    for process in both:
        assert process.stdout.readline() == "there\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()

    def calls():
        return {client["name"]: client["calls"] for client in status()["clients"]}

    eventually(lambda: sum(calls().values()) > 600)
    found = calls()
    for process in both:
        process.kill()
        process.communicate()
    # 4 to 1; with more processes than cores who is entitled may come late, and others go first.
    assert found["heavy"] > 1.5 * found["light"], found
    assert found["light"] > 40
    eventually(lambda: not calls())


@pytest.mark.slow
def test_a_killed_controller_and_one_that_is_stopped(up, state):
    first = up("--local")
    client = rt.attach()
    part = client.virtual_devices().add_slice(1)
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(rt.ControllerGone, match="is gone, and with it all that was on its islands"):
        eventually(lambda: part.put(np.ones(3)).result() is None)
    with pytest.raises(rt.ControllerGone, match="is dead: its controller ended without word"):
        rt.attach()
    assert "is dead" in byways("cluster", "status", expect=1)
    assert "was dead already; its file is removed" in byways("cluster", "down")
    second = up("--local")
    os.kill(second.pid, signal.SIGKILL)
    eventually(lambda: not rt.cluster_alive("default"))
    third = up("--local")  # over the file of a dead one
    assert third.pid != second.pid
    os.kill(third.pid, signal.SIGSTOP)
    said = byways("cluster", "down", "--patience", "1")
    assert f"controller {third.pid}, which did not answer and was killed" in said
    assert not alive(third.pid)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_of_processes_serves_a_hundred_clients_and_grows_by_nothing(up, tmp_path):
    pytest.importorskip("ray")
    found = up("--islands", "2", "--devices", "1")
    told = status()
    pids = [island["pid"] for island in told["islands"]]
    assert all(map(alive, [found.pid, *pids]))

    def session(n):
        with rt.attach() as client:
            here = client.virtual_devices("island0").add_slice(1)
            there = client.virtual_devices("island1").add_slice(1)
            double = rt.computation(lambda x: x * 2, here, name="double")
            odd = n % 2
            total = rt.computation(lambda x: x.sum() + odd, there, name="total")
            both = rt.value_and_grad(lambda x: total(double(x)))
            if n == 0:
                client.names["kept"] = double(np.ones(1000, np.float32))
            value, gradient = both(client.names["kept"])
            assert float(value.result()) == 4000 + n % 2
            assert gradient.result()[0] == 2

    for n in range(20):
        session(n)
    for kill in (True, False):
        process = a_client(tmp_path, "none")
        if kill:
            process.kill()
        process.communicate("")
    settled = lambda: [(i["bytes"], i["arrays"]) for i in status()["islands"]]  # noqa: E731
    eventually(lambda: not status()["clients"] and settled()[0][0] == 4000)
    time.sleep(1)
    before, bytes_before = settled(), [memory(pid) for pid in (found.pid, *pids)]
    for n in range(20, 100):
        session(n)
    eventually(lambda: settled() == before)
    grown = [memory(pid) - old for pid, old in zip((found.pid, *pids), bytes_before, strict=True)]
    assert status()["served"] == 102
    assert status()["programs"]["known"] <= 6
    print(f"grown by {grown} bytes in 80 sessions: controller, islands")
    # What the allocator keeps comes and goes by a few megabytes.
    assert max(grown) < 16e6

    os.kill(pids[1], signal.SIGKILL)
    eventually(lambda: status()["islands"][1]["lost"])
    with rt.attach() as client:
        with pytest.raises(rt.IslandLost):
            client.virtual_devices("island1").add_slice(1)
        assert client.names["kept"].result().sum() == 2000
    said = byways("cluster", "down")
    assert f"island 'island0', process {pids[0]}" in said
    assert f"the Ray at {found.ray}" in said
    eventually(lambda: not any(map(alive, [found.pid, *pids])))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_islands_end_with_a_controller_that_is_killed(up):
    pytest.importorskip("ray")
    found = up("--islands", "1")
    (island,) = status()["islands"]
    os.kill(found.pid, signal.SIGKILL)
    eventually(lambda: not alive(island["pid"]))
