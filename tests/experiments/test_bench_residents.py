"""`byways bench residents`: what it reports, and what it refuses. Nobody's speed is asserted."""

import io
import json

import numpy as np
import pytest
from byways.experiments import cli
from byways.experiments.bench.residents import _images, bench_residents
from byways.experiments.bench.residents_settings import BenchResidents
from byways.experiments.bench.residents_table import print_residents
from rich.console import Console

TINY = BenchResidents(
    budgets=(100, 25),
    batches=(2,),
    streams=("noise",),
    images=4,
    width=8,
    hidden=8,
    depth=2,
    experts=4,
    patch=8,
    repeats=1,
)


def test_rows_of_every_budget():
    """An expert has 2*8*8 + 8 + 8 float32, 576 bytes; four of them 2,304, a quarter is one."""
    result = bench_residents(TINY)
    assert result["experts"] == {"bytes": 2304, "each": 576}
    (base,) = result["base"]
    assert 1 <= base["awake"] <= 4
    whole, quarter = result["rows"]
    assert [row["budget"] for row in result["rows"]] == [100, 25]
    assert whole["equal"]
    assert quarter["equal"]
    assert whole["hit_rate"] == 1
    assert whole["fetched"] == 0
    assert quarter["peak"] == quarter["budget_bytes"] == 576
    if base["awake"] > 1:
        assert quarter["hit_rate"] < 1
        # Two batches, a layer: each miss is an expert.
        asked = 2 * base["awake"]
        assert 2 * quarter["fetched"] / 576 == pytest.approx(asked * (1 - quarter["hit_rate"]))
    assert json.loads(json.dumps(result)) is not None
    console = Console(file=io.StringIO(), width=120)
    print_residents(result, console)
    assert "25 %" in console.file.getvalue()  # pyright: ignore


def test_streams():
    for stream in ("art", "noise"):
        images = _images(stream, TINY)
        assert images.shape == (4, 32, 32, 3)
        assert images.dtype == np.float32
        assert -1 <= images.min() < images.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budgets", "1", "--together", "4"], "--budgets 1: that is 1,345,454 bytes, and"),
        (["--budgets", "0"], "--budgets 0: give numbers of 1 or more"),
        (["--batches", "3"], "--images 32 do not cut into batches of 3"),
        (["--patch", "5"], "--patch 5 does not divide"),
        (["--width", "6"], "--width 6 does not divide by the 4 heads"),
        (["--depth", "1"], "--depth 1: every second block is sparse"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
        (["--streams"], "--streams"),
    ],
)
def test_what_cannot_be_measured(arguments, words, capsys):
    assert cli.main(["bench", "residents", *arguments]) == 2
    assert words in capsys.readouterr().err
