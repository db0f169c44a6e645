"""The page of a comparison, read back, and the marks that it draws."""

import dataclasses
import re

import pytest
from byways.experiments.cli_compare import compare
from byways.experiments.compare.comparing import compare_runs
from byways.experiments.compare.curves import Curve, effort_of
from byways.experiments.compare.drawings import curve_charts, dot_plots, mean_curve
from byways.experiments.compare.page import render

from ..report.pages import Page
from .logs import CLASSES, log_of, train_line, write_run

OTHER = dataclasses.replace(CLASSES, batch_size=20)


def scores(top1):
    return {"scores": {"top1": top1, "top5": 0.9}, "split": "test"}


@pytest.fixture
def runs(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a-{seed}", CLASSES, scores(0.5 + 0.01 * seed), seed=seed)
        lines = log_of(OTHER, score=0.6)
        write_run(tmp_path / f"b-{seed}", OTHER, scores(0.7 + 0.02 * seed), lines=lines, seed=seed)
    write_run(tmp_path / "b-2", OTHER, finished=False, lines=log_of(OTHER, upto=20), seed=2)
    return tmp_path


def test_a_mean_curve_lies_in_the_band_of_its_seeds():
    effort = effort_of([train_line(10, 1.0, 5.0), train_line(20, 1.0, 5.0)], CLASSES, False)
    slow = effort_of([train_line(10, 1.0, 10.0), train_line(20, 1.0, 10.0)], CLASSES, False)
    curves = [Curve("top1", (10, 20), (0.1, 0.2), effort), Curve("top1", (10,), (0.3,), slow)]
    found = mean_curve("a", "g0", curves, "seconds", 1.0)
    # Step 20 is left out: one of them has not come there.
    assert found.points[0] == pytest.approx((7.5, 0.2))
    assert len(found.points) == 1
    assert found.band == ((7.5, 0.1, 0.3),)
    assert mean_curve("a", "g0", curves[:1], "step", 1.0).band == ()


def test_charts_are_by_step_flops_and_time(runs):
    charts = dict(curve_charts(compare_runs([runs]).groups))
    validation = charts["Validation score"]
    assert [chart.note for chart in validation] == ["by step", "by training FLOPs", "by time"]
    assert validation[0].series[0].points == ((20.0, 0.25), (40.0, 0.5))
    assert validation[2].series[0].points[-1][0] == 8.0
    assert 'class="band g0"' in validation[0].svg
    assert "0 seconds" in validation[2].svg
    names = [series.name for series in validation[0].series]
    assert names == ["batch_size=10", "batch_size=20", "batch_size=20, seed 2, unfinished"]
    assert "Cross-entropy in training, nats" in charts


def test_intervals_that_are_too_wide_are_cut_off(runs):
    plot = dot_plots(compare_runs([runs], ["scores.top1"]))[0]
    assert [row.text for row in plot.rows] == ["50.5 ± 6.4", "71.0 ± 12.7"]
    for row in plot.rows:
        assert row.svg.count("<circle") == 2
        assert 'x1="-' not in row.svg


def test_the_axis_says_what_its_levels_are(tmp_path):
    """A level of 0.25 per cent is not called 0.2."""
    for seed, share in enumerate((0.002, 0.005, 0.009)):
        write_run(tmp_path / str(seed), CLASSES, scores(share), seed=seed)
    axis = dot_plots(compare_runs([tmp_path], ["scores.top1"]))[0].axis
    levels = re.findall(r'<text x="([\d.]+)"[^>]*>([\d.-]+)</text>', str(axis))
    (x0, v0), (x1, v1), *others = [(float(x), float(v)) for x, v in levels]
    assert others
    for x, value in others:
        assert value == pytest.approx(v0 + (x - x0) * (v1 - v0) / (x1 - x0), abs=0.01)


def test_the_page_holds_everything_and_escapes_what_it_shows(runs, tmp_path):
    hostile = runs / "b<script>alert(1)"
    write_run(hostile, OTHER, {**scores(0.7), "split": "<b>"}, seed=3)
    target = tmp_path / "page.html"
    assert compare([str(runs), "--html", str(target), "--json"]) == 0
    text = target.read_text()
    page = Page(text)
    assert page.count("script") == 0
    assert "default-src 'none'" in text
    words = " ".join(page.words)
    for part in ("To bear in mind", "not finished", "baseline", "by training FLOPs", "n=2"):
        assert part in words
    assert page.count("figure") == 4 + 6
    links = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert links <= {a.get("id") for _, a in page.elements}
    assert not any("src" in a or a.get("href", "#")[0] != "#" for _, a in page.elements)


def test_one_run_without_scores_or_log_has_a_page(tmp_path):
    run = write_run(tmp_path / "run", CLASSES, finished=False, lines=[])
    words = " ".join(Page(render(compare_runs([run]))).words)
    assert "No run has a score yet." in words
    assert "Nothing was logged yet." in words
