"""`byways bench transfer`: what it reports, and what it refuses. Nobody's speed is asserted."""

import io
import json

import pytest
from byways.experiments import cli
from byways.experiments.bench.transfer import bench_transfer
from byways.experiments.bench.transfer_settings import BenchTransfer
from byways.experiments.bench.transfer_table import print_transfer
from rich.console import Console


def check(result, ray):
    assert [row["kilobytes"] for row in result["rows"]] == [1, 1024]
    for row in result["rows"]:
        assert row["bare"] > 0
        assert row["adapter"] > 0
        assert (row["ray"] is None) != ray
    small, large = result["targets"]
    assert small["wanted"] == "≤ 0.2"
    assert small["value"] == result["rows"][0]["added"]
    assert large["wanted"] == "≤ 1.1"
    assert large["met"] == (result["rows"][1]["ratio"] <= 1.1)
    assert json.loads(json.dumps(result)) is not None
    console = Console(file=io.StringIO(), width=120)
    print_transfer(result, console=console)
    assert "1,024 KB: adapter over bare" in console.file.getvalue()


def test_rows_of_every_size():
    result = bench_transfer(BenchTransfer(kilobytes=(1, 1024), repeats=1, together=2, ray=False))
    assert "not to be" in result["skipped"]
    check(result, ray=False)


@pytest.mark.slow
def test_beside_rays_store(capfd):
    command = ["bench", "transfer", "--json", "--kilobytes", "1", "1024", "--repeats", "1"]
    assert cli.main(command) == 0
    result = json.loads(capfd.readouterr().out.strip().split("\n")[-1])
    assert not result["skipped"] or "not installed" in result["skipped"]
    check(result, ray=not result["skipped"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--kilobytes", "0"], "--kilobytes 0: give numbers of 1 or more"),
        (["--repeats", "0"], "--repeats 0: it must be 1 or more"),
        (["--patience", "0"], "--patience 0.0: it must be above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, why, capsys):
    assert cli.main(["bench", "transfer", *options]) == 2
    assert why in capsys.readouterr().err
