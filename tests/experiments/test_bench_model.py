"""`byways bench model`: what it says of a run, and of what is none."""

import json

import pytest
from byways.experiments import cli
from byways.experiments.library import untrained_run

from .pathways_cases import with_moe
from .tiny import TINY


@pytest.mark.slow
def test_a_run_is_timed_both_ways_with_equal_answers(tmp_path, capsys):
    run = untrained_run(tmp_path / "run", with_moe(TINY, capacity_factor=None))
    words = ["--repeats", "1", "--batch", "8", "--sizes", "1", "--score-steps", "1", "--json"]
    assert cli.main(["bench", "model", str(run), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["train"]) == {"fused", "pathways", "sparse"} == set(found["scores"])
    assert found["train"]["fused"]["over_fused"] == 1
    layers, experts = len(TINY.model.moe_layers), TINY.model.moe.num_experts
    assert len(found["awake"]) == layers
    assert all(0 < awake <= experts for awake in found["awake"])
    assert [(row["input"], row["batch"]) for row in found["inference"]] == [
        ("image", 1),
        ("text", 1),
    ]
    assert all(row["difference"] < 1e-5 for row in found["inference"])
    for name, score in found["scores"]["fused"].items():
        assert score == pytest.approx(found["scores"]["pathways"][name], abs=1e-2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeats", "0"], "--repeats 0: it must be 1 or more"),
        (["--score-steps", "-1"], "--score-steps -1: it must be 0 or more"),
        (["--sizes", "0"], "--sizes 0: give numbers of 1 or more"),
    ],
)
def test_settings_that_cannot_be_measured(words, message, tmp_path, capsys):
    assert cli.main(["bench", "model", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_run_of_a_sparse_model(tmp_path, capsys):
    assert cli.main(["bench", "model", str(tmp_path / "nothing")]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    dense = untrained_run(tmp_path / "dense", with_moe(TINY, placement="none"))
    assert cli.main(["bench", "model", str(dense)]) == 2
    assert "the model is dense" in capsys.readouterr().err
