"""Groups, differences and what is told of runs that are wanting."""

import dataclasses
import json

import pytest
from byways.experiments import RunError, UsageError, preset
from byways.experiments.cli_compare import compare
from byways.experiments.compare.comparing import compare_runs
from byways.experiments.compare.tables import markdown

from .logs import CLASSES, line, log_of, write_run

EXPERTS = dataclasses.replace(
    CLASSES,
    model=dataclasses.replace(
        CLASSES.model, moe=dataclasses.replace(CLASSES.model.moe, num_experts=8)
    ),
)


def scores(top1):
    return {"scores": {"top1": top1, "top5": 0.9}, "split": "test"}


@pytest.fixture
def sweep(tmp_path):
    """Two configs of three seeds each."""
    for seed in range(3):
        base = 0.5 + 0.03 * seed
        write_run(tmp_path / f"e-4_seed-{seed}", CLASSES, scores(base), seed=seed)
        better = scores(base + 0.1 + 0.01 * (seed - 1))
        write_run(tmp_path / f"e-8_seed-{seed}", EXPERTS, better, seed=seed)
    return tmp_path


def test_groups_are_named_by_what_differs_and_pair_by_seed(sweep):
    found = compare_runs([sweep])
    four, eight = found.groups
    assert (four.seeds, eight.seeds) == ((0, 1, 2), (0, 1, 2))
    assert eight.label == "num_experts=8"
    assert dict(eight.differs) == {"model.moe.num_experts": 8}
    cell = found.cells[1]["scores.top1"]
    assert cell.interval.mean == pytest.approx(0.63)
    assert cell.difference.how == "paired"
    assert cell.difference.interval.mean == pytest.approx(0.1)
    # The seeds' own spread, of 0.03, is in neither side of the difference.
    assert cell.difference.interval.half == pytest.approx(4.30265 * 0.01 / 3**0.5, rel=1e-4)
    assert cell.difference.clear
    assert found.cells[0]["scores.top1"].difference is None
    assert found.notes == ()
    turned = compare_runs([sweep], ["scores.top1"], baseline="8")
    assert turned.cells[0]["scores.top1"].difference.interval.mean == pytest.approx(-0.1)


def test_a_sweeps_plan_gives_the_order_and_what_has_not_begun(sweep):
    names = [f"e-{e}_seed-{seed}" for seed in range(3) for e in (8, 4, 2)]
    runs = [{"name": name, "hash": name} for name in names]
    (sweep / "plan.json").write_text(json.dumps({"format": 1, "name": "e", "runs": runs}))
    found = compare_runs([sweep], ["scores.top1"])
    assert [group.label for group in found.groups] == ["num_experts=8", "num_experts=4"]
    assert "3 runs that have not begun: e-2_seed-0" in found.notes[0]
    (sweep / "failures").mkdir()
    globbed = compare_runs(sorted(sweep.iterdir()), ["scores.top1"])  # as a shell's `SWEEP/*`
    assert sum(len(group.seeds) for group in globbed.groups) == 6
    with pytest.raises(RunError, match=r"plan.json is a sweep's own, and no run; name "):
        compare_runs([sweep / "plan.json"])


def test_training_is_counted_too(sweep):
    found = compare_runs([sweep], ["train_seconds", "examples_per_second", "flops"])
    row = found.cells[0]
    assert row["train_seconds"].interval.mean == 8.0
    assert row["train_seconds"].interval.half == 0
    assert row["examples_per_second"].interval.mean == 50.0
    assert row["flops"].interval.mean > 0


