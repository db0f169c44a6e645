"""Runs by pathways: checkpoints that either execution goes on with, evaluation, what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from byways.experiments import ConfigError, RunFolder, check, cli, from_dict, to_dict
from byways.experiments.chooser import Chooser
from byways.experiments.config_files import fingerprint
from byways.experiments.evaluation.evaluate_classes import evaluate_classifier
from byways.experiments.forward import Forward, Placed, in_flight
from byways.experiments.library import Trained, image_embedding, load, read_run, untrained_run
from byways.experiments.pathways_step import PathwaysStep
from byways.experiments.prepare import prepare
from byways.experiments.train import train
from byways.experiments.train_state import initial_params

_spec = importlib.util.spec_from_file_location(
    "pathways_cases", Path(__file__).with_name("pathways_cases.py")
)
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)
LIMOE = dataclasses.replace(cases.LIMOE, steps=4)


def executed(execution, **changes):
    return dataclasses.replace(LIMOE, execution=execution, **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each execution."""
    folder = tmp_path_factory.mktemp("runs")
    for execution in ("fused", "pathways"):
        train(executed(execution), folder / execution)
    return folder


def lines(run):
    rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "times"} for row in rows]


def assert_close(run, other):
    mine, others = lines(run), lines(other)
    assert [(a["step"], a["kind"]) for a in mine] == [(b["step"], b["kind"]) for b in others]
    for a, b in zip(mine, others, strict=True):
        assert a["metrics"].keys() == b["metrics"].keys()
        if a["kind"] == "train":
            for name, value in b["metrics"].items():
                np.testing.assert_allclose(a["metrics"][name], value, rtol=2e-3, atol=1e-4)


def back_to_step_two(run, copy):
    """The run as if it had been killed after step 3."""
    shutil.copytree(run, copy)
    (copy / "status.json").unlink()
    (copy / "checkpoints" / "4.json").unlink()
    shutil.rmtree(copy / "checkpoints" / "4")
    return copy


def test_a_run_by_pathways_has_the_metrics_of_a_fused_one(runs):
    assert_close(runs / "pathways", runs / "fused")
    found, wanted = (read_run(runs / how).params for how in ("pathways", "fused"))
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert RunFolder(runs / "pathways").read()[0].execution == "pathways"


def test_a_run_by_pathways_goes_on_bit_for_bit(runs, tmp_path):
    run = back_to_step_two(runs / "pathways", tmp_path / "killed")
    train(executed("pathways"), run)
    assert lines(run) == lines(runs / "pathways")
    found, wanted = (read_run(folder).params for folder in (run, runs / "pathways"))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("pathways", "fused"),
        pytest.param("fused", "pathways", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_under_the_other_execution(runs, tmp_path, first, then):
    run = back_to_step_two(runs / first, tmp_path / "killed")
    train(executed(then), run)
    assert_close(run, runs / "fused")


def test_embeddings_do_not_depend_on_the_execution(runs):
    images = cases.batch_of(LIMOE)["image"].repeat(9, axis=0)  # two batches of 64
    texts = ["a red apple", "a tram"]
    found = {}
    for execution in ("fused", "pathways", "auto"):
        run = load(runs / "fused", execution=execution)
        found[execution] = run.embed_images(images), run.embed_texts(texts)
    for execution in ("pathways", "auto"):
        for one, other in zip(found[execution], found["fused"], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_batches_are_sent_before_the_first_is_waited_for():
    sent, seen = [], []
    for batch, result in in_flight(lambda b: sent.append(b) or b * 10, range(5), window=3):
        seen.append((batch, int(result), len(sent)))
    assert seen == [(0, 0, 3), (1, 10, 4), (2, 20, 5), (3, 30, 5), (4, 40, 5)]


def test_auto_goes_on_with_the_faster_of_a_forward_pass(monkeypatch):
    """What it chose is asked alone from then on; a dense model has nothing to try."""
    asked = []
    forward = Forward(image_embedding, LIMOE.model, Placed({"w": np.zeros(2)}), "auto")
    monkeypatch.setattr(Forward, "_by", lambda self, how, given: asked.append(how) or np.zeros(1))
    monkeypatch.setattr(Forward, "_some_layers", lambda self, given: ())
    for _ in range(30):
        forward(np.zeros((2, 2)))
    assert asked[:7] == ["fused"] * 3 + ["pathways"] * 4
    assert len(set(asked[23:])) == 1  # close ones are timed up to eight times each
    dense = cases.with_moe(LIMOE, placement="none").model
    assert Forward(image_embedding, dense, {}, "auto")._execution == "fused"


@pytest.mark.slow
def test_auto_may_train_with_some_layers_apart(runs, tmp_path, monkeypatch):
    """The third way, where the cost model proposes one, does the same steps."""
    monkeypatch.setattr(PathwaysStep, "worth_apart", lambda self: (1,))
    made = []
    added = Chooser.add

    def add(*args, **options):
        made.append(args)
        added(*args, **options)

    monkeypatch.setattr(Chooser, "add", add)
    for execution in ("fused", "auto"):
        one = executed(execution, steps=44, log_every=11)
        two = dataclasses.replace(one, model=dataclasses.replace(one.model, depth=2))
        train(cases.with_moe(two, n=1), tmp_path / execution)
    assert made
    assert_close(tmp_path / "auto", tmp_path / "fused")


def chosen(chooser, times):
    """The executions that are asked for, given how long each takes in turn."""
    asked = []
    while not chooser.decided:
        asked.append(chooser.now)
        chooser.saw(times[chooser.now].pop(0))
    return asked


def test_the_chooser_takes_the_smaller_median():
    chooser = Chooser({"fused": 1, "pathways": 2}, timed=3)
    times = {"fused": [9.0, 2.0, 2.0, 50.0], "pathways": [9.0, 9.0, 1.0, 60.0, 3.0]}
    # Medians of (2, 2, 50) and of (1, 60, 3): 2 and 3.
    assert chosen(chooser, times) == ["fused"] * 4 + ["pathways"] * 5
    assert chooser.now == "fused"


def test_the_chooser_times_close_ones_more_often():
    chooser = Chooser({"fused": 0, "pathways": 0, "slow": 0}, timed=2)
    times = {
        "fused": [1.0, 1.0, 7.0, *[1.0] * 6],  # the third, after another's, is not counted
        "pathways": [1.1, 1.1, 7.0, *[0.9] * 6],
        "slow": [3.0, 3.0],
    }
    asked = chosen(chooser, times)
    assert asked == (
        ["fused"] * 2 + ["pathways"] * 2 + ["slow"] * 2 + ["fused"] * 7 + ["pathways"] * 7
    )
    assert len(chooser.trials["fused"].seconds) == 8
    assert chooser.now == "pathways"  # 0.9 six times of eight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity_factor": 1.25}, "set --model.moe.capacity-factor None"),
        ({"router": "soft"}, "every expert works on every input"),
        ({"router": "expert_choice", "capacity_factor": 1.0}, "none ever sleeps"),
        ({"placement": "none"}, "the model is dense"),
    ],
)
@pytest.mark.parametrize("execution", ["pathways", "auto"])
def test_what_cannot_be_trained_by_pathways_says_why(changes, message, execution):
    config = cases.with_moe(executed(execution), **changes)
    with pytest.raises(ConfigError, match=message):
        check(config)
    check(dataclasses.replace(config, execution="fused", loss=quiet(config.loss)))


