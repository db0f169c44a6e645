"""Runs over islands by the trainer: lost islands and other numbers of them change nothing."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from byways.experiments import Checkpoints, RunError
from byways.experiments.config_files import fingerprint
from byways.experiments.islands.team import Team
from byways.experiments.train import train

from .small import DENSE

TWO = dataclasses.replace(DENSE, islands=2)


def lines(run):
    rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "times"} for row in rows]


def events(run):
    return [json.loads(text) for text in (run / "islands.jsonl").read_text().splitlines()]


def params_of(run, config=TWO):
    checkpoints = Checkpoints(run / "checkpoints", config.checkpoint, fingerprint(config))
    step, params = checkpoints.restore_params()
    checkpoints.close()
    return step, params


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on two islands that nothing happens to."""
    return train(TWO, tmp_path_factory.mktemp("runs") / "whole", cluster="local")


def assert_same_run(run, other):
    assert lines(run) == lines(other)
    (step, params), (other_step, others) = params_of(run), params_of(other)
    assert step == other_step
    jax.tree.map(np.testing.assert_array_equal, params, others)


def test_it_learns_what_a_run_without_islands_does(finished, tmp_path):
    alone = train(DENSE, tmp_path / "alone")
    for row, other in zip(lines(finished), lines(alone), strict=True):
        for name, value in other["metrics"].items():
            assert row["metrics"][name] == pytest.approx(value, rel=1e-3), name


def test_islands_are_lost_one_by_one_and_all_at_once(finished, tmp_path, monkeypatch):
    # One after step 1, both after step 5 (the checkpoint of step 3 is there), one before the last.
    plan = {2: ["island0"], 6: ["island0", "island1"], 8: ["island1"]}
    step = Team.step

    def losing(team, rows):
        for name in plan.pop(team._newest.number + 1, ()):
            team.members._system.lose_island(name)
        return step(team, rows)

    monkeypatch.setattr(Team, "step", losing)
    run = train(TWO, tmp_path / "lost", cluster="local")
    assert not plan
    assert_same_run(run, finished)
    lost = [line["island"] for line in events(run) if line["event"] == "lost"]
    # island0 may still be on its way back when it is lost again, and is then no member.
    assert lost[0] == "island0"
    assert lost.count("island1") == 2


def test_a_run_goes_on_without_islands(finished, tmp_path, monkeypatch):
    run = tmp_path / "moved"
    step = Team.step

    def breaking(team, rows):
        if team._newest.number == 4:
            raise RunError("cut short")
        return step(team, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Team, "step", breaking)
        with pytest.raises(RunError, match="cut short"):
            train(TWO, run, cluster="local")
    moved = train(DENSE, run)
    assert json.loads((moved / "config.json").read_text())["config"]["islands"] == 2
    for row, other in zip(lines(moved), lines(finished), strict=True):
        assert row["step"] == other["step"]
        if row["kind"] == "train":
            assert row["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=1e-3)


def test_more_islands_than_devices_are_refused(tmp_path):
    config = dataclasses.replace(DENSE, islands=16, batch_size=16)
    with pytest.raises(RunError, match="16 islands of one device each, but this process has 8"):
        train(config, tmp_path / "many", cluster="local")
