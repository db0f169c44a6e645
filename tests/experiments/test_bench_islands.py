"""`byways bench islands`: what it reports, and what it refuses. Nobody's speed is asserted."""

import contextlib
import dataclasses
import io
import json

import pytest
from byways.experiments import cli
from byways.experiments.bench import islands
from byways.experiments.bench.islands import bench_islands
from byways.experiments.bench.islands_settings import NAMES, BenchIslands
from byways.experiments.bench.islands_table import print_islands
from byways.experiments.bench.islands_targets import targets
from rich.console import Console

from byways import runtime as rt

from ..runtime.ray_in_process import NearIslands

TINY = BenchIslands(
    nodes=4,
    chains=2,
    leaves=3,
    steps=2,
    layers=2,
    width=8,
    batch=4,
    micro_batches=(2,),
    experts=2,
    tokens=16,
    expert_width=8,
    repeats=1,
    plain=False,
)


LAYER = {"ms": 3.0, "jit": 2.0, "ratio": 1.5, "here": 4, "there": 0}
RESULT = {
    "chain": {"rows": [{"way": "island", "microseconds": 34.0, "quartiles": [30.0, 40.0]}]},
    "control": {
        "rows": [
            {"way": way, "cpu_ms": 2.0, "call_ms": 1.0, "step_ms": 9.0, "messages": messages}
            for way, messages in (("islands", 6), ("ray", None))
        ]
    },
    "pipeline": {
        "rows": [
            {"micro_batches": 8, "one": 400.0, "jit": 350.0, "gpipe": 250.0, "1f1b": 240.0}
            | {"ideal": 225.0, "gpipe_of_ideal": 0.9, "1f1b_of_ideal": 0.94, "speedup": 1.67}
            | {"quartiles": [0.9, 0.95]}
        ]
    },
    "experts": {"rows": [{"awake": 1, "there": 0, "forward": LAYER, "train": LAYER}]},
    "settings": {"repeats": 3},
    "device": {"kind": "cpu", "platform": "cpu", "cpus": 2},
    "versions": {"jax": "0", "python": "3"},
    "load": 0.5,
}
RESULT["targets"] = targets(RESULT)


@pytest.fixture
def near(monkeypatch):
    """Hosts in this process in the place of Ray's."""

    @contextlib.contextmanager
    def made(settings, count, cores=None):
        hosts = NearIslands(count)
        with hosts.runtime() as system:
            yield system
        hosts.close()

    monkeypatch.setattr(islands, "_islands", made)


def test_chains_and_training_steps(near):
    result = bench_islands(TINY, ("chain", "control"))
    assert [name for name in NAMES if name in result] == ["chain", "control"]
    assert [row["way"] for row in result["chain"]["rows"]] == ["island", "local"]
    (control,) = result["control"]["rows"]
    # To each island its gradients and the other's way out; what comes in, and the update.
    assert 2 <= control["messages"] <= 6
    assert [target["wanted"] for target in result["targets"]] == ["≤ 60", "≤ 5"]
    assert json.loads(json.dumps(result))["settings"]["nodes"] == 4


@pytest.mark.slow
def test_pipelines_and_experts(near):
    result = bench_islands(TINY, ("pipeline", "experts"))
    (pipeline,) = result["pipeline"]["rows"]
    assert pipeline["micro_batches"] == 2
    assert pipeline["ideal"] == pytest.approx(pipeline["one"] / 2 * 1.5)  # 1 + (S-1)/M
    assert pipeline["difference"] < 1e-4
    first, both = result["experts"]["rows"]
    assert (first["awake"], first["there"], both["there"]) == (1, 0, 1)
    for what in ("forward", "train"):
        assert first[what]["there"] == 0  # expert 1 sleeps, and its island hears nothing
        assert both[what]["there"] > 0
        assert first[what]["here"] > 0


def test_targets_are_met_at_their_limits():
    rows = [{"way": "island", "microseconds": 60.0}]
    part = {"there": 0}
    found = targets(
        {
            "chain": {"rows": rows, "ray_over_island": 19.9},
            "control": {"rows": [{"way": "islands", "cpu_ms": 5.0}, {"way": "ray"}]},
            "pipeline": {
                "rows": [{"micro_batches": 8, "gpipe_of_ideal": 0.85, "1f1b_of_ideal": 0.1}]
            },
            "experts": {"rows": [{"there": 0, "forward": part, "train": {"there": 1}}]},
        }
    )
    assert [(t["wanted"], t["met"]) for t in found] == [
        ("≤ 60", True),
        ("≥ 20×", False),
        ("≤ 5", True),
        ("≥ 0.85", True),
        ("= 0", False),
    ]
    assert targets({}) == []


def test_it_is_printed_for_a_terminal_and_for_a_page():
    for markdown in (False, True):
        console = Console(file=io.StringIO(), width=140)
        print_islands(RESULT, markdown, console)
        shown = console.file.getvalue()
        for words in ("µs a node", "controller's CPU ms", "1F1B/ideal", "train: awake", "≥ 0.85"):
            assert words in shown
        assert ("| --- |" in shown) == markdown
        assert "medians of 3 rounds in turns" in shown.replace("\n", " ")


def test_a_result_is_shown_again(tmp_path, capsys):
    file = tmp_path / "result.json"
    file.write_text("noise\n" + json.dumps(RESULT))
    assert cli.main(["bench", "islands", "--markdown", "--show", str(file)]) == 0
    assert "| island |" in capsys.readouterr().out
    for text in ("", "{}", "[1]"):
        file.write_text(text)
        assert cli.main(["bench", "islands", "--show", str(file)]) == 2
        assert str(file) in capsys.readouterr().err
    assert cli.main(["bench", "islands", "--show", str(file), "--json"]) == 2
    assert "--json prints no tables" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--only", "pipelin"], "did you mean 'pipeline'?"),
        (["--nodes", "0"], "--nodes 0: it must be 1 or more"),
        (["--expert-width", "0"], "--expert-width 0: it must be 1 or more"),
        (["--layers", "1"], "--layers 1: two islands need 2 or more"),
        (["--micro-batches", "0"], "--micro-batches 0: give numbers of 1 or more"),
        (["--micro-batches", "3"], "--batch 1024 does not cut into 3 micro-batches"),
        (["--address", "127.0.0.1:1", "--only", "chain"], "no Ray answers at '127.0.0.1:1'"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, why, capsys):
    if "--address" in options:
        pytest.importorskip("ray")
    assert cli.main(["bench", "islands", *options]) in (1, 2)
    assert why in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_on_processes_with_plain_ray_beside_them():
    pytest.importorskip("ray")
    found = bench_islands(dataclasses.replace(TINY, plain=True), ("chain", "control"))
    assert [row["way"] for row in found["chain"]["rows"]] == ["island", "local", "ray"]
    assert [row["way"] for row in found["control"]["rows"]] == ["islands", "ray"]
    assert found["chain"]["ray_over_island"] > 0


def test_without_ray_it_says_what_is_missing(monkeypatch, capsys):
    def missing(*_, **__):
        raise rt.RayMissing("pip install 'byways[ray]'")

    monkeypatch.setattr(islands.rt, "RayIslands", missing)
    assert cli.main(["bench", "islands"]) == 1
    assert "pip install 'byways[ray]'" in capsys.readouterr().err
