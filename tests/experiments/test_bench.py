"""`byways bench moe`: what it reports, and what it refuses. Nobody's speed is asserted."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from byways.experiments import cli
from byways.experiments.bench import moe as bench
from byways.experiments.bench import scaling
from byways.experiments.bench.moe import bench_moe
from byways.experiments.bench.pairs import Pairs
from byways.experiments.bench.scaling import bench_scaling
from byways.experiments.bench.settings import FORMS, BenchMoe
from byways.experiments.errors import UsageError

TINY = BenchMoe(tokens=16, group=8, width=8, hidden=8, experts=4, capacity=1.0, repeats=2)
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(autouse=True)
def only_the_usual_options(monkeypatch):
    """Half as much to compile."""
    monkeypatch.setattr(bench, "fast_options", dict)


@pytest.fixture(scope="module")
def result():
    settings = dataclasses.replace(TINY, dispatchers=("index", "grouped"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "fast_options", dict)
        patch.chdir(EXAMPLES)
        return bench_moe(settings, against=["naive_moe:build"], profile=2)


def test_every_form_has_a_row_beside_the_dense_layer(result):
    names = [row["name"] for row in result["rows"]]
    assert names == ["index", "grouped dropless", "naive_moe:build"]
    for row in result["rows"]:
        for what in ("forward", "train"):
            part = row[what]
            low, high = part["quartiles"]
            assert 0 < low <= part["ratio"] <= high
            assert part["fastest"] > 0
            assert part["temporary_bytes"] > 0
            assert len(part["profile"]) == 2
    first = result["rows"][0]
    assert result["train_ratio"] == first["train"]["ratio"]
    assert result["forward_ratio"] == first["forward"]["ratio"]
    assert result["moe"]["train"] == first["train"]["ms"]
    assert json.loads(json.dumps(result)) is not None


def test_the_dense_layer_does_the_same_work_per_token():
    """K experts of H against one MLP of K*H: FLOPs differ by padding and routing alone."""
    wide = dataclasses.replace(TINY, tokens=64, group=64, width=32, hidden=128, repeats=1)
    wide = dataclasses.replace(wide, capacity=1.0, dispatchers=("index",))
    found = bench_moe(wide)
    for what in ("forward", "train"):
        ratio = found["rows"][0][what]["gflop"] / found["dense_programs"][what]["gflop"]
        assert 1.0 <= ratio < 1.15


def test_scaling_compares_with_the_fewest(monkeypatch):
    monkeypatch.setattr(scaling, "WHATS", ("forward",))
    rows = bench_scaling(dataclasses.replace(TINY, selected=1), experts=(2, 4))["rows"]
    assert [row["experts"] for row in rows] == [2, 4]
    assert rows[0]["forward"]["flop_ratio"] == rows[0]["forward"]["bytes_ratio"] == 1.0
    assert rows[1]["forward"]["bytes_ratio"] > 1.0


def test_medians_are_over_pairs():
    pairs = Pairs(first=[2.0, 40.0, 6.0], second=[1.0, 10.0, 2.0])
    assert (pairs.ratio, pairs.fastest, pairs.first_median) == (3.0, 2.0, 6.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experts", "4", "--selected", "5"], "--selected 5 is more than --experts 4"),
        (["--tokens", "0"], "--tokens 0: must be at least 1"),
        (["--capacity", "0"], "--capacity 0.0: must be a number above 0"),
        (["--dispatchers", "indx"], "did you mean 'index'?"),
        (["--scaling", "--profile", "3"], "--scaling times the index path alone"),
    ],
)
def test_settings_that_make_no_layer(capsys, arguments, message):
    assert cli.main(["bench", "moe", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("naive_moe", "expected module:function"),
        ("nobody:build", "No module named 'nobody'"),
        ("naive_moe:make", "has no attribute 'make'"),
        ("odd:build", r"outputs are \(2, 8, 4\), the inputs \(2, 8, 8\)"),
    ],
)
def test_a_foreign_layer_that_is_none(monkeypatch, tmp_path, where, message):
    (tmp_path / "odd.py").write_text(
        "def build(settings):\n    return {}, lambda params, x, train: x[..., :4]\n"
    )
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    settings = dataclasses.replace(TINY, dispatchers=("index",))
    with pytest.raises(UsageError, match=message):
        bench_moe(settings, against=[where])
    sys.modules.pop("odd", None)


def test_tables_and_json(capsys, monkeypatch, result):
    monkeypatch.setattr(bench, "bench_moe", lambda *_: result)
    assert cli.main(["bench", "moe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train_ratio"] == result["train_ratio"]
    assert cli.main(["bench", "moe"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "train: layer" in shown
    assert "naive_moe:build, forward" in shown
    assert "medians of 2 adjacent pairs" in shown


def test_all_dispatchers_are_known_to_the_bench():
    from byways.routing import DISPATCHERS

    assert set(FORMS) == set(DISPATCHERS)
