"""The metrics log: whole lines, cut back to the checkpoint at a resume."""

import json

import pytest
from byways.experiments import MetricsLog, RunError
from byways.experiments.metrics_log import read_lines


def write(log, steps):
    for step in steps:
        log.write(step, "train", {"loss": step / 2, "lr": 1e-3}, {"seconds": 0.1})


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path):
    whole, resumed = tmp_path / "a" / "metrics.jsonl", tmp_path / "b" / "metrics.jsonl"
    with MetricsLog(whole) as log:
        write(log, range(1, 7))
    with MetricsLog(resumed) as log:
        write(log, range(1, 5))
    # Killed in the middle of a line, four steps in; the checkpoint is of step 3.
    with resumed.open("a") as file:
        file.write('{"step": 5, "ki')
    with MetricsLog(resumed, resume_step=3) as log:
        write(log, range(4, 7))
    assert resumed.read_text() == whole.read_text()


def test_starting_anew_empties_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        write(log, [1])
    MetricsLog(path).close()
    assert path.read_text() == ""


def test_a_line_is_there_at_once_and_is_strict_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(1, "validation", {"top1": 0.5, "none": float("nan")})
        assert json.loads(path.read_text()) == {
            "step": 1,
            "kind": "validation",
            "metrics": {"top1": 0.5, "none": None},
            "times": {},
        }
        assert "NaN" not in path.read_text()
    assert len(read_lines(path)) == 1


def test_tensorboard_mirrors_the_metrics(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard") as log:
        write(log, [1, 2])
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"train/loss" in events
    assert b"times/train/seconds" in events


def test_a_full_disk_says_how_to_go_on(tmp_path):
    class FullFile:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    log = MetricsLog(tmp_path / "metrics.jsonl")
    log._file.close()
    log._file = FullFile()
    with pytest.raises(RunError, match=r"at step 1 .No space left on device.; make room"):
        write(log, [1])


def test_a_line_of_another_shape_ends_the_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        write(log, [1, 2])
    whole = path.read_bytes()
    assert len(read_lines(path)) == 2
    for odd in (b"[]", b'{"step": 3}', b'{"step": "3", "kind": "train", "metrics": {}}', b"\xff"):
        path.write_bytes(whole + odd + b"\n" + whole)
        assert len(read_lines(path)) == 2
