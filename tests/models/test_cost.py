"""The cost model: what a layer has to do, by hand; what is fitted; which way is chosen."""

import dataclasses
import itertools

import jax
import pytest
from byways.models import Calibration, Costs, LayerWork, calibrate
from byways.models.lowering import calibration
from byways.models.lowering.calibration import COUNTS, fit_fused, fit_pathways, row_rate
from byways.runtime import ladder

FREE = Costs(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_rungs_by_hand():
    """Eights to 64, sixteens to 256, thirty-twos to 512, sixty-fours to 1,024 and to 2,048."""
    assert ladder(100).rungs == (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 100)
    rungs = ladder(2112).rungs
    assert [b - a for a, b in itertools.pairwise(rungs) if b > 128] == (
        [16] * 8 + [32] * 8 + [64] * 8 + [64] * 16 + [64]
    )
    assert all(b <= 1.25 * a for a, b in itertools.pairwise(rungs) if a >= 32)
    assert [ladder(2112)(size) for size in (1, 8, 9, 65, 1025)] == [8, 8, 16, 80, 1088]


def test_blocks_by_hand():
    """256 pairs, 4 experts: units of 8 (256 / 64 is below), 8 of them for an even share."""
    layer = LayerWork((0, 5, 66, 185), width=2, hidden=3, pairs=256)
    # Sizes are 8, 16, 32 and 64. The largest is repeated while what is left is above the last but
    # one: 66 = 64 + 8; 185 = 64 + 64 + 64, since 57 does not fit in 32.
    assert layer.blocks == (8, 64, 8, 64, 64, 64)
    assert layer.fused_rows == 272
    assert layer.awake == 3
    assert layer.most_rows == 256 + 64
    # Buckets 8, 80 and 192, an expert each.
    assert sorted(layer.programs) == [(0, 1, 8), (0, 1, 80), (0, 1, 192)]
    assert layer.pathways_rows == 280
    assert layer.expert_bytes == 4 * (6 + 3 + 6 + 2)


def test_programs_are_those_that_the_switch_wakes():
    """Neighbours in length share a program, on each device by itself."""
    layer = LayerWork((8, 7, 0, 6, 5, 0, 8, 40), 2, 2, pairs=128, devices=2, together=2)
    # Device 0 has experts 0, 4 and 6 (8, 5, 8 rows), device 1 has 1, 3 and 7 (7, 6, 40).
    assert sorted(layer.programs) == [(0, 1, 8), (0, 2, 8), (1, 1, 40), (1, 2, 8)]


def test_nobody_has_rows():
    layer = LayerWork((0, 0), 4, 4, pairs=16)
    assert (layer.blocks, layer.programs, layer.awake) == ((), (), 0)
    fused, apart = Costs(1.0, 0.0, 0.0, 1.0, 1.0, 1.0), Costs(2.0, 1.0, 0.0, 1.0, 1.0, 1.0)
    costs = Calibration((fused, fused), (apart, apart), True, 0.0)
    assert costs.estimate(layer, False) == {"fused": 1.0, "pathways": 2.0}


def test_estimates_by_hand():
    """8 rows of one expert of 4, D=2, H=3: 12 weights."""
    layer = LayerWork((8, 0, 0, 0), 2, 3, pairs=8)
    fused = Costs(1.0, 5.0, 10.0, 100.0, 0.5, 0.25)
    apart = Costs(2.0, 3.0, 0.0, 100.0, 0.5, 0.25)
    assert apart.product(weights=12, rows=80) == 12 * (100 + 64 * 0.5 + 16 * 0.25)
    found = Calibration((FREE, fused), (FREE, apart), True, 0.0).estimate(layer, train=True)
    assert found["fused"] == 1 + 5 + 4 * 12 * 10 + 12 * (100 + 8 * 0.5)
    assert found["pathways"] == 2 + 3 + 12 * (100 + 8 * 0.5)


@pytest.mark.parametrize(("shared", "times"), [(True, 2), (False, 1)])
def test_two_devices_are_added_up_where_they_share_a_processor(shared, times):
    layer = LayerWork((8, 8), 2, 3, pairs=16, devices=2)
    apart = Costs(1.0, 3.0, 0.0, 0.0, 0.0, 0.0)
    costs = Calibration((FREE, FREE), (apart, apart), shared, 0.0)
    assert costs.estimate(layer, False)["pathways"] == 1 + 3 * times


def _layers():
    size = (calibration.WIDTH, calibration.HIDDEN, calibration.PAIRS)
    return [LayerWork(counts, *size) for counts in COUNTS]


def test_a_fit_finds_what_made_the_times():
    fused = Costs(1e-4, 1e-5, 3e-10, 5e-10, 2e-11, 1e-11)
    apart = Costs(5e-4, 2e-4, 0.0, 4e-10, 2e-11, 1e-11)
    made = Calibration((fused, fused), (apart, apart), True, 0.0)
    times = [made.estimate(layer, False) for layer in _layers()]
    ours, theirs = ([t[way] for t in times] for way in ("fused", "pathways"))
    row = row_rate(_layers(), ours, theirs)
    assert row == pytest.approx(2e-11)
    found = fit_pathways(_layers(), theirs, row)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(apart))
    found = fit_fused(_layers(), ours, found, 1e-4, 1e-5)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(fused))


@pytest.mark.parametrize(
    "times",
    [
        (1.0, 1.0, 1.0, 1.0, 1.0),
        (5.0, 4.0, 3.0, 2.0, 1.0),
        (0.0, 1.0, 9.0, 5.0, 4.0),
        (0.0, 9.0, 1.0, 2.0, 3.0),
        (1.0, 1.1, 1.2, 9.0, 2.0),
    ],
)
def test_noise_makes_no_negative_costs(times):
    row = row_rate(_layers(), times, times)
    apart = fit_pathways(_layers(), times, row)
    for found in (apart, fit_fused(_layers(), times, apart, 2.0, 0.1)):
        assert min(dataclasses.astuple(found)) >= 0


def test_a_device_is_measured_once(monkeypatch):
    calls = []

    def measure(device, train):
        calls.append(train)
        return [1.0, 2.0, 2.5, 3.0, 4.0], [2.0, 3.0, 3.5, 4.0, 5.0]

    monkeypatch.setattr(calibration, "_measure", measure)
    monkeypatch.setattr(calibration, "_outside", lambda: (0.75, 0.125))
    calibration._calibrate.cache_clear()
    found = calibrate()
    assert calibrate() is found
    assert calls == [False, True]
    assert found.shared
    # Where nobody has rows a call takes 1 s, 0.75 of it outside of the experts.
    assert found.fused[0].always == 0.75
    assert found.fused[0].every * 8 * calibration.WEIGHTS == pytest.approx(0.25)
    # The way back is taken to cost outside of the experts what the way there does, which here
    # leaves nothing of the 1 s, and three times as much for a block.
    assert (found.fused[1].always, found.fused[1].every) == (1.0, 0.0)
    assert (found.fused[0].start, found.fused[1].start) == (0.125, 0.375)
    calibration._calibrate.cache_clear()


def test_both_ways_are_measured(monkeypatch):
    for name, value in (("WIDTH", 8), ("HIDDEN", 8), ("REPEATS", 1)):
        monkeypatch.setattr(calibration, name, value)
    rest, block = calibration._outside()
    assert rest > 0
    assert block >= 0
    fused, apart = calibration._measure(jax.devices()[0], True)
    assert len(fused) == len(apart) == len(COUNTS)
    assert min(fused) > 0
    assert min(apart) > 0
