"""From files to plans: combinations, names, and all that is refused before a run starts."""

import re
from pathlib import Path

import pytest
from byways.experiments import ConfigError, UsageError
from byways.experiments.sweep.checks import check_plan
from byways.experiments.sweep.expand import plan_of
from byways.experiments.sweep.sweep_file import find_sweep, parse_sweep, read_sweep, shipped

DOCS = Path(__file__).parents[3] / "docs" / "sweep.md"
LIMOE = {"preset": "limoe_tiny"}


def plan(data, tmp_path=Path("runs")):
    return plan_of(parse_sweep(data, "some.yaml", "some"), tmp_path)


def test_grid_runs_and_seeds_are_combined():
    found = plan(
        {
            **LIMOE,
            "base": {"model": {"depth": 6}, "optimizer.weight-decay": 0},
            "runs": [{"name": "dense", "preset": "limoe_tiny_dense"}, {"loss.z": False}],
            "grid": {"optimizer.lr": [0.01, 0.02]},
            "seeds": [0, 1],
        }
    )
    assert [run.name for run in found.runs][:4] == [
        "dense_lr-0.01_seed-0",
        "dense_lr-0.02_seed-0",
        "z-false_lr-0.01_seed-0",
        "z-false_lr-0.02_seed-0",
    ]
    assert len(found.runs) == 8
    last = found.runs[-1].config
    assert (last.model.depth, last.optimizer.weight_decay, last.loss.z) == (6, 0.0, False)
    assert (last.optimizer.lr, last.seed) == (0.02, 1)
    assert found.runs[0].config.model.moe.placement == "none"


def test_a_run_begins_with_that_of_its_own_cell():
    found = plan(
        {
            "runs": [
                {
                    "name": "grown",
                    "preset": "vmoe_tiny",
                    "begins_with": "dense",
                    "upcycled": True,
                },
                {"name": "dense", "preset": "vmoe_tiny_dense"},
            ],
            "seeds": [0, 1],
        }
    )
    assert [(run.name, run.begins_with) for run in found.runs] == [
        ("dense_seed-0", None),
        ("grown_seed-0", "dense_seed-0"),
        ("dense_seed-1", None),
        ("grown_seed-1", "dense_seed-1"),
    ]
    check_plan(found)
    assert found.config_of(found.runs[1]).init == ("runs/some/.begin/grown_seed-0",)


