"""`byways bench runtime`: what each benchmark reports, tiny, and the targets. Nobody's speed."""

import dataclasses
import json
import sys

import pytest
from byways.experiments import cli
from byways.experiments.bench import runtime as bench
from byways.experiments.bench import runtime_clients, runtime_ray
from byways.experiments.bench.runtime import bench_runtime
from byways.experiments.bench.runtime_parity import _parity
from byways.experiments.bench.runtime_settings import NAMES, BenchRuntime, check_runtime
from byways.experiments.bench.runtime_table import print_runtime
from byways.experiments.bench.runtime_targets import targets
from byways.experiments.bench.runtime_work import products
from byways.experiments.errors import UsageError
from byways.experiments.virtual_devices import environment_with_devices

TINY = BenchRuntime(
    nodes=4,
    devices=2,
    repeats=2,
    lengths=(1, 2),
    width=8,
    stages=(2,),
    clients=(1, 2),
    program=0.01,
    seconds=0.05,
    weights=((1, 1),),
    pipelines=(2,),
    micro_batches=(2,),
    batch=4,
    layers=2,
    steps=1,
    ray=False,
)


@pytest.fixture(scope="module")
def result():
    return bench_runtime(TINY)


def test_every_benchmark_reports(result):
    assert [name for name in NAMES if name in result] == list(NAMES)
    dispatch = result["dispatch"]
    assert dispatch["one device"].keys() == dispatch["all-reduce"].keys()
    assert min(dispatch["one device"].values()) > 0
    assert dispatch["ray"] == {}
    assert [row["length"] for row in result["parity"]["rows"]] == [1, 2]
    assert result["order"]["rows"][0]["stages"] == 2
    rows = result["clients"]["rows"]
    assert [row["clients"] for row in rows] == [1, 2]
    assert rows[0]["of_one"] == 1
    shares = result["shares"]["rows"][0]["shares"]
    assert sum(shares) == pytest.approx(1)
    pipeline = result["pipeline"]["rows"][0]
    assert pipeline["bubble"] == pytest.approx(1 / 3)  # (S-1) / (M+S-1), both 2
    assert pipeline["difference"] < 1e-4
    assert [row["devices"] for row in result["spmd"]["rows"]] == [1, 2]
    assert json.loads(json.dumps(result))["settings"]["nodes"] == 4


def test_targets_of_what_ran(result):
    names = [target["name"] for target in result["targets"]]
    assert names == [
        "chained, µs a node above jit calls",
        "shares 1:1, furthest from its weight",
        "step as one node over jit, 1 device(s)",
        "step as one node over jit, 2 device(s)",
    ]


def test_targets_are_met_at_their_limits():
    found = targets(
        {
            "dispatch": {
                "chained_over_calls": 15.0,
                "ray_actors_over_chained": 20.0,
                "ray_compiled_over_chained": 2.9,
            },
            "clients": {"rows": [{"clients": 8, "of_one": 0.94}, {"clients": 4, "of_one": 0.1}]},
            "shares": {"rows": [{"weights": [1, 2], "error": 0.05}]},
            "spmd": {"rows": [{"devices": 1, "ratio": 0.99}]},
        }
    )
    assert [(t["wanted"], t["met"]) for t in found] == [
        ("≤ 15", True),
        ("≥ 20", True),
        ("≥ 3", False),
        ("≥ 0.95", False),
        ("≤ 0.05", True),
        ("≥ 0.99", True),
    ]
    assert targets({}) == []


def test_it_is_printed(result, capsys):
    print_runtime(result)
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("dispatch: µs a node", "90 % of plain JAX, chained", "gpipe/spmd", "≥ 0.99"):
        assert words in shown
    assert "medians of 2 rounds in turns" in shown


def test_parity_is_from_where_all_are_fast_enough():
    rows = [
        {"calls": share, "milliseconds": float(n)} for n, share in enumerate((0.95, 0.5, 0.9, 1.0))
    ]
    assert _parity(rows, "calls") == 2.0
    assert _parity(rows[:2], "calls") is None


def test_loops_are_as_long_as_they_say():
    """x = 1 (1, 1): each turn is tanh(y * 1) / 1 + 1."""
    import jax.numpy as jnp
    import numpy as np

    expected = 1.0
    for _ in range(3):
        expected = np.tanh(expected) + 1
    assert float(products(3)(jnp.ones((1, 1)))[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_devices_are_asked_for_once():
    flag = "--xla_force_host_platform_device_count"
    assert environment_with_devices({"A": "b"}, 4) == {"A": "b", "XLA_FLAGS": f"{flag}=4"}
    found = environment_with_devices({"XLA_FLAGS": "--xla_x=1"}, 2)
    assert found == {"XLA_FLAGS": f"--xla_x=1 {flag}=2"}
    assert environment_with_devices({"XLA_FLAGS": f"{flag}=8"}, 2) is None


def test_a_client_that_fails_ends_the_race():
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        runtime_clients._race([runtime_clients._Sender(fail)] * 2, 0.05)


def test_without_ray_its_roads_are_left_out(monkeypatch):
    monkeypatch.setattr(runtime_ray, "ray_installed", lambda: False)
    assert "pip install 'byways[ray]'" in runtime_ray.time_ray("actors", 4, 1, 1.0)["skipped"]


@pytest.mark.parametrize(
    ("text", "patience", "found"),
    [
        ("print('noise'); print('{\"microseconds\": 5.0}')", 60.0, {"microseconds": 5.0}),
        ("raise SystemExit('broken')", 60.0, {"skipped": "it failed: broken"}),
        ("import time; time.sleep(60)", 0.5, {"skipped": "it hung: no answer in 0.5 s"}),
    ],
)
def test_a_ray_process_that_answers_fails_or_hangs(monkeypatch, tmp_path, text, patience, found):
    child = tmp_path / "child.py"
    child.write_text(text)
    monkeypatch.setattr(runtime_ray, "ray_installed", lambda: True)
    monkeypatch.setattr(runtime_ray, "CHILD", child)
    assert runtime_ray.time_ray("actors", 4, 1, patience) == found


def test_the_child_imports_nothing_of_ours():
    text = runtime_ray.CHILD.read_text()
    assert "byways" not in text.replace("runtime_ray", "")
    assert "from ." not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": 0}, "--nodes 0: it must be 1 or more"),
        ({"micro_batches": ()}, "--micro-batches nothing: give numbers of 1 or more"),
        ({"seconds": 0.0}, "must be above 0"),
        ({"stages": (3,)}, "--stages 3 is more than the --devices 2"),
        ({"layers": 3}, "--layers 3 do not spread over 2 stages"),
        ({"micro_batches": (3,)}, "--batch 4 does not cut into 3 micro-batches"),
    ],
)
def test_what_cannot_be_measured(change, message):
    with pytest.raises(UsageError, match=message):
        check_runtime(dataclasses.replace(TINY, **change))


def test_the_command_line(capsys, monkeypatch, result):
    assert cli.main(["bench", "runtime", "--only", "dispach"]) == 2
    assert "did you mean 'dispatch'?" in capsys.readouterr().err
    monkeypatch.setattr(bench, "bench_runtime", lambda *_: result)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert cli.main(["bench", "runtime", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["devices"] == 2
