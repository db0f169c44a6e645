"""What islands that are processes of this machine listen on, and who is let in."""

import ipaddress
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from byways import runtime as rt

from .ray_processes import a_ray_to_use

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc"),
]
JOINS = """
import sys
from byways import runtime as rt
try:
    rt.RayIslands(1, address=sys.argv[1])
    print("let in")
except rt.RayMissing as error:
    print("refused:", error)
"""


@pytest.fixture(scope="module")
def address():
    with a_ray_to_use(pytest.importorskip("ray")) as found:
        yield found


def descendants(pid):
    """A process and all below it."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = place.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it ended
            continue
        parents.setdefault(int(rest[1]), []).append(int(place.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def sockets_of(pid):
    try:
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {int(found[1]) for link in links if (found := re.match(r"socket:\[(\d+)\]", link))}


def listening(pids):
    """Addresses that these processes listen on."""
    mine, found = set().union(*map(sockets_of, pids)), set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and int(words[9]) in mine:
                raw = bytes.fromhex(words[1].split(":")[0])
                turned = b"".join(raw[n : n + 4][::-1] for n in range(0, len(raw), 4))
                where = ipaddress.ip_address(turned)
                found.add(getattr(where, "ipv4_mapped", None) or where)
    return found


def test_all_listen_on_the_loopback_alone(address):
    with rt.RayRuntime(2, devices=1, hosts_per_island=2, address=address) as system:
        wide, there = (system.virtual_devices(f"island{n}").add_slice(2) for n in range(2))
        total = rt.computation(lambda x: x.sum(), wide, name="total")
        more = rt.computation(lambda x: x + 1, there, name="more")
        assert float(rt.program(lambda x: more(total(x)))(jnp.ones(4)).result()) == 5
        found = listening(descendants(os.getpid()))
        assert len(found) >= 1
        assert not [where for where in found if not where.is_loopback]


def test_who_has_no_token_does_not_come_in(address, tmp_path):
    ray = pytest.importorskip("ray")
    if tuple(map(int, ray.__version__.split(".")[:2])) < (2, 52):
        pytest.skip("this Ray has no tokens")
    command = [sys.executable, "-P", "-c", JOINS, address]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    stranger = kept | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, capture_output=True, text=True, env=stranger, timeout=120)
    assert "wants a token, and this process has none" in done.stdout, done.stdout + done.stderr
