"""`byways bench island-training`: what it reports, and what it refuses. No speed is asserted."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json

import pytest
from byways.experiments import cli
from byways.experiments.bench import island_training
from byways.experiments.bench.island_training import bench_island_training, targets
from byways.experiments.bench.island_training_settings import BenchIslandTraining
from byways.experiments.bench.island_training_table import print_island_training
from rich.console import Console

from byways import runtime as rt

from ..runtime.ray_in_process import NearIslands
from .islands.small import DENSE

ROW = {"step_ms": 100.0, "cpu_ms": 2.0, "call_ms": 1.0}
RESULT = {
    "rows": [
        {"islands": 1, "batch": 16, "messages": 1, **ROW},
        {"islands": 2, "batch": 32, "messages": 4, **ROW},
    ],
    "pace": 0.95,
    "targets": targets(2.0, 0.95),
    "settings": {"repeats": 3},
    "device": {"kind": "cpu", "platform": "cpu", "cpus": 2},
    "versions": {"jax": "0", "python": "3"},
    "load": 0.5,
}


@contextlib.contextmanager
def near(cores):
    with NearIslands(2) as hosts:
        first = dict(list(hosts.devices.items())[:1])
        with rt.RayRuntime(first, hosts=hosts) as alone, rt.RayRuntime(hosts=hosts) as both:
            yield alone, both


def test_it_times_one_island_and_two(monkeypatch):
    monkeypatch.setattr(island_training, "_systems", near)
    monkeypatch.setattr(island_training, "preset", lambda name: DENSE)
    result = bench_island_training(BenchIslandTraining(steps=1, repeats=1))
    assert [(row["islands"], row["batch"]) for row in result["rows"]] == [(1, 4), (2, 8)]
    assert all(row["step_ms"] > 0 and row["messages"] >= 1 for row in result["rows"])
    assert len(result["targets"]) == 2
    json.dumps(result)


def test_its_tables():
    out = io.StringIO()
    print_island_training(RESULT, markdown=True, console=Console(file=out, width=200))
    assert "| 2 | 32 | 100.00 | 2.00 | 1.00 | 4 |" in out.getvalue()
    assert "| pace of two islands over twice one | 0.95 | ≥ 0.90 | met |" in out.getvalue()


@pytest.mark.parametrize("options", [["--steps", "0"], ["--cores", "0"], ["--batch-size", "7"]])
def test_settings_that_cannot_be_measured(options, capsys):
    assert cli.main(["bench", "island-training", *options]) == 2
    assert options[0] in capsys.readouterr().err


def test_a_preset_that_does_not_exist(capsys):
    assert dataclasses.asdict(BenchIslandTraining())["preset"] == "palm_tiny"
    assert cli.main(["bench", "island-training", "--preset", "palm_tny"]) == 2
    assert "palm_tiny" in capsys.readouterr().err