def test_unrelated_seeds_are_welchs(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", CLASSES, scores(0.5 + seed / 10), seed=seed)
        write_run(tmp_path / f"b{seed}", EXPERTS, scores(0.7 + seed / 10), seed=seed + 7)
    found = compare_runs([tmp_path], ["scores.top1"])
    assert found.cells[1]["scores.top1"].difference.how == "welch"
    assert ", W" in markdown(found)


def test_one_seed_has_no_interval_and_the_page_says_so(tmp_path):
    write_run(tmp_path / "a", CLASSES, scores(0.5))
    write_run(tmp_path / "b", EXPERTS, scores(0.6))
    found = compare_runs([tmp_path], ["scores.top1"])
    cell = found.cells[1]["scores.top1"]
    assert (cell.interval.low, cell.difference.interval.low, cell.difference.p) == (None,) * 3
    assert any(note.startswith("One seed only (every group)") for note in found.notes)
    assert "+10.0 (one seed)" in markdown(found)


def test_runs_that_are_wanting_are_told(tmp_path):
    write_run(tmp_path / "good", CLASSES, scores(0.5))
    write_run(tmp_path / "young", CLASSES, finished=False, lines=log_of(upto=20), seed=1)
    write_run(tmp_path / "bare", CLASSES, seed=2)
    write_run(tmp_path / "null", CLASSES, scores(None), seed=3)
    broken = write_run(tmp_path / "broken", CLASSES, scores(0.5), seed=4)
    (broken / "results.json").write_text('{"scores": ')
    stale = write_run(tmp_path / "stale", CLASSES, {**scores(0.5), "step": 20}, seed=5)
    with (stale / "metrics.jsonl").open("a") as file:
        file.write("}{\n}{\n")
    lines = [*log_of(upto=20), line(30, "train", {"loss/cross_entropy": None}, seconds=1.0)]
    write_run(tmp_path / "nan", CLASSES, finished=False, lines=lines, seed=6)
    found = compare_runs([tmp_path], ["scores.top1"])
    cell = found.cells[0]["scores.top1"]
    assert cell.values == {0: 0.5}
    assert set(cell.missing) == {1, 2, 3, 4, 5, 6}
    told = "\n".join(found.notes)
    for words in (
        f"{tmp_path}/young is not finished (step 20 of 40)",
        f"`byways evaluate {tmp_path}/bare`",
        f"{tmp_path}/nan logged no finite value at step 30",
        f"{tmp_path}/null is left out of scores.top1: its scores.top1 is not finite",
        f"{tmp_path}/broken/results.json cannot be read",
        f"{tmp_path}/stale/results.json is of step 20, and the run has 40",
        f"{tmp_path}/stale/metrics.jsonl is damaged at line 7 of 8",
    ):
        assert words in told


def test_scores_of_other_questions_are_told(tmp_path):
    write_run(tmp_path / "a", CLASSES, scores(0.5))
    write_run(tmp_path / "b", CLASSES, {**scores(0.5), "split": "validation"}, seed=1)
    assert "different splits" in "\n".join(compare_runs([tmp_path]).notes)


def test_seeds_of_the_weights_that_runs_begin_with_make_no_groups(tmp_path):
    for seed in range(2):
        base = write_run(tmp_path / "base" / f"dense_{seed}", CLASSES, scores(0.1), seed=seed)
        begun = dataclasses.replace(EXPERTS, init=(str(base),))
        write_run(tmp_path / "fine" / f"fine_{seed}", begun, scores(0.5), seed=seed)
        grown = str(tmp_path / ".begin" / f"up_{seed}")
        begun = dataclasses.replace(EXPERTS, init=(grown,))
        write_run(tmp_path / "up" / f"up_{seed}", begun, scores(0.6), seed=seed)
        base.rename(tmp_path / "fine" / base.name)
    fine = [tmp_path / "fine" / f"fine_{seed}" for seed in range(2)]
    found = compare_runs([*fine, tmp_path / "up"])
    assert [group.seeds for group in found.groups] == [(0, 1), (0, 1)]


def test_presets_and_folders_give_names_where_keys_are_many(tmp_path):
    write_run(tmp_path / "a-0", preset("limoe_tiny"), preset="limoe_tiny")
    write_run(tmp_path / "b-0", preset("two_tower_tiny"), preset="two_tower_tiny")
    found = compare_runs([tmp_path], ["flops"])
    assert [group.label for group in found.groups] == ["limoe_tiny", "two_tower_tiny"]
    alone = compare_runs([tmp_path / "a-0"], ["flops"])
    assert alone.groups[0].label == "limoe_tiny"


def test_mistakes_are_errors(sweep, tmp_path_factory):
    run = sweep / "e-4_seed-0"
    with pytest.raises(UsageError, match="name a run's folder"):
        compare_runs([])
    with pytest.raises(RunError, match="does not exist"):
        compare_runs([sweep / "nothing"])
    with pytest.raises(RunError, match="holds no run"):
        compare_runs([tmp_path_factory.mktemp("empty")])
    with pytest.raises(UsageError, match="named twice"):
        compare_runs([run, sweep / "e-8_seed-0" / ".." / "e-4_seed-0"])
    with pytest.raises(UsageError, match=r"did you mean 'scores\.top5'"):
        compare_runs([sweep], ["scores.top2"])
    with pytest.raises(UsageError, match=r"Groups: num_experts=4; num_experts=8"):
        compare_runs([sweep], baseline="num_experts=9")
    twin = write_run(tmp_path_factory.mktemp("twin") / "run", CLASSES, scores(0.5))
    with pytest.raises(RunError, match="are the same run"):
        compare_runs([run, twin])
    other = write_run(tmp_path_factory.mktemp("other") / "run", preset("palm_tiny"))
    with pytest.raises(RunError, match="different kinds"):
        compare_runs([run, other])
    with pytest.raises(UsageError, match="no run has scores yet; `byways evaluate"):
        compare_runs([other], ["validation.bits_per_byte"])


def test_the_command_prints_and_writes(sweep, tmp_path, capsys):
    target = tmp_path / "out" / "table.md"
    arguments = [str(sweep), "--metric", "scores.top1", "flops", "--markdown", str(target)]
    assert compare(arguments) == 0
    printed = capsys.readouterr().out
    assert "num_experts=8" in printed
    assert "63.0 ± " in printed
    text = target.read_text()
    assert "| group | seeds | scores.top1 (%) | training FLOPs |" in text
    assert compare([str(sweep), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["groups"][1]["metrics"]["scores.top1"]["difference"]["how"] == "paired"
    with pytest.raises(UsageError, match="is a folder"):
        compare([str(sweep), "--html", str(tmp_path)])


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": [1]},
        {"times": None},
        {"step": "x"},
        {"step": 10**400},
        {"metrics": {"top1": 10**400}},
        {"kind": [1]},
        {"metrics": {"top1": "x"}},
        {"times": {"examples_per_second": "x"}},
    ],
)
def test_a_log_of_another_shape_is_told(change, sweep):
    path = sweep / "e-4_seed-0" / "metrics.jsonl"
    first, second, *rest = path.read_text().splitlines()
    second = json.dumps(json.loads(second) | change)
    path.write_text("\n".join([first, second, *rest]))
    assert any("is damaged at line 2" in note for note in compare_runs([sweep]).notes)


def test_a_byte_that_is_no_text_ends_a_log_and_loses_nothing_before(sweep):
    path = sweep / "e-4_seed-0" / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:3], b"\xff", *lines[3:]]))
    found = compare_runs([sweep], ["train_seconds"])
    assert any("is damaged at line 4" in note for note in found.notes)
    assert len(found.groups[0].runs[0].lines) == 3