def quiet(loss):
    return dataclasses.replace(loss, load=False)


def test_sparse_updates_are_of_pathways_alone():
    for execution in ("fused", "auto"):
        with pytest.raises(ConfigError, match="set --execution pathways"):
            check(executed(execution, expert_updates="sparse"))
    check(executed("pathways", expert_updates="sparse"))


def test_the_sparse_state_comes_back_from_its_canonical_form_bit_for_bit():
    config = executed("pathways", expert_updates="sparse")
    training = prepare(config)
    state = training.enter(training.start())
    for number in range(2):
        state, _ = training.step(state, training.put(cases.batch_of(config, number)))
    canonical = jax.device_get(training.canonical(state))
    (counts,) = canonical["expert_updates"].values()
    assert counts.shape == (8,)
    assert counts.min() >= 0
    assert counts.max() == 2
    found = []
    for start in (state, training.enter(jax.device_put(canonical, training.home))):
        after, _ = training.step(start, training.put(cases.batch_of(config, 2)))
        found.append(jax.device_get(training.canonical(after)))
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert "expert_updates" in fingerprint(config)


def test_old_runs_have_the_defaults_and_their_checkpoints_still_fit():
    """No such field was there before; what was saved then is what a default config saves now."""
    old = to_dict(LIMOE)
    del old["execution"], old["expert_updates"], old["islands"]
    found = from_dict(old)
    assert (found.execution, found.expert_updates, found.islands) == ("fused", "exact", None)
    assert fingerprint(found) == old


def test_the_command_says_what_cannot_be(tmp_path, capsys):
    config = cases.with_moe(LIMOE, router="soft")
    untrained_run(tmp_path / "soft", dataclasses.replace(config, loss=quiet(config.loss)))
    assert cli.main(["evaluate", str(tmp_path / "soft"), "--execution", "pathways"]) == 2
    assert "every expert works on every input" in capsys.readouterr().err
    assert cli.main(["train", "limoe_tiny", "--execution", "pathways"]) == 2
    assert "--model.moe.capacity-factor None" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "soft"), "--execution", "pathway"]) == 2
    assert "did you mean 'pathways'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"model\.moe\.router is 'soft'"):
        load(tmp_path / "soft", execution="pathways")


@pytest.mark.slow
def test_a_classifier_scores_the_same_under_every_setting(tmp_path):
    """Dropless, with other K, and with a capacity, which the pathways' experts heed too."""
    spec = importlib.util.spec_from_file_location("kinds", Path(__file__).with_name("kinds.py"))
    kinds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kinds)
    data = dataclasses.replace(cases.VMOE.data, data_dir=str(kinds.write_fashion(tmp_path)))
    config = cases.with_moe(cases.VMOE, num_experts=4, group_size=40)
    config = dataclasses.replace(config, data=data)
    params = jax.device_get(jax.jit(lambda: cases.different(initial_params(config)))())
    run = Trained(tmp_path, config, params, 0)
    found, wanted = (evaluate_classifier(run, how)[0] for how in ("pathways", "fused"))
    assert len(found["settings"]) == 5
    for one, other in zip(found["settings"], wanted["settings"], strict=True):
        assert one["top1"] == other["top1"], one
    np.testing.assert_allclose(
        [b["confidence"] for b in found["calibration"]],
        [b["confidence"] for b in wanted["calibration"]],
        rtol=1e-4,
    )
