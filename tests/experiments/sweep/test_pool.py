"""Which runs are started, and how the others ended; nothing is trained here."""

import dataclasses
import json
import threading

import pytest
from byways.experiments import RunError, UsageError
from byways.experiments.lock import FolderLock
from byways.experiments.sweep.claim import claimed
from byways.experiments.sweep.plan import Plan
from byways.experiments.sweep.plan_file import read_plan, write_plan
from byways.experiments.sweep.pool import PoolSettings, run_plan
from byways.experiments.sweep.status import failure_file, state_of, status_of

from .plans import FakeExecutor, plan_in, planned, train


def run(plan, executor=None, **settings):
    """Name to state of every outcome, and the executor."""
    executor = executor or FakeExecutor()
    outcomes = run_plan(plan, PoolSettings(**settings), executor=executor)
    return {one.name: one.state for one in outcomes}, executor


def test_all_runs_once_and_no_more_than_there_is_room_for(tmp_path):
    plan = plan_in(tmp_path)
    states, executor = run(plan)
    assert states == dict.fromkeys(("s0", "s1", "s2"), "done")
    assert executor.most == 2
    again, executor = run(plan)
    assert again == states
    assert executor.started == []


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = plan_in(tmp_path, planned("a"), planned("b", 1, "a"))
    path = write_plan(plan)
    assert read_plan(path) == plan
    before = path.stat().st_mtime_ns
    write_plan(plan)
    assert path.stat().st_mtime_ns == before
    path.write_text("{")
    with pytest.raises(RunError, match="is no plan of format 1"):
        read_plan(path)


def test_a_failure_is_kept_apart_and_tried_again_only_if_asked(tmp_path):
    plan = plan_in(tmp_path)
    states, _ = run(plan, FakeExecutor(codes={"s1": 1}))
    assert states == {"s0": "done", "s1": "failed", "s2": "done"}
    text = failure_file(plan, plan.run("s1")).read_text()
    assert "exit code 1" in text
    assert "ValueError: no luck" in text
    outcomes = run_plan(plan, executor=(executor := FakeExecutor()))
    assert (outcomes[1].state, outcomes[1].reason) == ("failed", "ValueError: no luck")
    assert executor.started == []
    states, executor = run(plan, retry_failed=True)
    assert states["s1"] == "done"
    assert executor.started == ["s1"]
    assert not failure_file(plan, plan.run("s1")).exists()


def test_a_failure_of_another_config_is_history(tmp_path):
    plan = plan_in(tmp_path, planned("a"))
    run(plan, FakeExecutor(codes={"a": 1}))
    mended = plan_in(tmp_path, planned("a", steps=50))
    states, _ = run(mended)
    assert states == {"a": "done"}


def test_what_was_stopped_from_outside_goes_on_next_time(tmp_path):
    plan = plan_in(tmp_path)
    states, _ = run(plan, FakeExecutor(codes={"s0": -9, "s1": 130, "s2": -11}))
    assert states == {"s0": "interrupted", "s1": "interrupted", "s2": "failed"}
    states, executor = run(plan)
    assert states == {"s0": "done", "s1": "done", "s2": "failed"}
    assert executor.started == ["s0", "s1"]


def test_runs_begin_after_their_base_and_wait_for_one_that_failed(tmp_path):
    runs = (planned("base"), planned("other", 1), planned("next", 2, "base"))
    plan = plan_in(tmp_path, *runs)
    states, executor = run(plan, FakeExecutor(codes={"base": 1}))
    assert states == {"base": "failed", "other": "done", "next": "waiting"}
    assert executor.started == ["base", "other"]
    states, executor = run(plan, retry_failed=True)
    assert executor.started == ["base", "next"]
    assert set(states.values()) == {"done"}


def test_only_takes_what_a_run_begins_with_along(tmp_path):
    plan = plan_in(tmp_path, planned("base"), planned("other", 1), planned("next", 2, "base"))
    states, executor = run(plan, only=("next",))
    assert executor.started == ["base", "next"]
    assert list(states) == ["base", "next"]
    with pytest.raises(UsageError, match=r"did you mean 'next'"):
        run(plan, only=("nxet",))


def test_without_scores_trained_is_all(tmp_path):
    plan = plan_in(tmp_path)
    states, _ = run(plan, evaluate=False)
    assert set(states.values()) == {"trained"}
    states, executor = run(plan)
    assert executor.started == ["s0", "s1", "s2"]


def test_runs_may_be_added_but_not_changed(tmp_path):
    run(plan_in(tmp_path))
    more = plan_in(tmp_path, *(planned(f"s{n}", n) for n in range(4)))
    _, executor = run(more)
    assert executor.started == ["s3"]
    other = plan_in(tmp_path, planned("s0", 0, **{"optimizer.lr": 0.5}))
    with pytest.raises(RunError, match=r"'s0'.*optimizer\.lr: 0\.03 → 0\.5"):
        run(other)


def test_another_base_is_found_out(tmp_path):
    plan = plan_in(tmp_path, planned("base"), planned("next", 2, "base"))
    run(plan)
    other = plan_in(tmp_path, planned("base", 5), planned("next", 2, "base"))
    for item in sorted((plan.folder / "base").rglob("*"), reverse=True):
        item.unlink()
    (plan.folder / "base").rmdir()
    with pytest.raises(RunError, match=r"'next'.*began with other weights"):
        run(other)


