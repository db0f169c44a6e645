"""What a worker does of a run: what is left of it."""

import json

import pytest
from byways.experiments import RunError, RunFolder, load
from byways.experiments.sweep import worker
from byways.experiments.sweep.plan import Plan, PlannedRun
from byways.experiments.sweep.plan_file import write_plan
from byways.experiments.sweep.pool import PoolSettings, run_plan
from byways.experiments.sweep.seconds import train_seconds
from byways.experiments.sweep.values import with_values

from ..tiny import TINY
from .plans import plan_in, planned, train


@pytest.fixture
def scored(monkeypatch):
    """Folders that were scored; scoring takes seconds and is tested elsewhere."""
    folders = []

    def evaluate(folder):
        folders.append(folder.name)
        RunFolder(folder).results_file.write_text("{}")

    monkeypatch.setattr("byways.experiments.evaluation.evaluate_run", evaluate)
    return folders


def test_a_trained_run_is_only_scored_and_a_done_one_left_alone(tmp_path, scored):
    plan = plan_in(tmp_path)
    file = write_plan(plan)
    train(plan, plan.runs[1], evaluate=False)
    for _ in range(2):
        worker.work(file, "s1")
    assert scored == ["s1"]
    done = json.loads((plan.folder / "s1" / "done.json").read_text())
    assert done["config_hash"] == plan.hash_of("s1")
    assert done["seconds"]["train"] == 9.0


def test_what_a_run_begins_with_comes_first(tmp_path):
    plan = plan_in(tmp_path, planned("base"), planned("next", 1, "base"))
    with pytest.raises(RunError, match="begins with 'base', which is not trained yet"):
        worker.work(write_plan(plan), "next")


def test_seconds_of_all_starts_are_added(tmp_path):
    lines = [(2, 3.0), (4, 5.0), (6, 2.0), (8, 4.5)]
    RunFolder(tmp_path).metrics_file.write_text(
        "".join(
            json.dumps({"step": n, "kind": "train", "metrics": {}, "times": {"since_start": s}})
            + "\n"
            for n, s in lines
        )
    )
    # The second start begins after step 4: 5 s and then 4.5 s.
    assert train_seconds(tmp_path) == 9.5


def test_a_start_whose_first_line_is_late_counts_as_another(tmp_path):
    """41 s are later than 40, but not by the 15 s that the line's steps took."""
    clocks = [(20.0, 19.0), (40.0, 20.0), (41.0, 15.0), (56.0, 15.0)]
    lines = [
        {
            "step": n,
            "kind": "train",
            "metrics": {},
            "times": {"since_start": now, "seconds": took},
        }
        for n, (now, took) in enumerate(clocks)
    ]
    RunFolder(tmp_path).metrics_file.write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert train_seconds(tmp_path) == 96.0


def test_a_run_is_trained_from_its_base_and_scored(tmp_path, scored, monkeypatch):
    plan = plan_in(tmp_path, planned("base"), planned("next", 1, "base"))
    given = []

    def fake(config, folder, name):
        given.append((folder.name, config.init, name))
        train(plan, plan.run(folder.name), evaluate=False)

    monkeypatch.setattr("byways.experiments.train.train", fake)
    for name in ("base", "next"):
        worker.work(write_plan(plan), name)
    base = str(plan.folder / "base")
    assert given == [("base", (), "limoe_tiny"), ("next", (base,), "limoe_tiny")]
    assert scored == ["base", "next"]


@pytest.mark.slow
def test_processes_train_score_and_grow(tmp_path):
    dense = with_values(TINY, {"model.moe.placement": "none"})
    grown = with_values(TINY, {"model.moe.task": "none"})
    runs = (
        PlannedRun("dense", dense, "limoe_tiny_dense"),
        PlannedRun("grown", grown, "limoe_tiny", begins_with="dense", upcycled=True),
        PlannedRun("bad", with_values(TINY, {"optimizer.lr": 1e30, "optimizer.clip": 0}), "x"),
    )
    plan = Plan("three", tmp_path / "three", runs)
    states = {one.name: one.state for one in run_plan(plan, PoolSettings(workers=2))}
    assert states == {"dense": "done", "grown": "done", "bad": "failed"}
    found = load(plan.folder / "grown").params["Encoder"]["encoderblock_0"]["Moe"]["Mlp"]
    assert found["Dense_0"]["kernel"].shape == (4, 16, 24)
