"""The metrics log: whole lines, cut back to the checkpoint at a resume."""

import json
import os
import resource
import signal

import pytest
from byways.experiments import MetricsLog, RunError
from byways.experiments.metrics_log import read_lines
from tensorboardX.proto.event_pb2 import Event


@pytest.fixture
def full_disk():
    """A function that lets no file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


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


@pytest.mark.parametrize("resume_step", [0, 2])
def test_only_steps_before_a_start_stay_in_tensorboard(tmp_path, resume_step):
    folder = tmp_path / "tensorboard"
    with MetricsLog(tmp_path / "metrics.jsonl", tensorboard=folder) as log:
        write(log, [1, 2, 3])
    (folder / "notes.txt").write_text("not ours")
    with MetricsLog(tmp_path / "metrics.jsonl", resume_step, folder) as log:
        write(log, range(resume_step + 1, 6))
    kept = events_of(folder)
    assert [event.step for event in kept if event.HasField("summary")] == (
        [1, 2, 3, 3, 4, 5] if resume_step else [1, 2, 3, 4, 5]
    )
    # TensorBoard hides from this step on what came before the event.
    hidden = [event.step for event in kept if event.HasField("session_log")]
    assert hidden == ([3] if resume_step else [])
    assert (folder / "notes.txt").exists()


def events_of(folder):
    """Of all event files of a folder, in their order."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            # A length of 8 bytes, its checksum of 4, the event, and its checksum.
            length = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_a_full_disk_says_how_to_go_on_and_then_closes(tmp_path, full_disk):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    write(log, [1])
    full_disk(150)
    with pytest.raises(RunError, match=r"at step 2 .File too large.; make room"):
        write(log, [2])
    log.close()
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1]


def test_a_full_disk_is_told_when_a_log_is_opened_again(tmp_path, full_disk):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        write(log, [1, 2])
    full_disk(10)
    with pytest.raises(RunError, match=r"cannot be written for the steps from 3 .File too large"):
        MetricsLog(path, resume_step=2)
    assert len(read_lines(path)) == 2


def test_a_first_failure_at_the_end_is_told(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    os.close(log._file.fileno())
    with pytest.raises(RunError, match=r"cannot be written to its end .Bad file descriptor"):
        log.close()


def test_lines_are_brought_onto_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        write(log, [1])
        log.sync()
    assert synced == [(tmp_path / "metrics.jsonl").stat().st_size]

    def refuse(_):
        raise OSError(5, "Input/output error")

    log = MetricsLog(tmp_path / "metrics.jsonl", 1)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match="Input/output error"):
        log.sync()
    log.close()


def test_training_goes_on_without_a_tensorboard_that_cannot_be_written(tmp_path, full_disk):
    log = MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard")
    full_disk(20_000)
    many = {f"{number}": 1.0 for number in range(100)}

    def lines():
        # Events are twice as large.
        for step in range(1, 13):
            log.write(step, "validation", many)

    with pytest.warns(UserWarning, match=r"tensorboard cannot be written .File too large"):
        lines()
    log.close()
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 12


def test_a_tensorboard_that_cannot_be_opened_is_done_without(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.warns(UserWarning, match=r"tensorboard cannot be written .File exists"):
        log = MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard")
    write(log, [1])
    log.close()
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 1


def test_a_line_of_another_shape_ends_the_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        write(log, [1, 2])
    whole = path.read_bytes()
    assert len(read_lines(path)) == 2
    for odd in (b"[]", b'{"step": 3}', b'{"step": "3", "kind": "train", "metrics": {}}', b"\xff"):
        path.write_bytes(whole + odd + b"\n" + whole)
        assert len(read_lines(path)) == 2
