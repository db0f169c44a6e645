"""`byways bench pathways` and `auto`: both sides are one function, counted right; no speed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from byways.experiments import cli
from byways.experiments.bench import auto, pathways, pathways_layer
from byways.experiments.bench.auto import bench_auto
from byways.experiments.bench.auto_settings import BenchAuto, check_auto
from byways.experiments.bench.auto_table import print_auto
from byways.experiments.bench.pathways import bench_pathways
from byways.experiments.bench.pathways_layer import awake_alone, dataflow, jitted, make_case
from byways.experiments.bench.pathways_settings import BenchPathways, check_pathways
from byways.experiments.bench.pathways_table import print_pathways
from byways.experiments.bench.pathways_targets import WANTED, targets
from byways.experiments.bench.pathways_work import work
from byways.experiments.bench.rounds import Rounds
from byways.experiments.errors import UsageError
from byways.models import Calibration, Costs

from byways import runtime

TINY = BenchPathways(
    tokens=24, awake=2, few=3, width=8, hidden=8, experts=4, devices=(1, 2), repeats=2
)


@pytest.fixture(autouse=True)
def only_the_usual_options(monkeypatch):
    """Half as much to compile."""
    monkeypatch.setattr(pathways_layer, "fast_options", dict)


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathways_layer, "fast_options", dict)
        patch.setattr(pathways, "TRIAL", 1)
        return bench_pathways(TINY, only=("skewed",))


def test_what_it_reports(result):
    for what in ("forward", "train"):
        assert list(result[what]) == ["skewed"]
        details = result["details"][what]["skewed"]
        low, high = details["quartiles"]
        assert 0 < low <= result[what]["skewed"] <= high
        assert details["devices"] in (1, 2)
        assert list(details["by_devices"]) == ["1", "2"]
        assert details["awake"] == 2
        assert result["dense"][what]["skewed"].keys() == {"jit", "pathways"}
        assert result["gains"][what]["skewed"].keys() == {"sleeping", "products", "devices"}
        roads = {"jit", "pathways ×1", "pathways ×2", "dense", "awake alone"}
        assert details["ms"].keys() == roads
    assert [t["name"] for t in result["targets"]] == ["train, skewed", "forward, skewed"]
    assert json.loads(json.dumps(result))["settings"]["awake"] == 2


def test_it_is_printed(result, capsys):
    print_pathways(result)
    shown = " ".join(capsys.readouterr().out.split())
    assert "train saves by sleeping products devices" in shown
    assert "≤ 0.45" in shown
    assert "medians of 2 rounds" in shown


def test_targets_are_those_of_the_issue():
    parts = {"train": {"balanced": 0.7, "small": 0.31}, "forward": {"small": 1.1}}
    found = {t["name"]: t["met"] for t in targets(parts)}
    assert found == {"train, balanced": True, "train, small": False, "forward, small": True}
    assert sum(len(cases) for cases in WANTED.values()) == 6


@pytest.mark.parametrize("name", ["balanced", "skewed", "small"])
def test_cases_are_what_they_are_called(name):
    case = make_case(TINY, name)
    assert case.counts.sum() == case.tokens.shape[1] == (3 if name == "small" else 24)
    if name == "skewed":
        assert case.awake == [0, 1]


def test_all_roads_are_one_function():
    case = make_case(TINY, "skewed")
    (loss, out), (d_params, d_tokens) = jitted(case, "train", "blocked", {})()
    (loss_2, out_2), (few, d_tokens_2) = awake_alone(case, "train", {})()
    (loss_3, out_3), (apart, d_tokens_3) = runtime.arrays(
        dataflow(case, "train", jax.devices()[:2])()
    )
    for other in ((loss_2, out_2, d_tokens_2), (loss_3, out_3, d_tokens_3)):
        for a, b in zip(other, (loss, out, d_tokens), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    whole, part = d_params["params"]["Mlp"], few["params"]["Mlp"]
    for layer in ("Dense_0", "Dense_1"):
        found = apart["params"]["Mlp"][layer]["kernel"]
        assert list(found.arrays) == case.awake
        np.testing.assert_allclose(part[layer]["kernel"], whole[layer]["kernel"][:2], atol=1e-5)
        np.testing.assert_allclose(found.stacked(), whole[layer]["kernel"], atol=1e-5)
    router = apart["params"]["Router"]["dense"]["kernel"]
    np.testing.assert_allclose(router, d_params["params"]["Router"]["dense"]["kernel"], atol=1e-5)


def test_work_is_counted_by_hand():
    """24 tokens and 4 experts: units of 8 rows, one for an even share, so blocks of 8 and 16."""
    case = dataclasses.replace(make_case(TINY, "skewed"), counts=np.array([17, 7, 0, 0]))
    found = work(case, "train")
    # 17 rows are blocks of 16 and 8, 7 are one of 8; or both share a node and the bucket of 24.
    assert (found["jit"]["rows"], found["jit"]["products"]) == (32, 3)
    assert (found["pathways"]["rows"], found["pathways"]["products"]) == (48, 2)
    # Two products of D*H each, twice a multiplication and an addition, three times in training.
    assert found["jit"]["gflop"] == pytest.approx(3 * 32 * 2 * 2 * 8 * 8 * 1e-9)
    one = 4 * (8 * 8 + 8 + 8 * 8 + 8) / 1e6
    assert found["jit"]["gradient_mb"] == pytest.approx(4 * one)
    assert found["pathways"]["gradient_mb"] == pytest.approx(2 * one)
    assert work(case, "forward")["pathways"]["gradient_mb"] == 0


def test_quartiles_are_of_the_rounds_ratios():
    rounds = Rounds({"a": [1.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]})
    assert rounds.quartiles("a", "b") == [1.5, 2.5]
    assert Rounds({"a": [1.0], "b": [2.0]}).quartiles("a", "b") == [0.5, 0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pathways", "--awake", "5", "--experts", "4"], "--awake 5 is more than --experts 4"),
        (["pathways", "--devices", "0"], "--devices 0: give numbers of 1 or more"),
        (["pathways", "--tokens", "0"], "--tokens 0: must be at least 1"),
        (["pathways", "--only", "skewd"], "did you mean 'skewed'?"),
        (["auto", "--widths", "0"], "--widths 0: give numbers of 1 or more"),
        (["auto", "--repeats", "0"], "--repeats must be at least 1"),
    ],
)
def test_settings_that_cannot_be_measured(capsys, arguments, message):
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_checked_settings_come_back():
    assert check_pathways(TINY) is TINY
    with pytest.raises(UsageError, match="--devices nothing"):
        check_pathways(dataclasses.replace(TINY, devices=()))
    with pytest.raises(UsageError, match="--tokens nothing"):
        check_auto(BenchAuto(tokens=()))


def test_the_command_line_prints_json(capsys, monkeypatch, result):
    monkeypatch.setattr(pathways, "bench_pathways", lambda *_: result)
    assert cli.main(["bench", "pathways", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train"] == result["train"]


def test_auto_takes_what_the_model_says(monkeypatch, capsys):
    cheap, dear = (Costs(seconds, 0.0, 0.0, 0.0, 0.0, 0.0) for seconds in (0.0, 1.0))
    costs = Calibration((dear, cheap), (cheap, dear), shared=True, seconds=0.5)
    monkeypatch.setattr(auto, "calibrate", lambda: costs)
    settings = BenchAuto(tokens=(16,), widths=(8,), experts=(4,), awake=(2,), repeats=2)
    found = bench_auto(settings)
    assert [(row["what"], row["model"]) for row in found["rows"]] == [
        ("forward", "pathways"),
        ("train", "fused"),
    ]
    for row in found["rows"]:
        best = min(row["fused"], row["pathways"])
        for by in ("tried", "model"):
            assert row["of_best"][by] == row[row[by]] / best
    for by in ("tried", "model"):
        assert found["worst"][by] == max(row["of_best"][by] for row in found["rows"])
    assert found["rows"][0]["awake"] == 2
    print_auto(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "within 5 % of the better way" in shown
    monkeypatch.setattr(auto, "bench_auto", lambda *_: found)
    assert cli.main(["bench", "auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["worst"] == found["worst"]


def test_a_sweep_is_every_size():
    layers = BenchAuto(tokens=(8,), widths=(16,), experts=(1, 4), awake=(2, 0)).layers
    assert [(layer.experts, layer.awake) for layer in layers] == [(1, 1), (1, 1), (4, 2), (4, 4)]
    assert {layer.hidden for layer in layers} == {64}
