"""Preferences, confusions and reliability, on numbers that can be checked by hand."""

import dataclasses

import numpy as np
import pytest
from byways.experiments.report.confusions import Families, confused_families, most_confused
from byways.experiments.report.preferences import kind_of_thing, preferences
from byways.experiments.report.reliability import of_bins, zero_shot_reliability
from byways.experiments.report.tokens import Pairs


def test_a_preference_is_drawn_towards_none_where_little_was_seen():
    # 100 tokens of fruit and 100 of tools, of which expert 0 gets 75 and 25: half of all.
    rows = np.repeat([0, 1], 100)
    expert = np.array([0] * 75 + [1] * 25 + [0] * 25 + [1] * 75)
    pairs = Pairs(rows, np.zeros(200, np.int64), expert, np.ones(200, np.float32))
    found = preferences(pairs, ["fruit", "tool"], 3)
    # (75 + 50 / 2) / (100 + 50) over 1/2; without the prior it would be 1.5.
    assert [(p.name, p.lift) for p in found[0]] == [("fruit", pytest.approx(4 / 3))]
    assert [(p.name, p.lift) for p in found[1]] == [("tool", pytest.approx(4 / 3))]
    assert found[2] == ()
    assert preferences(pairs, ["", ""], 3) == [(), (), ()]
    assert kind_of_thing("food-drink", "food-fruit") == "food fruit"
    assert kind_of_thing("objects", "") == "objects"


def test_both_directions_of_a_confusion_are_one_pair():
    picture = np.zeros((2, 2, 3), np.uint8)
    mistakes = [(0, 1, 0.5), (1, 0, 0.5), (1, 0, 0.5), (2, 3, 0.9), (3, 2, 0.1), (4, 0, 0.8)]
    found = most_confused(mistakes, "abcde", lambda name: picture if name != 2 else None)
    assert [(p.names, p.there, p.back) for p in found] == [
        (("b", "a"), 2, 1),
        (("c", "d"), 1, 1),
        (("e", "a"), 1, 0),
    ]
    assert found[1].pictures[0] == ""
    assert found[1].pictures[1].startswith("data:")
    assert most_confused([], "ab", lambda name: None) == ()


@dataclasses.dataclass(frozen=True)
class Thing:
    group: str


class Drawings:
    """What the families need of a data set: three animals and a tool, a drawing each."""

    concepts = (Thing("animal"), Thing("animal"), Thing("animal"), Thing("tool"))
    concept = np.arange(4)

    def __len__(self):
        return 4


def test_families_tell_how_far_mistakes_go():
    entry = {
        "id": [0, 1, 2, 3],
        "concept": [0, 1, 2, 3],
        "target": [0, 1, 2, 3],
        "rank": [0, 1, 1, 2],
        "top": [[0], [2], [3], [0]],
    }
    found = confused_families({"artists": {"noto": entry}}, Drawings(), "noto")
    assert isinstance(found, Families)
    assert found.names == ("animal", "tool")
    assert found.counts == (3, 1)
    assert found.rows[0] == (pytest.approx(1 / 3), (pytest.approx(1 / 3), pytest.approx(1 / 3)))
    assert found.rows[1] == (0.0, (1.0, 0.0))
    # One of three mistakes stays at home; by lot 2/3, 2/3 and 0 would.
    assert found.at_home == pytest.approx(1 / 3)
    assert found.by_chance == pytest.approx(4 / 9)
    other = {"artists": {"noto": entry | {"concept": [1, 1, 2, 3]}}}
    assert confused_families(other, Drawings(), "noto") is None
    assert confused_families({"artists": {}}, Drawings(), "noto") is None


def test_a_reliability_diagram_says_what_it_shows():
    bins = [
        {"from": 0.0, "to": 0.5, "count": 3, "confidence": 0.4, "accuracy": 1 / 3},
        {"from": 0.5, "to": 1.0, "count": 1, "confidence": 0.8, "accuracy": 1.0},
    ]
    chart = of_bins("Known <things>", bins, 0.1)
    assert (chart.count, chart.confidence, chart.accuracy) == (4, pytest.approx(0.5), 0.5)
    assert chart.verdict.startswith("It claims about as much as it keeps")
    assert chart.svg.count("<circle") == 2
    assert "Known &lt;things&gt;" in chart.svg
    assert "nan" not in chart.svg
    assert of_bins("x", bins[:1], 0.1).verdict.startswith("It boasts: on average it is 40.0 % sure")
    assert of_bins("x", bins[1:], 0.1).verdict.startswith("It is too modest")


def test_results_that_were_not_measured_have_no_diagram():
    assert zero_shot_reliability({}, {"all": "All"}) == ()
    assert zero_shot_reliability({"calibration": {"noto": {}}}, {"all": "All"}) == ()
