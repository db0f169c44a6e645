"""MFU and HFU by PaLM's formulas, against the paper's own figures."""

import dataclasses

import numpy as np
import pytest
from byways.experiments.flop_meter import FlopMeter
from byways.experiments.peak_flops import measured_peak, peak_flops, table_peak
from byways.experiments.tasks import task_of
from byways.experiments.utilisation import (
    Texts,
    decoder_flops,
    pair_flops,
    rematerialised_flops,
    utilisation,
)
from byways.models import ModelConfig, MoeConfig

from .tiny import TINY

# PaLM 540B: N, L, H, Q, T; tokens a second on 6144 chips of 275 TFLOP/s.
SHAPE = (540.35e9, 118, 48, 256, 2048)
RATE, PEAK = 238.3e3, 6144 * 275e12


def test_the_papers_three_figures():
    plain, whole = decoder_flops(SHAPE[0]), decoder_flops(*SHAPE)
    again = rematerialised_flops(SHAPE[0], 0.75, *SHAPE[1:])
    assert round(100 * utilisation(RATE, plain, PEAK), 1) == 45.7
    assert round(100 * utilisation(RATE, whole, PEAK), 1) == 46.2
    assert round(100 * utilisation(RATE, whole + again, PEAK), 1) == 57.8
    assert round((whole + again) / 1e12, 2) == 4.10


MODEL = ModelConfig(
    image_size=8, patch_size=4, width=8, hidden=16, depth=2, heads=2, text_length=6, embed_dim=4
)


def test_a_dense_tower_by_hand():
    dense = dataclasses.replace(MODEL, moe=MoeConfig(placement="none"))
    needed, done = pair_flops(dense, 3, Texts(tokens=12, squares=50))
    block = 4 * 8 * 8 + 2 * 8 * 16
    embed = 3 * (4 * 48 + 2 * 4) * 8
    assert needed == 6 * ((3 * 4 + 12) * 2 * block + embed) + 12 * 2 * 8 * (3 * 16 + 50)
    assert done == 6 * (3 * 10 * 2 * block + embed) + 12 * 2 * 8 * 3 * (16 + 36)
    assert pair_flops(dense, 3, Texts(12, 50), rematerialised=True)[1] == pytest.approx(
        4 / 3 * done
    )


def test_experts_count_for_those_who_choose_them():
    full = Texts(tokens=3 * 6, squares=3 * 36)
    dense = dataclasses.replace(MODEL, moe=MoeConfig(placement="none"))

    def of(**moe):
        return pair_flops(dataclasses.replace(MODEL, moe=MoeConfig(num_experts=4, **moe)), 3, full)

    base = pair_flops(dense, 3, full)[0]
    router = 6 * 30 * 8 * 4
    assert of(capacity_factor=1.0) == (base + router, base + router)
    needed, done = of(capacity_factor=1.5)
    assert needed == base + router
    assert done - needed == 6 * 30 * 0.5 * 2 * 8 * 16  # empty slots
    assert of(capacity_factor=None)[1] == base + router
    one, two = of(capacity_factor=1.0)[0], of(capacity_factor=1.0, selected=2)[0]
    assert two - one == 6 * 30 * 2 * 8 * 16


def test_the_meter_counts_between_readings():
    meter = FlopMeter(task_of(TINY).flops, peak=1e9)
    batch = {"text_mask": np.ones((16, TINY.model.text_length), bool)}
    meter.add(batch)
    first = meter.read(2.0)
    meter.add(batch)
    meter.add(batch)
    second = meter.read(2.0)
    assert 0 < first["mfu"] <= first["hfu"]
    assert second["mfu"] == pytest.approx(2 * first["mfu"])
    assert meter.read(1.0)["mfu"] == 0


def test_peaks():
    assert measured_peak(size=64, seconds=0.01) > 1e6
    assert (peak_flops() or 0) > 1e8  # of the CPU, measured
    assert table_peak("NVIDIA H100 PCIe") == 756e12
    assert table_peak("Unheard Of") is None
    with pytest.raises(ValueError, match="peak=0"):
        utilisation(1.0, 1.0, 0.0)