def test_a_moved_sweep_is_the_same(tmp_path):
    plan = plan_in(tmp_path, planned("base"), planned("next", 2, "base"))
    run(plan)
    (tmp_path / "moved").mkdir()
    plan.folder.rename(tmp_path / "moved" / "some")
    states, executor = run(dataclasses.replace(plan, folder=tmp_path / "moved" / "some"))
    assert set(states.values()) == {"done"}
    assert executor.started == []


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    plan = plan_in(tmp_path)
    plan.folder_of(plan.runs[1]).mkdir(parents=True)
    (plan.folder_of(plan.runs[1]) / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"thesis\.txt"):
        run(plan)
    assert not (plan.folder / "plan.json").exists()


def test_two_sweeps_at_once(tmp_path):
    plan = plan_in(tmp_path)
    plan.folder.mkdir()
    with FolderLock(plan.folder):
        with pytest.raises(RunError, match=r"is being run by process \d+"):
            run(plan)
        states, _ = run(plan, only=("s1",))
    assert states == {"s1": "done"}


def test_a_run_that_another_has_is_waited_for(tmp_path, capsys):
    plan = plan_in(tmp_path, planned("a"))
    got = threading.Event()

    def take():
        with claimed(plan, plan.runs[0]):
            got.set()

    other = threading.Thread(target=take)
    with claimed(plan, plan.runs[0]):
        other.start()
        assert not got.wait(0.2)
    other.join(timeout=30)
    assert got.is_set()
    assert "a is held by another process; waiting for it" in capsys.readouterr().err


def test_states(tmp_path):
    plan = plan_in(tmp_path, *(planned(f"s{n}", n) for n in range(6)))
    train(plan, plan.runs[1], step=10)
    train(plan, plan.runs[2], evaluate=False)
    train(plan, plan.runs[3])
    failure = failure_file(plan, plan.runs[4])
    failure.parent.mkdir(parents=True)
    failure.write_text(f"run s4, config {plan.hash_of('s4')}\n")
    expected = ["waiting", "interrupted", "trained", "done", "failed", "running"]
    with claimed(plan, plan.runs[5]):
        assert [state_of(plan, run) for run in plan.runs] == expected
    row = status_of(plan, plan.runs[1])
    # 30 steps of 256 examples at 64 a second.
    assert (row.step, row.steps, row.loss, row.seconds_left) == (10, 40, 1.5, 120.0)
    assert status_of(plan, plan.runs[3]).score == ("noto.all.top1", 0.25)


def test_damaged_files_do_not_stop_a_table(tmp_path):
    plan = plan_in(tmp_path, planned("a"))
    train(plan, plan.runs[0])
    folder = plan.folder_of(plan.runs[0])
    (folder / "done.json").write_text('{"config_')
    (folder / "metrics.jsonl").write_text('{"step": 3, "ki')
    assert status_of(plan, plan.runs[0]).state == "trained"
    (folder / "status.json").write_text("")
    assert status_of(plan, plan.runs[0]).state == "interrupted"


def test_a_callback_that_raises_leaves_nothing_running(tmp_path):
    executor = FakeExecutor()
    stopped = []
    executor.stop = lambda now=False: stopped.append(now)

    def fail(rows):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_plan(plan_in(tmp_path), on_change=fail, executor=executor)
    assert stopped == [False]


def test_the_hash_in_done_is_the_plan_s(tmp_path):
    plan = plan_in(tmp_path, planned("a"))
    run(plan)
    found = json.loads((plan.folder / "a" / "done.json").read_text())
    assert found["config_hash"] == plan.hash_of("a")
    assert isinstance(plan, Plan)


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "some").write_text("a file")
    with pytest.raises(RunError, match=r"cannot be written \(File exists\)"):
        run_plan(plan_in(tmp_path), executor=FakeExecutor())


def test_a_full_disk_does_not_hide_why_a_run_failed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("byways.experiments.sweep.pool.write_failure", full)
    plan = plan_in(tmp_path)
    found = run_plan(plan, executor=FakeExecutor(codes={"s1": 1}))
    assert [one.state for one in found] == ["done", "failed", "done"]
    assert found[1].reason == (
        "ValueError: no luck (its file cannot be written: No space left on device)"
    )


def test_a_metric_line_of_another_shape_is_passed_over(tmp_path):
    plan = plan_in(tmp_path)
    train(plan, plan.runs[0], step=8)
    metrics = plan.folder_of(plan.runs[0]) / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"kind": "train"}\n{"kind": "train", "step": "x"}\n')
    assert status_of(plan, plan.runs[0]).step == 8


def test_folders_that_are_no_runs_are_told(tmp_path):
    plan = plan_in(tmp_path)
    folder = plan.folder_of(plan.runs[1])
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    with pytest.raises(RunError, match=r"run 's1' would be in .* \(it holds notes.txt but no"):
        run_plan(plan, executor=FakeExecutor())
    (folder / "config.json").write_text("junk")
    with pytest.raises(RunError, match=r"(?s)run 's1' cannot go on: .*Or move .* away"):
        run_plan(plan, executor=FakeExecutor())
