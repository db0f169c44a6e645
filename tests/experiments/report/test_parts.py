"""The parts of the report, on numbers that can be checked by hand."""

import io
from base64 import b64decode

import numpy as np
import pytest
from byways.experiments import ExperimentConfig
from byways.experiments.report.charts import Chart, Series, thin
from byways.experiments.report.experts import top_pieces
from byways.experiments.report.loads import layer_loads
from byways.experiments.report.pictures import patch
from byways.experiments.report.records import read_records
from byways.experiments.report.tokens import Pairs
from PIL import Image

from ..compare.logs import write_run


def test_a_chart_says_its_numbers_and_escapes_its_names():
    line = Series("a <b>", "one", ((10.0, 4.0), (20.0, 1.0)))
    chart = Chart("Loss", "", (line,), reference=("even", 2.0))
    assert chart.summary == "Loss: a <b> goes from 4 to 1, at step 20."
    assert "a &lt;b&gt; 4" in chart.svg
    assert "<b>" not in chart.svg
    assert chart.svg.count("<title>") == 2


def test_a_flat_line_at_one_step_can_be_drawn():
    for value in (0.0, 1.0, -3.0):
        svg = Chart("x", "", (Series("x", "one", ((0.0, value),)),), percent=True).svg
        assert "nan" not in svg
        assert "inf" not in svg


def test_thinning_averages_neighbours_and_keeps_the_last_step():
    points = [(float(i), float(i)) for i in range(1, 11)]
    assert thin(points, 10) == points
    assert thin(points, 5) == [(2, 1.5), (4, 3.5), (6, 5.5), (8, 7.5), (10, 9.5)]


def test_like_for_like_shares_weigh_the_modalities_alike():
    # 100 tokens: 80 of images, 20 of text. Expert 0 gets 40 + 10, expert 1 gets 40 + 10: of
    # either modality a half, so like for like it is a half, though raw it is 0.8.
    entry = {
        "load": [0.5, 0.5, 0.0],
        "dead_experts": [2],
        "max_load": 1.5,
        "success_random": 0.9,
        "modalities": {
            "image": {"success": 1.0, "share": [0.8, 0.8, 0.0]},
            "text": {"success": 0.5, "share": [0.2, 0.2, 0.0]},
        },
    }
    (layer,) = layer_loads({"routing": {"layers": {"encoderblock_1": entry}}}, ExperimentConfig())
    assert layer.title == "Layer 2 of 4"
    assert [e.number for e in layer.experts] == [0, 1, 2]
    assert layer.experts[0].raw == (0.8, 0.2)
    assert layer.experts[0].fair == pytest.approx((0.5, 0.5))
    assert [e.kind for e in layer.experts] == ["both", "both", "idle"]
    assert layer.dead == (2,)


def test_a_patch_lies_where_it_is_in_its_surroundings():
    # 8 x 8 patches of 2 px; the surroundings are 4 x 4 patches. Patch (6, 1): the window
    # ends at the lower edge (rows 4..7) and begins at the left one (columns 0..3).
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[12:14, 2:4] = 255
    found = patch(pixels, 6 * 8 + 1, 2, "a thing")
    assert (found.left, found.top, found.size) == (25.0, 50.0, 25.0)
    with Image.open(io.BytesIO(b64decode(found.source.partition(",")[2]))) as image:
        shown = np.asarray(image)
    assert shown.shape == (8, 8, 3)
    assert shown[4:6, 2:4].min() == 255
    assert shown.sum() == 4 * 3 * 255


def test_pieces_are_ranked_by_count_times_specificity():
    # Piece 5 goes to expert 0 twice of 2 (2·1), piece 6 three times of 9 (3·1/3), piece 7 never.
    ids = np.array([[5, 5, 7] + [6] * 9])
    expert = np.array([0, 0, 1] + [0] * 3 + [1] * 6)
    places = np.arange(12)
    pairs = Pairs(np.zeros(12, np.int64), places, expert, np.ones(12, np.float32))
    names = {5: "▁cat", 6: "s", 7: "▁"}
    found = top_pieces(pairs, 0, ids, lambda rows: [names[int(i)] for i in rows])
    assert [(p.text, p.count, p.total) for p in found] == [("cat", 2, 2), ("…s", 3, 9)]


def test_a_damaged_log_is_told_on_the_page(tmp_path):
    write_run(tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    first, *rest = log.read_text().splitlines()
    log.write_text("\n".join([first, '{"step": 2}', *rest]))
    found = read_records(tmp_path / "run")
    assert len(found.lines) == 1
    assert any("metrics.jsonl is damaged at line 2" in note for note in found.notes)
