"""`byways bench serving`: what it reports, and what it refuses. Nobody's speed is asserted."""

import io
import json

import pytest
from byways.experiments import cli
from byways.experiments.bench.serving import bench_serving
from byways.experiments.bench.serving_settings import BenchServing
from byways.experiments.bench.serving_table import print_serving
from rich.console import Console

TINY = BenchServing(
    width=16,
    depth=1,
    rows=2,
    requests=4,
    prompt=6,
    steps=(2, 5),
    long=6,
    repeats=1,
    islands=False,
)


def check(result, ways):
    assert [row["way"] for row in result["throughput"]] == ["single", "static", *ways]
    assert [row["way"] for row in result["step"]] == ["bare", *ways]
    assert all(row["tokens_per_second"] > 0 for row in result["throughput"])
    assert result["throughput"][0]["speedup"] == 1
    assert result["step"][0]["added"] == 0
    assert all(row["microseconds"] > 0 for row in result["step"])
    assert json.loads(json.dumps(result)) is not None
    console = Console(file=io.StringIO(), width=120)
    print_serving(result, console=console)
    said = console.file.getvalue()
    assert "one text after the other" in said
    assert "D = 16, L = 1, " in said


def test_each_way_makes_the_same_tokens_and_has_a_row():
    check(bench_serving(TINY), ["continuous"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_over_islands_too(capfd):
    pytest.importorskip("ray")
    sizes = "--width 16 --depth 1 --experts 3 --rows 2 --requests 4 --prompt 6 --steps 2 5"
    command = ["bench", "serving", "--json", *sizes.split(), "--long", "6", "--repeats", "1"]
    assert cli.main(command) == 0
    check(json.loads(capfd.readouterr().out.strip().split("\n")[-1]), ["continuous", "islands"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--rows", "0"], "--rows 0: it must be 1 or more"),
        (["--steps", "1"], "--steps 1: give numbers of 2 or more"),
        (["--experts", "1"], "--experts 1: 2 or more, or 0"),
        (["--only", "steps"], "did you mean 'step'"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, why, capsys):
    assert cli.main(["bench", "serving", *options]) == 2
    assert why in capsys.readouterr().err