def test_null_lists_and_exponents(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(
        "preset: limoe_tiny\nbase:\n  model.moe.capacity_factor: null\n  loss.local: []\n"
        "  optimizer.lr: 1e-3\n"
    )
    (run,) = plan_of(read_sweep(path)).runs
    assert run.name == "limoe_tiny"
    assert run.config.model.moe.capacity_factor is None
    assert run.config.loss.local == ()
    assert run.config.optimizer.lr == 0.001


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "holds []; a mapping"),
        ({**LIMOE, "gird": {}}, "did you mean 'grid'"),
        ({**LIMOE, "model.depth": 3}, "goes below `base:`"),
        ({**LIMOE, "grid": {"model.depth": []}}, "grid 'model.depth' is []"),
        ({**LIMOE, "grid": {"model.depth": 4}}, "a list of one value or more"),
        ({**LIMOE, "seeds": 3}, "seeds is 3; a list"),
        ({**LIMOE, "seeds": [0], "grid": {"seed": [1]}}, "leave one out"),
        ({**LIMOE, "runs": []}, "runs is []"),
        ({**LIMOE, "runs": ["dense"]}, "run 1 is 'dense'"),
        ({**LIMOE, "base": {"model.moe.num_expert": 4}}, "did you mean 'model.moe.num_experts'"),
        ({**LIMOE, "base": {"optimizer": 4}}, "name one of them, as 'optimizer.name'"),
        ({**LIMOE, "grid": {"optimizer.rate": [1]}}, "unknown key 'optimizer.rate' in grid"),
        ({"preset": "limoe_tyni"}, "did you mean 'limoe_tiny'"),
        ({}, "has no preset"),
        ({**LIMOE, "name": "../up"}, "'../up': a name has letters"),
        ({**LIMOE, "runs": [{"name": "failures"}]}, "rename it"),
        ({**LIMOE, "runs": [{"name": "a"}, {"name": "a", "seed": 3}]}, "are called 'a'"),
        ({**LIMOE, "runs": [{"name": "a"}, {"name": "b"}]}, "'a' and 'b' of some are the same"),
        ({**LIMOE, "grid": {"seed": [1, 1]}}, "are called 'seed-1'"),
        ({**LIMOE, "runs": [{"seed": 1}], "seeds": [0]}, "sets seed, which the grid"),
        ({**LIMOE, "runs": [{"begins_with": "zero"}]}, "begins with 'zero', which is no run"),
        ({**LIMOE, "runs": [{"upcycled": True}]}, "says not of what"),
        (
            {
                **LIMOE,
                "runs": [{"name": "a", "begins_with": "b"}, {"name": "b", "begins_with": "a"}],
            },
            "a → b → a",
        ),
        (
            {**LIMOE, "runs": [{"name": "a"}, {"name": "b", "begins_with": "a", "init": ["x"]}]},
            "has init and begins_with",
        ),
    ],
)
def test_what_is_no_sweep_is_told(data, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        plan(data)


def test_values_of_another_type_name_their_run():
    with pytest.raises(ConfigError, match=r"run depth-x: model.depth is 'x'; expected"):
        plan({**LIMOE, "grid": {"model.depth": [4, "x"]}})


def test_configs_that_cannot_be_name_their_run():
    found = plan({**LIMOE, "grid": {"batch_size": [128, -1]}})
    with pytest.raises(ConfigError, match="run batch_size--1: batch_size is -1"):
        check_plan(found)


@pytest.mark.parametrize(
    ("base", "grown", "told"),
    [
        ("vmoe_tiny", "vmoe_tiny", "sparse already"),
        ("vmoe_tiny_dense", "vmoe_tiny_dense", "no sparse block"),
        ("limoe_tiny_dense", "vmoe_tiny", "different kinds: contrastive and classification"),
    ],
)
def test_upcycling_what_cannot_grow(base, grown, told):
    entry = {"name": "g", "preset": grown, "begins_with": "b", "upcycled": True}
    with pytest.raises(ConfigError, match=f"run g: .*{told}"):
        check_plan(plan({"runs": [{"name": "b", "preset": base}, entry]}))


@pytest.mark.parametrize("text", ["a: [1", "base: {}\nbase: {}\n"], ids=["open", "twice"])
def test_files_that_are_no_yaml(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.yaml is not YAML"):
        read_sweep(path)


def test_json_is_read_too(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"preset": "limoe_tiny", "seeds": [0, 1]}')
    assert [run.name for run in plan_of(read_sweep(path)).runs] == ["seed-0", "seed-1"]


def test_finding_sweeps(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'capacity'"):
        find_sweep("capacty")
    with pytest.raises(UsageError, match="is no file"):
        find_sweep(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("name", shipped())
def test_sweeps_that_ship_hold_together(name):
    check_plan(plan_of(read_sweep(find_sweep(name))))


def test_the_documented_file_is_one(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path / "documented.yaml"
    path.write_text(text)
    found = plan_of(read_sweep(path))
    check_plan(found)
    assert (found.name, len(found.runs)) == ("experts", 18)


def test_long_names_are_cut_and_stay_different():
    keys = ["model.width", "model.hidden", "optimizer.adam_lr", "loss.threshold_image"]
    values = {key: [1.0 + 1e-9, 1.0 + 2e-9] for key in keys}
    from byways.experiments.sweep.names import LONGEST, run_name

    text = "x" * 95
    names = {run_name(text, {key: value}, keys) for key, pair in values.items() for value in pair}
    assert len(names) == 8
    assert max(map(len, names)) <= LONGEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: &a {x: *a}", "nested without end"),
        ("grid: {loss.local: &a [*a]}", "nested without end"),
        ("base: {model: {1: 2}}", "the key 1 is no text"),
        ("base: {~: 2}", "the key None is no text"),
        ("base: {model.depth: 1, model: {depth: 2}}", "'model.depth' is given twice"),
        ("base: {batch-size: 8, batch_size: 16}", "'batch_size' is given twice"),
        ("runs: [{name: a, upcycled: 'no'}]", "upcycled is 'no'; true or false"),
        ("base: {steps: {}}", "'steps' is empty"),
        ("base: {model: {mow: {}}}", "'model.mow' is empty"),
        ("grid: {optimizer.lr: {}}", "'optimizer.lr' is empty"),
        ("base: {steps: 010}", "010 at line 2 means 8 in YAML; write 8, or '010'"),
        ("base: {steps: 1:30}", "1:30 at line 2 means 90"),
        ("name: no", "name is False; a text is expected (in quotes"),
        ("name: ''", "''"),
    ],
)
def test_odd_yaml_is_told_and_nothing_of_it_lost(text, message, tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text(f"preset: limoe_tiny\n{text}\n")
    with pytest.raises(UsageError, match=re.escape(message)):
        plan_of(read_sweep(path))


def test_odd_json_is_told(tmp_path):
    path = tmp_path / "odd.json"
    path.write_text('{"preset": "limoe_tiny", "preset": "vmoe_tiny"}')
    with pytest.raises(UsageError, match="'preset' is given twice"):
        read_sweep(path)
    path.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="nested without end"):
        read_sweep(path)


def test_a_grid_beyond_all_measure_is_refused_at_once():
    many = list(range(1000))
    with pytest.raises(UsageError, match="some would be 1,000,000 runs"):
        plan({**LIMOE, "grid": {"steps": many}, "seeds": many})
