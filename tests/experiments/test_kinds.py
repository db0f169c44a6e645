"""Every kind of experiment: its objective in chunks, a run, weights to begin with."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments import ConfigError, RunError, RunFolder, UsageError, check
from byways.experiments.config import KINDS, kind_of
from byways.experiments.config_files import from_dict, to_dict
from byways.experiments.initial_weights import begin_with, put_in
from byways.experiments.library import load, read_run
from byways.experiments.model_from import with_model_of
from byways.experiments.tasks import task_of
from byways.experiments.train import train
from byways.experiments.train_state import initial_params
from byways.models import WeightsError, resize_positions, save_model
from flax.traverse_util import flatten_dict

_spec = importlib.util.spec_from_file_location("kinds", Path(__file__).with_name("kinds.py"))
kinds = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kinds)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    fashion = kinds.write_fashion(tmp_path_factory.mktemp("fashion"))
    found = (kinds.TOWERS, kinds.classification(fashion), kinds.LANGUAGE)
    return {kind_of(config): config for config in found}


def fresh(config):
    return jax.device_get(jax.jit(lambda: initial_params(config))())


def random_batch(config):
    rng = np.random.default_rng(1)
    high = {"label": 10, "tokens": 256, "image": 256, "text": 2048}
    found = {}
    for name, like in task_of(config).blank(config.batch_size).items():
        if like.dtype == bool:
            found[name] = np.arange(like.shape[1]) < rng.integers(1, 12, (len(like), 1))
        elif name == "segments":
            found[name] = np.repeat([[1, 2, 0]], 8, axis=1).repeat(len(like), axis=0)
        else:
            found[name] = rng.integers(0, high[name], like.shape)
        found[name] = jnp.asarray(found[name], like.dtype)
    return found


@pytest.mark.parametrize(
    "kind", ["classification", pytest.param("language", marks=pytest.mark.slow)]
)
def test_chunks_change_neither_loss_nor_statistics_nor_gradient(experiments, kind):
    # (tests/experiments/test_contrastive.py has the contrastive ones.)
    batch, params, found = random_batch(experiments[kind]), fresh(experiments[kind]), []
    for chunks in (1, 2):
        loss = dataclasses.replace(experiments[kind].loss, chunks=chunks)
        config = dataclasses.replace(experiments[kind], loss=loss)
        task = task_of(config)
        gradient = jax.value_and_grad(task.objective, has_aux=True)
        (value, (_, sums)), grads = jax.jit(gradient)(params, batch, jax.random.key(2))
        found.append((value, sums, grads))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)


@pytest.fixture(scope="module")
def runs(experiments, tmp_path_factory):
    """A finished run of each kind."""
    folders = {}
    for kind, config in experiments.items():
        folders[kind] = tmp_path_factory.mktemp(kind) / "run"
        train(config, folders[kind], "preset")
    return folders


@pytest.mark.parametrize("kind", ["two_tower", "classification", "language"])
def test_a_run_keeps_its_kind_its_metrics_and_its_parameters(experiments, runs, kind):
    config, _ = RunFolder(runs[kind]).read()
    assert config == experiments[kind]
    lines = [json.loads(x) for x in (runs[kind] / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in trained] == [2, 3]
    assert np.isfinite(trained[-1]["metrics"]["loss"])
    assert 0 < trained[-1]["times"]["mfu"] <= trained[-1]["times"]["hfu"]
    assert any("/success/" in name for name in trained[-1]["metrics"])
    validation = lines[-1]
    assert validation["kind"] == "validation"
    assert validation["metrics"].keys() & {"top1", "entropy"}
    trained = read_run(runs[kind])
    assert trained.step == 3
    moved = jax.tree.map(
        lambda new, old: bool(np.any(new != np.asarray(old))),
        trained.params,
        fresh(config),
    )
    assert sum(jax.tree.leaves(moved)) > len(jax.tree.leaves(moved)) // 2


def test_only_pairs_embed(runs):
    with pytest.raises(RunError, match="a run of language"):
        load(runs["language"])
    texts = load(runs["two_tower"]).embed_texts(["a red apple"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)


def test_fine_tuning_at_another_resolution_with_other_classes(experiments, runs):
    config = experiments["classification"]
    model = dataclasses.replace(config.model, image_size=42, num_classes=7)
    wider = dataclasses.replace(config, model=model, init=(str(runs["classification"]),))
    new, lines = begin_with(wider, fresh(wider))
    assert "1 of them resized; new: head/bias, head/kernel; 2 left out" in lines[0]
    old = read_run(runs["classification"]).params
    table = old["Encoder"]["posembed_input"]["pos_embedding"]
    wanted = resize_positions(table, (2, 2), (3, 3), class_row=True)
    np.testing.assert_array_equal(new["Encoder"]["posembed_input"]["pos_embedding"], wanted)
    np.testing.assert_array_equal(new["embedding"]["kernel"], old["embedding"]["kernel"])


def test_a_locked_tower_stays_bit_for_bit(experiments, runs, tmp_path):
    config = dataclasses.replace(
        experiments["two_tower"],
        init=(f"image={runs['two_tower']}",),
        freeze=("image",),
        seed=7,
        steps=2,
    )
    train(config, tmp_path / "run")
    old, new = read_run(runs["two_tower"]).params, read_run(tmp_path / "run").params
    jax.tree.map(np.testing.assert_array_equal, new["image"], old["image"])
    start = fresh(config)["text"]
    assert not np.array_equal(new["text"]["embedding"], start["embedding"])
    with pytest.raises(ConfigError, match="freeze names 'pixels'"):
        train(dataclasses.replace(config, freeze=("pixels",)), tmp_path / "other")
    everything = dataclasses.replace(config, freeze=("image", "text", "log_scale"))
    with pytest.raises(ConfigError, match="nothing to train"):
        train(everything, tmp_path / "another")


def test_a_preset_takes_its_model_from_a_folder(experiments, runs, tmp_path):
    for kind, folder in runs.items():
        assert with_model_of(KINDS[kind](), str(folder)).model == experiments[kind].model
    small = dataclasses.replace(experiments["two_tower"].model.text, text_length=5)
    model = dataclasses.replace(experiments["two_tower"].model, text=small)
    towers = dataclasses.replace(experiments["two_tower"], model=model)
    save_model(tmp_path / "model", "two_tower", model, fresh(towers))
    found = with_model_of(experiments["two_tower"], str(tmp_path / "model"))
    assert found.model == model
    assert check(found).data.text_length == 5
    with pytest.raises(UsageError, match="a VmoeConfig is there"):
        with_model_of(experiments["language"], str(runs["classification"]))


def test_weights_are_put_in_by_name_or_refused(experiments, tmp_path):
    config = experiments["classification"]
    params = fresh(config)
    save_model(tmp_path / "model", "vmoe", config.model, params)
    other = dataclasses.replace(config.model, num_classes=3)
    theirs = fresh(dataclasses.replace(config, model=other, seed=3))
    found, line = put_in(params, theirs, "", "there")
    assert "new: head/bias, head/kernel" in line
    np.testing.assert_array_equal(found["cls"], theirs["cls"])
    np.testing.assert_array_equal(found["head"]["bias"], params["head"]["bias"])
    assert flatten_dict(found).keys() == flatten_dict(params).keys()
    with pytest.raises(WeightsError, match="nothing fits"):
        put_in(params, {"elsewhere": np.zeros(2)}, "", "there")
    with pytest.raises(WeightsError, match=r"\(5,\), and the model wants \(8,\)"):
        put_in(params, {"embedding": {"bias": np.zeros(5)}}, "", "there")
    with pytest.raises(WeightsError, match="no place 'video'"):
        put_in(params, theirs, "video", "there")


@pytest.mark.parametrize("kind", KINDS)
def test_configs_of_every_kind_come_back_from_json(kind):
    config = KINDS[kind]()
    assert from_dict(json.loads(json.dumps(to_dict(config))), KINDS[kind]) == config


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("language", {"model": {"moe": {"router": "soft"}}}, "later ones too"),
        ("language", {"model": {"moe": {"batch_priority": True}}}, "no-batch-priority"),
        ("language", {"model": {"head_size": 5}}, "choose 6"),
        ("language", {"data": {"name": "poems"}}, "does not ship"),
        ("two_tower", {"model": {"image": {"patch_size": 5}}}, "model.image.patch_size 5"),
        ("two_tower", {"model": {"text": {"heads": 3}}}, "model.text.heads"),
        ("two_tower", {"data": {"text_length": 5}}, "model.text.text_length"),
        ("classification", {"loss": {"chunks": 8}}, "do not divide into so many"),
        ("classification", {"model": {"num_classes": 1}}, "2 or more"),
        ("classification", {"loss": {"label_smoothing": 2.0}}, "a share"),
        ("classification", {"model": {"moe": {"selected": 9}}}, "at most 4"),
        ("classification", {"model": {"moe": {"kept_experts": (1,)}}}, "is not trained"),
        (
            "classification",
            {"model": {"moe": {"placement": "final", "n": 3}}},
            "only model.depth 1",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_made(experiments, kind, change, message):
    def changed(config, change):
        parts = {
            key: changed(getattr(config, key), value) if isinstance(value, dict) else value
            for key, value in change.items()
        }
        return dataclasses.replace(config, **parts)

    with pytest.raises(ConfigError, match=message):
        check(changed(experiments[kind], change))


def test_the_data_must_fit_the_model(experiments, tmp_path):
    config = experiments["classification"]
    model = dataclasses.replace(config.model, num_classes=7)
    with pytest.raises(ConfigError, match="has 10 classes"):
        train(dataclasses.replace(config, model=model), tmp_path / "run")
    absent = dataclasses.replace(config.data, data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match="dataset-fashion-mnist"):
        train(dataclasses.replace(config, data=absent), tmp_path / "other")