def test_a_number_beyond_floats_is_not_finite(sweep):
    path = sweep / "e-4_seed-0" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"large": 10**400}))
    found = compare_runs([sweep], ["large"])
    assert any("not finite" in note for note in found.notes)


def test_values_that_look_alike_give_no_two_groups_one_name(tmp_path):
    for n, rate in enumerate((0.1234567, 0.1234568)):
        optimizer = dataclasses.replace(CLASSES.optimizer, lr=rate)
        config = dataclasses.replace(CLASSES, optimizer=optimizer)
        write_run(tmp_path / f"rate-{n}", config, scores(0.5), seed=0)
    one, other = compare_runs([tmp_path]).groups
    assert one.label != other.label


def test_results_of_other_peoples_are_told(sweep):
    path = sweep / "e-4_seed-0" / "results.json"
    odd = {"class_names_sha256": [1], "templates": "none"}
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    notes = compare_runs([sweep]).notes
    assert any("different class names" in note for note in notes)
    assert any("different templates" in note for note in notes)


def test_a_file_is_no_run_and_no_two_outputs_are_one(sweep, tmp_path):
    with pytest.raises(RunError, match="it is a file"):
        compare_runs([sweep / "e-4_seed-0" / "config.json"])
    with pytest.raises(UsageError, match="name two files"):
        compare([str(sweep), "--html", "x", "--markdown", "x"])
