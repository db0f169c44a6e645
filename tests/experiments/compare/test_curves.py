"""Curves by step, FLOPs and seconds, of runs that were stopped, resumed and validated."""

import pytest
from byways.experiments import preset
from byways.experiments.compare.curves import (
    curve_of,
    effort_of,
    read_curves,
    step_flops,
    training_key,
    validation_key,
)

from .logs import CLASSES, line, train_line, write_run


def test_seconds_add_up_without_validation():
    lines = [
        train_line(10, 2.0, 8.0),
        line(10, "validation", {"top1": 0.1}, seconds=100.0),
        train_line(20, 1.0, 2.0),
        line(20, "validation", {"top1": 0.4}, seconds=100.0),
    ]
    effort = effort_of(lines, CLASSES)
    assert effort.steps == (0, 10, 20)
    assert effort.seconds == (0.0, 8.0, 10.0)
    each = step_flops(CLASSES)[0]
    assert effort.flops == pytest.approx((0.0, 10 * each, 20 * each))
    curve = curve_of(lines, effort, "top1")
    assert curve.points("seconds") == ((8.0, 0.1), (10.0, 0.4))
    assert curve.points() == ((10.0, 0.1), (20.0, 0.4))


def test_steps_that_an_interrupt_left_unlogged_are_counted():
    # Stopped and saved after step 14; the next line has timed steps 15 to 20 only.
    lines = [train_line(10, 2.0, 10.0), train_line(20, 1.0, 12.0, timed=6)]
    lines.append(train_line(30, 1.0, 10.0))
    # At the median pace, and not at that of steps that compiled again.
    assert effort_of(lines, CLASSES).seconds == pytest.approx((0.0, 10.0, 26.0, 36.0))


def test_flops_count_real_tokens_by_the_share_that_was_logged():
    lines = [train_line(10, 2.0, 1.0, mfu=0.1, hfu=0.4), train_line(20, 2.0, 1.0)]
    needed, done = step_flops(CLASSES)
    found = effort_of(lines, CLASSES).flops
    assert found == pytest.approx((0.0, 10 * done / 4, 10 * done / 4 + 10 * needed))
    assert effort_of(lines, CLASSES, count_flops=False).flops == (0.0, 0.0, 0.0)


def test_between_and_after_lines_the_rate_is_even():
    effort = effort_of([train_line(10, 2.0, 10.0), train_line(20, 1.0, 5.0)], CLASSES)
    assert [effort.at(step, "seconds") for step in (5, 15, 22)] == pytest.approx([5, 12.5, 16])
    assert effort_of([], CLASSES).at(7, "seconds") == 0


def test_what_is_not_finite_is_told():
    lines = [train_line(10, 2.0, 1.0), line(20, "train", {"loss/cross_entropy": None})]
    curve = curve_of(lines, effort_of(lines, CLASSES), "loss/cross_entropy", "train")
    assert (curve.steps, curve.values, curve.lost) == ((10,), (2.0,), (20,))


@pytest.mark.parametrize("name", ["limoe_tiny", "two_tower_tiny", "vmoe_tiny", "palm_tiny_moe"])
def test_every_kind_has_keys_and_flops(name):
    config = preset(name)
    needed, done = step_flops(config)
    assert min(needed, done) > 0
    assert validation_key(config) == ("entropy" if "palm" in name else "top1")
    assert training_key(config).startswith("loss/")


def test_a_folder_is_read(tmp_path):
    run = write_run(tmp_path / "run")
    validation, training = read_curves(run)
    assert validation.steps == (20, 40)
    assert training.points("seconds")[-1][0] == 8.0
    (run / "metrics.jsonl").unlink()
    assert read_curves(run)[0].values == ()
