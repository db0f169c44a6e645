"""The trainer: it learns, shards, chunks, resumes bit for bit, and stops cleanly."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import byways.experiments.train as trainer
import jax
import numpy as np
import pytest
from byways.experiments import Checkpoints, Interrupted, RunError, to_dict
from byways.experiments.interrupts import Interrupts
from byways.experiments.train import train
from byways.experiments.train_state import prepare

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)
TINY = tiny.TINY


def lines(run: Path) -> list[dict]:
    """The metric lines without their times."""
    rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "times"} for row in rows]


def final_params(run: Path, config=TINY):
    checkpoints = Checkpoints(run / "checkpoints", config.checkpoint, to_dict(config))
    params, step = checkpoints.restore_params(), checkpoints.last_step()
    checkpoints.close()
    return step, params


def assert_same_run(run: Path, other: Path) -> None:
    assert lines(run) == lines(other)
    (step, params), (other_step, others) = final_params(run), final_params(other)
    assert step == other_step
    jax.tree.map(np.testing.assert_array_equal, params, others)


@pytest.mark.slow
def test_twenty_kills_at_any_moment_end_bit_identical(finished, tmp_path):
    run, rng = tmp_path / "killed-often", np.random.default_rng(0)
    for _ in range(20):
        process = launch(run)
        try:
            process.wait(timeout=rng.uniform(3.0, 12.0))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        if (run / "status.json").exists():
            break
    else:
        launch(run).communicate(timeout=300)
    assert_same_run(run, finished)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The tiny run, uninterrupted, in a process of its own as a user would run it."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = launch(run).communicate(timeout=300)
    assert (run / "status.json").exists(), done
    return run


def launch(run: Path, config=TINY, **environment) -> subprocess.Popen:
    command = [sys.executable, "-P", "-m", "byways", "train", "limoe_tiny", "--run", str(run)]
    return subprocess.Popen(
        command + tiny.flags(config),
        cwd=run.parent,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_metric_lines_hold_losses_routing_and_validation(finished):
    rows = lines(finished)
    assert [(row["step"], row["kind"]) for row in rows] == [
        (2, "train"),
        (4, "train"),
        (6, "train"),
        (8, "train"),
        (8, "validation"),
    ]
    metrics = rows[0]["metrics"]
    expected = {
        "loss",
        "loss/contrastive",
        "loss/auxiliary",
        "loss/importance",
        "loss/load",
        "loss/z",
        "loss/local/text",
        "loss/global/image",
        "loss/global/text",
        "temperature",
        "lr",
        "grad_norm",
        "routing/encoderblock_0/success/image",
        "routing/encoderblock_0/local_entropy/text",
        "routing/encoderblock_0/max_load",
    }
    assert expected <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    terms = [v for k, v in metrics.items() if k.startswith("loss/") and k.count("/") >= 1]
    parts = [
        v
        for k, v in metrics.items()
        if k.startswith("loss/") and k not in ("loss/contrastive", "loss/auxiliary")
    ]
    assert len(terms) == len(parts) + 2
    np.testing.assert_allclose(metrics["loss/auxiliary"], np.mean(parts), rtol=1e-5)
    np.testing.assert_allclose(
        metrics["loss"],
        metrics["loss/contrastive"] + TINY.loss.auxiliary * metrics["loss/auxiliary"],
        rtol=1e-5,
    )
    assert {"top1", "top5", "held_out/top1"} <= set(rows[-1]["metrics"])


def test_killed_run_goes_on_and_ends_bit_identical(finished, tmp_path):
    run = tmp_path / "killed"
    process = launch(run)
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "3.json").exists():
        assert time.monotonic() < deadline, process.communicate()
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run / "status.json").exists()
    output, _ = launch(run).communicate(timeout=300)
    assert "going on from the checkpoint of step" in output
    assert_same_run(run, finished)


def test_ctrl_c_saves_and_the_run_goes_on(finished, tmp_path, monkeypatch):
    run = tmp_path / "interrupted"

    class DuringStepTwo(Interrupts):
        """As if SIGINT came while the second step ran."""

        looks = 0

        @property
        def requested(self):
            self.looks += 1
            return "SIGINT" if self.looks >= 2 else None

        @requested.setter
        def requested(self, value):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "Interrupts", DuringStepTwo)
        with pytest.raises(Interrupted, match="after step 2 of 8, which is saved"):
            train(TINY, run)
    assert final_params(run)[0] == 2
    train(TINY, run)
    assert_same_curve(run, finished)


def assert_same_curve(run: Path, other: Path) -> None:
    """Equal to rounding, as it must be where the number of devices differs."""
    for a, b in zip(lines(run), lines(other), strict=True):
        assert (a["step"], a["kind"]) == (b["step"], b["kind"])
        if a["kind"] == "train":
            for key, value in a["metrics"].items():
                np.testing.assert_allclose(value, b["metrics"][key], rtol=2e-3, atol=1e-4)


def test_loss_curve_is_the_same_on_four_devices(finished, tmp_path):
    run = tmp_path / "sharded"
    train(dataclasses.replace(TINY, devices=4), run)
    assert_same_curve(run, finished)


def test_nan_names_step_rows_and_last_checkpoint(tmp_path, monkeypatch):
    def poisoned(config, islands):
        assert islands is None
        ready = prepare(config)

        def step(state, batch):
            number = int(state["step"])
            state, loss = ready.step(state, batch)
            return state, loss * (np.nan if number + 1 == 5 else 1.0)

        return dataclasses.replace(ready, step=step)

    monkeypatch.setattr(trainer, "prepare", poisoned)
    run = tmp_path / "nan"
    pattern = r"the loss is nan at step 5; rows of the batch: \[\d+, .*step 3 \("
    with pytest.raises(RunError, match=pattern):
        train(TINY, run)
    assert final_params(run)[0] == 3


def diverging(**changes):
    """A first update of kernels beyond float32, of a loss that is sound."""
    optimizer = dataclasses.replace(TINY.optimizer, lr=1e30, weight_decay=1e30)
    return dataclasses.replace(TINY, optimizer=optimizer, **changes)


DROPLESS = dataclasses.replace(
    TINY.model, moe=dataclasses.replace(TINY.model.moe, capacity_factor=None)
)
DIVERGING = {
    "saved": diverging(checkpoint=dataclasses.replace(TINY.checkpoint, every=1)),
    "evaluated": diverging(eval_every=1),
    "by pathways": diverging(steps=1, model=DROPLESS, execution="pathways"),
    "over islands": diverging(steps=1, islands=2),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_parameters_that_are_not_finite_are_neither_saved_nor_scored(tmp_path, case):
    run = tmp_path / "run"
    pattern = r"parameters are not all finite after step 1; rows of the batch: \[\d+, .*: none was"
    with pytest.raises(RunError, match=pattern):
        train(DIVERGING[case], run, cluster="local" if case == "over islands" else None)
    assert not list(run.glob("checkpoints/*"))
    assert not (run / "status.json").exists()
    assert all(line["kind"] == "train" for line in lines(run))


def test_parameters_that_are_not_finite_leave_the_last_good_checkpoint(tmp_path, monkeypatch):
    def poisoned(config, _):
        ready = prepare(config)

        def step(state, batch):
            number = int(state["step"])
            state, loss = ready.step(state, batch)
            if number + 1 == 6:
                state["params"] = jax.tree.map(lambda x: x * np.inf, state["params"])
            return state, loss

        return dataclasses.replace(ready, step=step)

    monkeypatch.setattr(trainer, "prepare", poisoned)
    run = tmp_path / "inf"
    with pytest.raises(RunError, match=r"after step 6; .* last good checkpoint: step 3 \("):
        train(TINY, run)
    assert final_params(run)[0] == 3


def test_a_checkpoint_has_the_score_of_its_own_step_and_follows_its_lines(tmp_path, monkeypatch):
    told = []
    sync, save = trainer.MetricsLog.sync, trainer.Checkpoints.save
    monkeypatch.setattr(trainer.MetricsLog, "sync", lambda log: (told.append("sync"), sync(log))[1])
    monkeypatch.setattr(
        trainer.Checkpoints,
        "save",
        lambda to, step, *rest: (told.append(step), save(to, step, *rest))[1],
    )
    keep = dataclasses.replace(TINY.checkpoint, keep_last=9)
    train(dataclasses.replace(TINY, eval_every=2, checkpoint=keep), tmp_path / "run")
    assert told == ["sync", 3, "sync", 6, "sync", 8]
    scores = {
        step: json.loads((tmp_path / "run" / "checkpoints" / f"{step}.json").read_text())[
            "content"
        ]["score"]
        for step in (3, 6, 8)
    }
    tops = {
        row["step"]: row["metrics"]["top1"]
        for row in lines(tmp_path / "run")
        if row["kind"] == "validation"
    }
    assert scores == {3: None, 6: tops[6], 8: tops[8]}


def test_a_log_that_cannot_be_closed_keeps_no_checkpoint_open(tmp_path, monkeypatch):
    closed = []

    end = trainer.MetricsLog.close

    def fail(log):
        end(log)
        raise RunError("no room")

    monkeypatch.setattr(trainer.MetricsLog, "close", fail)
    close = trainer.Checkpoints.close
    monkeypatch.setattr(trainer.Checkpoints, "close", lambda to: (closed.append(to), close(to)))
    with pytest.raises(RunError, match="no room"):
        train(dataclasses.replace(TINY, steps=1), tmp_path / "run")
    assert len(closed) == 1


def test_a_finished_run_is_an_error(finished):
    with pytest.raises(RunError, match="is finished"):
        train(TINY, finished)


def test_damaged_newest_checkpoint_is_passed_over(finished, tmp_path):
    run = tmp_path / "damaged"
    shutil.copytree(finished, run)
    (run / "status.json").unlink()
    biggest = max((run / "checkpoints" / "8").rglob("*"), key=lambda f: f.stat().st_size)
    data = bytearray(biggest.read_bytes())
    data[len(data) // 2] ^= 1
    biggest.write_bytes(bytes(data))
    output, _ = launch(run).communicate(timeout=300)
    assert "checkpoint passed over: step 8" in output
    assert "going on from the checkpoint of step 6" in output
    assert_same_run(run, finished)
