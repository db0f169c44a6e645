"""Joining a Ray that runs: what is no address, no Ray, another Ray, or another's is told soon."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from byways.runtime import ray_probe, ray_start
from byways.runtime.ray_probe import NoRay, Probed, probe

from byways import runtime as rt

from .ray_started import a_ray_that_runs, without_token

# What a process says of the islands that it has there, or why it has none.
JOINS = """
import sys
import numpy as np
from byways import runtime as rt
try:
    with rt.RayRuntime(2, address=sys.argv[1]) as system:
        part = system.virtual_devices("island1").add_slice(1)
        print(rt.computation(lambda x: 2 * x, part)(np.ones(2, np.float32)).result())
except rt.RayMissing as error:
    print("refused:", error)
"""


class FakeRay:
    """A module whose `init` is remembered."""

    __version__ = "2.60.0"

    def __init__(self):
        self.joined, self.refreshed = [], []
        config = SimpleNamespace(initialize=self.refreshed.append)
        self._raylet = SimpleNamespace(Config=config)
        services = SimpleNamespace(get_ray_address_from_environment=lambda *_: "10.0.0.9:6379")
        constants = SimpleNamespace(ENABLE_RAY_CLUSTER=True)
        self._private = SimpleNamespace(services=services, ray_constants=constants)

    def is_initialized(self):
        return False

    def init(self, address, **_):
        self.joined.append((address, os.environ.get("RAY_AUTH_MODE")))


@pytest.fixture
def join(monkeypatch):
    """Joins what says this of itself; gives what `ray.init` was given, and with which mode."""
    monkeypatch.setattr(
        ray_start.socket, "create_connection", lambda *_: SimpleNamespace(close=int)
    )

    def joining(found, address="10.0.0.9:6379", mode=None):
        def say(_):
            if isinstance(found, NoRay):
                raise found
            return found

        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        if mode is not None:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        monkeypatch.setattr(ray_start, "probe", say)
        ray = FakeRay()
        assert ray_start.start_ray(ray, 1, address)
        assert bool(ray.refreshed) == (os.environ.get("RAY_AUTH_MODE") != mode)
        return ray.joined

    yield joining
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


def ours(token="none", **other):
    python = "{}.{}.99".format(*sys.version_info)
    return Probed(**{"token": token, "ray": "2.60.0", "python": python, **other})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("foo", "address 'foo': a Ray's is host:port"),
        ("127.0.0.1:x", "a Ray's is host:port"),
        ("127.0.0.1:99999", "a Ray's is host:port"),
        ("ray://127.0.0.1:10001", "ray:// leads to Ray's client server"),
        ("127.0.0.1:1", "no Ray answers at '127.0.0.1:1' .*refused.*: start one by `ray start"),
    ],
)
def test_what_is_no_address(address, words):
    with pytest.raises(rt.RayMissing, match=words):
        ray_start.start_ray(FakeRay(), 1, address)


@pytest.mark.parametrize(
    ("found", "mode", "words"),
    [
        (ours("missing"), None, "wants a token, and this process has none: put .* RAY_AUTH_TOKEN"),
        (ours("wrong"), "token", "wants a token, other than ours: put"),
        (ours("right"), "disabled", "wants a token, and RAY_AUTH_MODE is 'disabled' here: unset"),
        (ours("none"), "token", "asks for no token, and this process would .* islands could not"),
        (ours(ray="2.55.0"), None, "is 2.55.0 on Python .*, and here are 2.60.0 and .*: install"),
        (ours(python="2.7.1"), None, "is 2.60.0 on Python 2.7, and here are 2.60.0 and 3"),
    ],
)
def test_who_does_not_fit_is_told(join, found, mode, words):
    with pytest.raises(rt.RayMissing, match=f"the Ray at '10.0.0.9:6379' {words}"):
        join(found, mode=mode)


def test_a_token_is_shown_to_who_asks_for_it_alone(join):
    """Ray itself shows none to an address that it is given."""
    assert join(ours("right")) == [("10.0.0.9:6379", "token")]
    assert join(ours("right"), mode="token") == [("10.0.0.9:6379", "token")]
    assert join(ours("none")) == [("10.0.0.9:6379", None)]
    assert join(ours("none"), "auto") == [("10.0.0.9:6379", None)]
    assert join(ours("none", ray="", python="")) == [("10.0.0.9:6379", None)]
    assert join(None) == [("10.0.0.9:6379", None)]  # it cannot be asked


def test_what_is_no_ray_is_not_asked_for_minutes(join):
    with pytest.raises(rt.RayMissing, match=r"is no Ray, or a stuck one \(timed out\): give"):
        join(NoRay("timed out"))


@pytest.mark.parametrize(
    ("done", "found"),
    [
        ((1, ""), None),
        ((0, json.dumps({"token": "right", "ray": "2.60.0", "python": "3.12.1"})), "right"),
        ((0, json.dumps({"error": "timed out"})), NoRay),
        (None, NoRay),
    ],
)
def test_a_process_of_its_own_asks(monkeypatch, done, found):
    def run(command, **options):
        assert command[1:] == ["-P", "-m", "byways.runtime.ray_probe", "10.0.0.9:6379"]
        assert options["env"]["PYTHONSAFEPATH"] == "1"
        if done is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess(command, *done)

    monkeypatch.setattr(ray_probe.subprocess, "run", run)
    if found is NoRay:
        with pytest.raises(NoRay, match=r"timed out|nothing was said"):
            probe("10.0.0.9:6379")
    else:
        told = probe("10.0.0.9:6379")
        assert (told and told.token) == found


def joined(address, **environment):
    """What the process above says, and what came to stderr."""
    command = [sys.executable, "-P", "-c", JOINS, address]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**without_token(os.environ), **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_a_ray_with_a_token(tmp_path):
    pytest.importorskip("ray")
    with a_ray_that_runs() as (address, key):
        port = address.rpartition(":")[2]
        for place in (address, f"localhost:{port}"):
            assert joined(place, **key) == ("[2. 2.]", "")
        home = {"HOME": str(tmp_path)}
        assert "wants a token, and this process has none" in joined(address, **home)[0]
        wrong = {"RAY_AUTH_TOKEN": "another"}
        assert joined(address, **wrong)[0].startswith("refused: the Ray at")
        assert "wants a token, other than ours" in joined(address, **wrong)[0]
        mode = {"RAY_AUTH_MODE": "disabled"}
        assert "and RAY_AUTH_MODE is 'disabled' here" in joined(address, **key, **mode)[0]


@pytest.mark.slow
def test_a_ray_without_a_token_and_what_is_no_ray(tmp_path):
    pytest.importorskip("ray")
    with a_ray_that_runs(token="") as (address, _):
        assert joined(address, RAY_AUTH_TOKEN="a token for others") == ("[2. 2.]", "")
        assert joined("auto", RAY_ADDRESS=address) == ("[2. 2.]", "")
        refused, _ = joined(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a token for others")
        assert "asks for no token, and this process would" in refused
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        refused, _ = joined(where)
        assert refused.startswith(f"refused: what listens at '{where}' is no Ray, or a stuck one")
