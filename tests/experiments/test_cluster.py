"""`byways cluster`: what is printed and refused without starting anything."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from byways.experiments.cli import main
from byways.experiments.cluster.view import picture, watch
from rich.console import Console

STATUS = {
    "pid": 4242,
    "up": 3700.0,
    "name": "default",
    "address": "127.0.0.1:40000",
    "ray": "127.0.0.1:50000",
    "own ray": True,
    "served": 12,
    "islands": [
        {
            "name": "island0",
            "lost": False,
            "pid": 4243,
            "devices": 2,
            "kind": ["cpu"],
            "in flight": 3,
            "nodes": ["double", "total", "work", "more"],
            "queue": 1,
            "turns": 1234,
            "bytes": 1_000_000,
            "arrays": 17,
            "held": 1_500_000,
            "transfers": {"pulled_bytes": 2_000_000},
        },
        {
            "name": "island1",
            "lost": True,
            "pid": None,
            "devices": 2,
            "kind": ["cpu"],
            "in flight": 0,
            "nodes": [],
            "queue": 0,
            "turns": 0,
            "bytes": 0,
            "arrays": None,
            "held": None,
            "transfers": None,
        },
    ],
    "clients": [
        {
            "name": "ann@here:1.1",
            "weight": 2.0,
            "priority": 0,
            "for": 61.0,
            "calls": 9,
            "running": 1,
            "values": 4,
            "bytes": 999,
        }
    ],
    "programs": {"known": 3, "named": ["step"]},
    "values": [{"name": "weights", "arrays": 4, "bytes": 2048}],
}


@pytest.fixture(autouse=True)
def state(tmp_path_factory, monkeypatch):
    """A folder for clusters' files that no test shares."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("BYWAYS_STATE", str(folder))
    monkeypatch.delenv("BYWAYS_TOKEN", raising=False)
    return folder


def drawn(width=100):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(picture(STATUS))
    return console.file.getvalue()


def test_the_picture_says_all():
    text = drawn()
    for word in (
        *("cluster default: controller 4242 at 127.0.0.1:40000, Ray at 127.0.0.1:50000", "1:01:40"),
        *("island0  alive  4243", "1234", "1.5 MB", "2 MB", "on island0: double, total, work …"),
        *("island1  lost", "ann@here:1.1", "999 B", "weights", "2.05 KB"),
        "3 programs, named step",
    ):
        assert word in text, (word, text)
    assert all(len(line) <= 80 for line in drawn(80).splitlines())
    assert "island0  alive  4243" in drawn(80)


def test_what_is_no_terminal_is_shown_it_once():
    console = Console(file=io.StringIO(), width=100)
    watch(lambda: STATUS, console=console)
    assert console.file.getvalue().count("island0  alive") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("cluster up --islands 0", 2, "islands and devices are 1 or more"),
        ("cluster up --local --ray-address 1.2.3.4:5", 2, "local islands are in one process"),
        ("cluster up --listen host:port", 2, "a host, or host:port"),
        ("cluster up --patience 0", 2, "seconds above 0"),
        ("cluster up --local --name ../x", 1, "a name is of letters"),
        ("cluster up --iland 3", 2, "did you mean '--islands'?"),
        ("cluster status --every 0", 2, "seconds above 0"),
        ("cluster status", 1, "no cluster 'default' is up"),
        ("cluster status --address 127.0.0.1:1", 1, "wants its cluster's token"),
        ("cluster down", 1, "no cluster 'default' is up"),
        ("cluster down --name mine", 1, "byways cluster up --name mine"),
        ("cluster dwon", 2, "did you mean 'down'?"),
    ],
)
def test_what_cannot_be_is_told_at_once(words, code, said, capsys):
    assert main(words.split()) == code
    assert said in capsys.readouterr().err


def test_neither_jax_nor_ray_is_imported_to_look():
    code = (
        "import sys\n"
        "from byways.experiments.cli import main\n"
        "from byways.runtime import Watched, read_cluster, ControllerSettings\n"
        "import byways.experiments.cluster.starting, byways.experiments.cluster.ending\n"
        "import byways.experiments.cluster.view\n"
        "main(['cluster', '--help']), main(['cluster', 'status'])\n"
        "print({'jax', 'ray', 'flax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


# Real processes.
