"""`byways bench vit`: both models are one function, of the same work; no speed is asserted."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from byways.experiments import cli
from byways.experiments.bench.plain_vit import PlainVit
from byways.experiments.bench.vit import bench_vit, print_vit
from byways.experiments.bench.vit_settings import BenchVit, check_vit
from byways.experiments.errors import UsageError
from byways.models import MoeConfig, Vmoe, VmoeConfig

TINY = BenchVit(
    batch=2,
    image_size=32,
    patch_size=4,
    width=64,
    hidden=256,
    depth=2,
    heads=2,
    num_classes=5,
    repeats=2,
)


@pytest.fixture(scope="module")
def result():
    return bench_vit(TINY)


def test_it_is_the_same_function_at_the_same_cost(result):
    assert result["difference"] < 1e-4
    assert 0.9 < result["flop_ratio"] <= 1.01
    assert result["ours"]["gflop"] > 0
    low, high = result["quartiles"]
    assert 0 < low <= result["ratio"] <= high
    assert json.loads(json.dumps(result))["settings"]["depth"] == 2


def test_it_is_printed(result, capsys):
    print_vit(result)
    out = capsys.readouterr().out
    assert "flax.linen alone" in out
    assert "2 images of 32 px" in out


def test_parameters_are_named_alike_at_the_published_size():
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    key = jax.random.key(0)
    ours = jax.eval_shape(Vmoe(VmoeConfig(moe=MoeConfig(placement="none"))).init, key, images)
    plain = jax.eval_shape(PlainVit(BenchVit()).init, key, images)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "--batch 0: must be at least 1"),
        ({"num_classes": 0}, "--num-classes 0"),
        ({"patch_size": 15}, "--image-size 32 does not divide into patches of 15"),
        ({"heads": 5}, "--width 64 does not divide by --heads 5"),
    ],
)
def test_what_makes_no_model_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        check_vit(dataclasses.replace(TINY, **change))


def test_the_command_line_refuses_before_jax_runs(capsys):
    assert cli.main(["bench", "vit", "--heads", "7"]) == 2
    assert "does not divide by --heads 7" in capsys.readouterr().err
