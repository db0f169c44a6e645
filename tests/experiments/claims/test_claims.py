"""Claims: verdicts, pairing by seed, records, the page; and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest
from byways.experiments import RunError, cli
from byways.experiments.claims.arms import ARMS
from byways.experiments.claims.claim import Claim, Question, Side
from byways.experiments.claims.judging import judge_claim, of_claim, values_of
from byways.experiments.claims.page_writer import Page, write_page
from byways.experiments.claims.pictures import draw
from byways.experiments.claims.planning import plan_of, run_name, seeds_of
from byways.experiments.claims.records import FORMAT, Record, read_record, write_record
from byways.experiments.claims.registry import CLAIMS
from byways.experiments.claims.running import keys_of, lacking, read_records, timing_of
from byways.experiments.claims.verdict import judge, overall
from byways.experiments.compare.statistics import Interval
from byways.experiments.lock import FolderLock
from byways.experiments.sweep.checks import check_plan
from byways.experiments.sweep.plan import Plan

EVERY = list(CLAIMS.values())
A, B = Side("limoe", "noto.all.top1"), Side("dense", "noto.all.top1")
MORE = Question("more", "limoe is better", A, B, margin=0.01)


def claim(*questions, **changes):
    every = {"name": "c", "title": "C", "source": "a paper", "says": "so", "setting": "thus"}
    return Claim(**(every | {"questions": questions, "arms": ("limoe", "dense")} | changes))


def record(arm, seed, value=None, **changes):
    numbers = {} if value is None else {"noto.all.top1": value}
    curve = ((10, 1e9, 0.1), (20, 2e9, 0.3))
    return dataclasses.replace(
        Record(arm, seed, "abc", "1234567890", 9.0, numbers, curve, ()), **changes
    )


@pytest.mark.parametrize(
    ("kind", "low", "high", "verdict"),
    [
        ("larger", 0.002, 0.03, "holds"),
        ("larger", 0.001, 0.009, "no difference within the margin"),
        ("larger", -0.009, 0.009, "no difference within the margin"),
        ("larger", -0.02, 0.009, "does not hold at this scale"),
        ("larger", -0.02, 0.02, "undecided"),
        ("not worse", -0.009, 0.5, "holds"),
        ("not worse", -0.02, 0.5, "undecided"),
        ("not worse", -0.5, -0.02, "does not hold at this scale"),
        ("differs", 0.002, 0.03, "holds"),
        ("differs", -0.03, -0.002, "holds"),
        ("differs", -0.009, 0.009, "no difference within the margin"),
        ("differs", -0.02, 0.02, "undecided"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(kind, low, high, verdict):
    question = dataclasses.replace(MORE, kind=kind)
    assert judge(question, Interval((low + high) / 2, low, high, 3)) == verdict


def test_one_seed_decides_nothing():
    assert judge(MORE, Interval(0.5, None, None, 1)) == "undecided"
    assert judge(MORE, None) == "undecided"


def test_a_claim_is_as_good_as_its_worst_question():
    no, none = "does not hold at this scale", "no difference within the margin"
    assert overall(["holds", "undecided", none, no]) == no
    assert overall(["holds", "undecided", none]) == none
    assert overall(["holds", "undecided"]) == "undecided"
    assert overall([]) == "undecided"


def test_differences_are_paired_by_seed():
    records = {
        "limoe": [record("limoe", seed, value) for seed, value in ((0, 0.30), (1, 0.42), (7, 0.9))],
        "dense": [record("dense", seed, value) for seed, value in ((1, 0.40), (0, 0.28))],
    }
    (answer,) = judge_claim(claim(MORE), records, {}).answers
    assert answer.seeds == (0, 1)
    assert math.isclose(answer.difference.mean, 0.02)
    assert math.isclose(answer.difference.low, 0.02, abs_tol=1e-9)  # 0.02 both times
    assert answer.verdict == "holds"


def test_seeds_that_only_a_shared_arm_has_do_not_count():
    limoe = [record("limoe", seed, 0.3) for seed in (0, 1, 2, 3, 7)]
    records = {"limoe": limoe, "dense": [record("dense", seed, 0.2) for seed in (0, 1, 3)]}
    found = of_claim(claim(MORE), records)  # planned: 0, 1, 2
    assert [r.seed for r in found["limoe"]] == [0, 1, 2, 3]
    assert [r.seed for r in found["dense"]] == [0, 1, 3]


def test_a_number_may_be_held_against_a_fixed_one():
    question = dataclasses.replace(MORE, right=0.25)
    records = {"limoe": [record("limoe", seed, 0.3) for seed in (0, 1)]}
    judged = judge_claim(claim(question), records, {})
    assert judged.verdict == "holds"
    assert judged.answers[0].right.mean == 0.25


def test_equal_seconds_are_of_measured_paces():
    """limoe's 20 steps take 40 s, dense's 20 s: after those, limoe stands at step 10."""
    records = {arm: [record(arm, 0)] for arm in ("limoe", "dense")}
    pace = {"limoe": 2.0, "dense": 1.0}
    of = lambda key: values_of(Side("limoe", key), records, pace)  # noqa: E731
    assert of("curve.seconds") == {0: 40.0}
    assert of("curve.at_seconds_of.dense") == {0: 0.1}
    assert of("curve.at_flops_of.dense") == {0: 0.3}
    assert values_of(Side("dense", "curve.at_seconds_of.limoe"), records, pace) == {0: 0.3}
    assert values_of(Side("limoe", "curve.at_seconds_of.dense"), records, {}) == {}
    half = values_of(Side("limoe", "curve.at_seconds_of.dense"), records, pace | {"limoe": 4 / 3})
    assert math.isclose(half[0], 0.2)  # step 15


def test_a_record_comes_back_as_it_was(tmp_path):
    one = record("limoe", 3, 0.25, routing=((5, 0.5),))
    write_record(tmp_path, one)
    assert read_record(tmp_path, "limoe", 3, "abc") == one
    assert read_record(tmp_path, "limoe", 3, "other") is None  # of another config
    assert read_record(tmp_path, "limoe", 4, "abc") is None
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:40])
    with pytest.raises(RunError, match=r"is no whole record .* delete it"):
        read_record(tmp_path, "limoe", 3, "abc")


def test_every_planned_config_can_be():
    for scale in ("quick", "full", "large"):
        check_plan(plan_of(EVERY, Path("runs"), scale))


def test_arms_are_trained_once_however_many_claims_read_them():
    plan = plan_of(EVERY, Path("runs"))
    wanted = {(arm, s) for c in CLAIMS.values() for arm in c.arms for s in seeds_of(c)}
    assert {run.name for run in plan.runs} == {run_name(*pair) for pair in wanted}
    assert len({plan.hash_of(run.name) for run in plan.runs}) == len(plan.runs)
    upcycled = plan.run("vmoe-upcycled-s1")
    assert (upcycled.begins_with, upcycled.upcycled) == ("vit-s1", True)
    assert set(ARMS) == {arm for arm, _ in wanted}


def test_seeds_added_afterwards_come_last():
    one = CLAIMS["entropy-losses"]
    assert seeds_of(one, added=2) == (0, 1, 2, 3, 4)
    assert seeds_of(one, "quick") == (0, 1)


def test_added_seeds_are_of_the_arms_that_are_compared(tmp_path):
    names = [run.name for run in plan_of([CLAIMS["entropy-losses"]], tmp_path, added=1).runs]
    assert [n for n in names if n.endswith("-s3")] == ["losses-classic-s3", "losses-all-s3"]
    assert "losses-none-s2" in names


def test_a_record_of_other_probes_is_made_again(tmp_path, monkeypatch):
    plain, probed = record("dense", 0, 0.1), record("limoe", 0, 0.1)
    probed = dataclasses.replace(probed, numbers={"limits.ordered": 0.5})
    for one in (plain, probed):
        write_record(tmp_path, one)
        assert read_record(tmp_path, one.arm, 0, "abc") == one
    monkeypatch.setattr("byways.experiments.claims.records.PROBED", 99)
    assert read_record(tmp_path, "dense", 0, "abc") == plain
    assert read_record(tmp_path, "limoe", 0, "abc") is None


def test_a_record_that_a_later_question_wants_more_of_is_made_again(tmp_path, monkeypatch):
    one = CLAIMS["limoe-beats-dense"]
    plan = plan_of([dataclasses.replace(one, seeds=(0,))], tmp_path)
    for name in ("limoe-s0", "dense-s0"):
        numbers = dict.fromkeys(keys_of(name[:-3]), 0.5)
        write_record(tmp_path, record(name[:-3], 0, hash=plan.hash_of(name), numbers=numbers))
    assert lacking(plan, tmp_path) == []
    more = Question("more", "more", Side("limoe", "new.number"), B, margin=0.1)
    every = {**CLAIMS, "later": claim(more)}
    monkeypatch.setattr("byways.experiments.claims.running.CLAIMS", every)
    assert [run.name for run in lacking(plan, tmp_path)] == ["limoe-s0"]
    # Asked for, and not there or not finite: it is not asked for again.
    file = tmp_path / "limoe-s0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"keys": ["new.number"]}))
    assert lacking(plan, tmp_path) == []


@pytest.mark.parametrize("name", ["limoe-s0-old", "limoe-s99999999", "strange-s5"])
def test_a_stray_file_among_records_is_no_record(name, tmp_path):
    (tmp_path / f"{name}.json").write_text("{}")
    assert read_records(EVERY, tmp_path, "full") == {}


def test_a_second_one_is_told_who_trains(tmp_path, capsys):
    runs = tmp_path / "runs"
    runs.mkdir()
    with FolderLock(runs):
        page = str(tmp_path / "claims.md")
        assert cli.main(["claims", "batch-priority", "--runs", str(runs), "--page", page]) == 1
    assert f"is being run by process {os.getpid()}" in capsys.readouterr().err


def test_only_questions_ask_for_probes():
    assert "capacity.dropless" in keys_of("vmoe")
    assert not any(key.startswith("limits.") for key in keys_of("dense"))
    assert "limits.ordered" in keys_of("limoe")


@pytest.fixture
def kept(tmp_path):
    """Records of two seeds of limoe and dense, of the configs that are planned."""
    plan = plan_of([CLAIMS["limoe-beats-dense"]], tmp_path / "runs")
    folder = tmp_path / "claims" / "records"
    for seed in (0, 1):
        for arm, value in (("limoe", 0.3), ("dense", 0.2)):
            digest = plan.hash_of(run_name(arm, seed))
            numbers = dict.fromkeys(keys_of(arm), value + 0.01 * seed)
            write_record(folder, record(arm, seed, hash=digest, numbers=numbers))
    return plan, folder


def test_the_page_has_verdicts_numbers_and_pictures(kept, tmp_path):
    _, folder = kept
    page = Page(tmp_path / "claims.md", folder, {}, "full")
    found = read_records(EVERY, folder, "full")
    write_page(page, EVERY, found)
    text = page.file.read_text()
    assert (
        "| LIMoE names more of Noto's drawings (top-1 of 837 names) | 30.5 | 20.5 | +10.0" in text
    )
    assert "2 of 5" in text
    assert "![LIMoE beats its dense twin: curves](claims/limoe-beats-dense.svg)" in text
    drawn = (tmp_path / "claims" / "limoe-beats-dense.svg").read_text()
    assert drawn.startswith("<svg xmlns=")
    assert "its dense twin" in drawn
    assert text.count("**undecided**") > 10  # what has no records


def test_the_command_reads_without_training(kept, tmp_path, capsys):
    page = tmp_path / "claims.md"
    assert cli.main(["claims", "limoe-beats-dense", "--read", "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "limoe-beats-dense" in shown
    assert page.is_file()


def test_what_is_refused(capsys):
    assert cli.main(["claims", "limoe-beat-dense"]) == 2
    assert "did you mean 'limoe-beats-dense'" in capsys.readouterr().err
    assert cli.main(["claims", "--added", "-1"]) == 2
    with pytest.raises(ValueError, match=r"more reads \['dense'\]"):
        claim(MORE, arms=("limoe",))


def test_the_list_says_what_each_needs(capsys):
    assert cli.main(["claims", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CLAIMS)
    assert "72 runs" in shown


def test_a_damaged_pace_is_told(kept, tmp_path, capsys):
    (tmp_path / "claims" / "timing.json").write_text("{")
    assert cli.main(["claims", "--read", "--page", str(tmp_path / "claims.md")]) == 1
    assert "`byways claims --time` makes it" in capsys.readouterr().err


def test_records_are_of_this_format(kept):
    _, folder = kept
    assert all(json.loads(file.read_text())["format"] == FORMAT for file in folder.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda data: 5,
        lambda data: data | {"arm": "dense"},
        lambda data: data | {"numbers": [1]},
        lambda data: data | {"numbers": {"noto.all.top1": "x"}},
        lambda data: data | {"numbers": {"noto.all.top1": math.nan}},
        lambda data: data | {"curve": [[1, 2]]},
        lambda data: data | {"seconds": None},
        lambda data: data | {"more": 1},
    ],
)
def test_a_record_of_another_shape_is_damaged(kept, change):
    plan, folder = kept
    path = folder / "limoe-s0.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RunError, match="is no whole record"):
        read_record(folder, "limoe", 0, plan.hash_of("limoe-s0"))


def test_a_page_that_cannot_be_is_told_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "claims").write_text("a file")
    for page, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "plain", "a name with an ending"),
        (tmp_path / "claims.md", "which is a file"),
        (tmp_path / "claims" / "x.md", "is a file"),
    ):
        assert cli.main(["claims", "--page", str(page), "--runs", str(tmp_path / "runs")]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["claims", "--quick", "--added", "2"]) == 2
    assert cli.main(["claims", "--added", "100000"]) == 2


def test_another_scale_does_not_write_over_records(kept, tmp_path, capsys):
    page = str(tmp_path / "claims.md")
    assert cli.main(["claims", "limoe-beats-dense", "--quick", "--page", page]) == 2
    assert "holds records of the full scale" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{}", '{"cpus": 2, "load": 1, "rounds": 9}', "\xff"])
def test_a_pace_of_another_shape_is_told(text, tmp_path):
    file = tmp_path / "timing.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match="is damaged"):
        timing_of(file, Plan("none", tmp_path, ()), EVERY, measure=False)


def test_a_small_but_sure_difference_says_so(tmp_path):
    values = {"limoe": (0.306, 0.308, 0.309, 0.320), "dense": (0.300, 0.301, 0.301, 0.311)}
    found = {
        arm: [record(arm, seed, value) for seed, value in enumerate(each)]
        for arm, each in values.items()
    }
    page = Page(tmp_path / "claims.md", tmp_path / "claims" / "records", {}, "full")
    # Differences 0.6, 0.7, 0.8 and 0.9 points: 0.75 ± 0.21, all within a margin of one point.
    write_page(page, [claim(MORE)], found)
    assert "**no difference within the margin** |" in page.file.read_text()
    # Of 0.6 and thrice 1.0 the interval reaches beyond the margin, its middle does not.
    found["limoe"][1:] = [record("limoe", s, v) for s, v in ((1, 0.311), (2, 0.311), (3, 0.321))]
    write_page(page, [claim(MORE, seeds=(0, 1, 2, 3))], found)
    assert "| **holds** | 4 of 4 |" in page.file.read_text()
    write_page(page, [claim(MORE, seeds=(0, 1, 2, 3, 4))], found)
    assert "| **holds, so far** | 4 of 5 |" in page.file.read_text()
    assert "**holds**, by less than the margin on average |" in page.file.read_text()


def test_every_claim_has_a_picture():
    assert all(claim.pictures for claim in EVERY)


def test_limits_are_drawn():
    found = CLAIMS["evaluation-limits"]
    numbers = {key: 0.2 for key, _ in found.tables}
    drawn = draw("limits", found, {"limoe": [record("limoe", 0, numbers=numbers)]}, {})
    assert drawn is not None
    assert b"C = 1, shuffled, padding routed" in drawn
