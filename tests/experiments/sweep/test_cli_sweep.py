"""The command: exit codes, what it prints, what it leaves alone."""

import io

import pytest
from byways.experiments import cli_sweep
from byways.experiments.cli import main
from byways.experiments.sweep import estimate
from byways.experiments.sweep.estimate import Cost, finish
from byways.experiments.sweep.eta import seconds_left
from byways.experiments.sweep.status import RunStatus
from byways.experiments.sweep.table import SweepTable
from rich.console import Console

from .plans import FakeExecutor, plan_in, planned


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs `byways sweep` of three seeds with more words, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeds.yaml").write_text("preset: limoe_tiny\nseeds: [0, 1, 2]\n")
    executor = FakeExecutor()
    monkeypatch.setattr(cli_sweep, "LocalPool", lambda places: executor)

    def run(*words, codes=None):
        executor.codes = codes or {}
        executor.started.clear()
        return main(["sweep", "seeds.yaml", *words]), executor.started

    return run


def test_runs_then_nothing_is_left(sweep, capsys):
    assert sweep() == (0, ["seed-0", "seed-1", "seed-2"])
    said = capsys.readouterr()
    assert "next: byways compare runs/sweeps/seeds" in said.out
    assert "seed-1: done" in said.err
    assert sweep() == (0, [])


def test_failures_are_told_and_kept(sweep, capsys):
    code, _ = sweep(codes={"seed-1": 1})
    assert code == 1
    said = capsys.readouterr().out
    assert "1 of 3 runs are not done" in said
    assert "ValueError: no luck" in said
    assert "--retry-failed" in said
    assert sweep() == (1, [])
    assert sweep("--retry-failed") == (0, ["seed-1"])


def test_commands_name_what_is_left(sweep, tmp_path, capsys):
    sweep("--only", "seed-1")
    capsys.readouterr()
    assert sweep("--commands", "--no-evaluate") == (0, [])
    assert capsys.readouterr().out.splitlines() == [
        f"byways sweep seeds.yaml --only seed-{n} --no-evaluate" for n in (0, 2)
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a sweep's file, or one that ships: capacity"),
        (["capacty"], "did you mean 'capacity'"),
        (["capacity", "--worker", "2"], "did you mean '--workers'"),
        (["capacity", "--only", "seed"], "unknown run of capacity 'seed'"),
        (["capacity", "--workers", "4000"], "--workers 4000 with 1 cores each"),
    ],
)
def test_mistakes_cost_nothing(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_writes_nothing(sweep, tmp_path, capsys, monkeypatch):
    asked = []

    def measured(configs, place, steps):
        asked.append((len(configs), steps))
        return [{"flops": 2e9, "first": 10.0, "step": 0.5}] * len(configs)

    monkeypatch.setattr(estimate, "_measured", measured)
    assert sweep("--dry-run", "--workers", "1") == (0, [])
    said = capsys.readouterr().out
    # 300 steps of 2 GFLOP; 10 s and 299 halves of a second for each of three seeds, one by one.
    steps = cli_sweep.plan_of(cli_sweep.read_sweep(tmp_path / "seeds.yaml")).runs[0].config.steps
    assert f"{2e9 * steps:.2g}" in said
    assert asked == [(1, estimate.STEPS)]
    assert [path.name for path in tmp_path.iterdir()] == ["seeds.yaml"]


@pytest.mark.slow
def test_steps_are_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.yaml").write_text(
        "preset: limoe_tiny\nbase: {model.depth: 2, model.width: 32, batch_size: 64}\n"
    )
    assert main(["sweep", "some.yaml", "--dry-run"]) == 0
    assert "of training with" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["some.yaml"]


def test_the_end_is_reckoned_with_workers_and_bases(tmp_path):
    plan = plan_in(tmp_path, planned("a"), planned("b", 1, "a"), planned("c", 2), planned("d", 3))
    costs = [Cost(run.name, "waiting", 1, 1, 1.0, 60.0) for run in plan.runs]
    # a and c side by side, then b and d.
    assert finish(plan, costs, 2) == 120.0
    assert finish(plan, costs, 1) == 240.0
    assert finish(plan, [Cost("a", "waiting", 1, 1)], 1) is None


def rows():
    return [
        RunStatus("s0", "done", 40, 40, 1.0, 64.0, None, ("noto.all.top1", 0.25)),
        RunStatus("s1", "running", 20, 40, 2.0, 128.0, 40.0),
        RunStatus("s2", "waiting", 0, 40),
    ]


def test_time_left_takes_what_was_seen(tmp_path):
    plan = plan_in(tmp_path)
    # s1: 20 steps of 256 at 128 a second; s2: 40 at the mean of 64 and 128.
    expected = 20 * 256 / 128 + 40 * 256 / 96
    assert seconds_left(plan, rows(), 1) == pytest.approx(expected)
    assert seconds_left(plan, rows(), 2) == pytest.approx(40 * 256 / 96)
    assert seconds_left(plan, rows()[2:], 2) is None


def test_a_terminal_gets_a_table_that_fits(tmp_path):
    plan = plan_in(tmp_path, *(planned(f"s{n}", n) for n in range(40)))
    many = [RunStatus(f"s{n}", "done", 40, 40) for n in range(39)]
    many.append(RunStatus("s39", "running", 20, 40, 2.0, 128.0, 40.0))
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20)
    with SweepTable(plan, 2, console) as table:
        table.update(many)
    said = console.file.getvalue()
    assert "running" in said
    assert "0:40" in said
    assert "39 done, 1 running" in said
    assert "rows not shown" in said
    # Up to the table's foot; then the caption.
    assert len(said.split("└")[0].splitlines()) <= 18
