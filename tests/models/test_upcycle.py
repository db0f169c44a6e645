"""Sparse upcycling: at step 0 the grown model is the dense one."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments import cli
from byways.models import (
    ImageTowerConfig,
    LoadedModel,
    ModelConfig,
    MoeConfig,
    PalmConfig,
    TextTowerConfig,
    TwoTowerConfig,
    VmoeConfig,
    load_model,
    parameter_shapes,
    save_model,
    upcycle_model,
)
from flax.traverse_util import unflatten_dict

NONE = MoeConfig(placement="none")
CONFIGS = {
    "vmoe": VmoeConfig(8, 4, 8, 12, 2, 2, num_classes=3, moe=NONE),
    "limoe": ModelConfig(8, 4, 8, 12, 2, 2, text_length=5, vocab_size=11, embed_dim=6, moe=NONE),
    "two_tower": TwoTowerConfig(
        ImageTowerConfig(8, 4, 8, 12, 2, 2, activation="quick_gelu"),
        TextTowerConfig(5, 11, 8, 10, 2, 2, activation="gelu"),
        embed_dim=6,
    ),
}
MOE = MoeConfig(num_experts=4, selected=2, renormalize=True)
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
PAIRS = (PIXELS, DRAW.integers(0, 11, (4, 5), dtype=np.int32), np.arange(5) < [[3], [5], [1], [4]])
INPUTS = {"vmoe": (PIXELS / np.float32(127.5) - 1,), "limoe": PAIRS, "two_tower": PAIRS}
KEY = jax.random.key(1)


@functools.cache
def dense(kind):
    shapes = parameter_shapes(kind, CONFIGS[kind])
    flat = {name: DRAW.standard_normal(shape, np.float32) / 3 for name, shape in shapes.items()}
    return LoadedModel(kind, CONFIGS[kind], unflatten_dict(flat, sep="/"))


def outputs(model):
    """Logits, or embeddings of both modalities."""
    run = jax.jit(lambda p, inputs: model.module.apply({"params": p}, *inputs))
    out = run(model.params, INPUTS[model.kind])
    return out.logits if model.kind == "vmoe" else jnp.concatenate([out.image, out.text])


@functools.cache
def dense_outputs(kind):
    return np.asarray(outputs(dense(kind)))


@pytest.mark.parametrize(
    ("kind", "moe"),
    [
        ("vmoe", MOE),
        ("vmoe", MoeConfig(num_experts=4, selected=2, router="sigmoid", bias="sign")),
        ("vmoe", MoeConfig(num_experts=2, selected=2)),
        ("limoe", MOE),
        ("two_tower", MOE),
    ],
)
def test_the_grown_model_is_the_dense_one(kind, moe):
    grown = upcycle_model(dense(kind), moe, KEY)
    old = dense("vmoe").params["Encoder"]["encoderblock_1"]
    assert "Mlp" in old  # the old tree is as it was
    np.testing.assert_allclose(outputs(grown), dense_outputs(kind), atol=1e-5)


def test_gates_that_are_not_renormalised_change_it_and_so_does_noise():
    plain = upcycle_model(dense("vmoe"), dataclasses.replace(MOE, renormalize=None), KEY)
    assert abs(outputs(plain) - dense_outputs("vmoe")).max() > 1e-3
    noisy = upcycle_model(dense("vmoe"), MOE, KEY, noise=0.1)
    first = noisy.params["Encoder"]["encoderblock_1"]["Moe"]["Mlp"]["Dense_0"]
    assert jnp.unique(first["kernel"], axis=0).shape[0] == 4
    assert jnp.unique(first["bias"], axis=0).shape[0] == 1


def test_one_tower_of_two_can_grow_and_both_draw_their_own_routers():
    grown = upcycle_model(dense("two_tower"), MOE, KEY, towers="text")
    assert grown.config.image == CONFIGS["two_tower"].image
    assert grown.config.moe_layers == ("text/encoderblock_1",)
    both = upcycle_model(dense("two_tower"), MOE, KEY).params
    routers = [
        both[tower]["Encoder"]["encoderblock_1"]["Moe"]["Router"]["dense"]["kernel"]
        for tower in ("image", "text")
    ]
    assert abs(routers[0] - routers[1]).min() > 0


@pytest.mark.parametrize(
    ("model", "moe", "options", "message"),
    [
        ("vmoe", NONE, {}, "makes no block sparse"),
        ("vmoe", MoeConfig(router="hash"), {}, "behind a learned router"),
        ("vmoe", MOE, {"noise": -1.0}, r"noise=-1\.0"),
        ("vmoe", MOE, {"noise": float("inf")}, "noise=inf"),
        ("vmoe", dataclasses.replace(MOE, n=0), {}, "n=0, num_experts=4"),
        ("vmoe", dataclasses.replace(MOE, num_experts=0), {}, "num_experts=0"),
        ("vmoe", dataclasses.replace(MOE, num_experts=10**11), {}, "num_experts=100000000000"),
        ("vmoe", dataclasses.replace(MOE, kept_experts=(1, 2)), {}, "kept_experts"),
        ("vmoe", MOE, {"towers": "text"}, "one stack"),
        (VmoeConfig(depth=2, moe=MOE), MOE, {}, r"blocks \(1,\) are sparse already"),
        (PalmConfig(), MOE, {}, "a palm does not grow"),
        (
            TwoTowerConfig(ImageTowerConfig(depth=1)),
            *(MOE, {}, "image: placement 'every' with n=2 makes no block sparse"),
        ),
    ],
)
def test_what_cannot_grow(model, moe, options, message):
    if isinstance(model, str):
        model = dense(model)
    else:
        kinds = {VmoeConfig: "vmoe", PalmConfig: "palm", TwoTowerConfig: "two_tower"}
        blank = {name: {"Encoder": {}} for name in ("image", "text")}
        model = LoadedModel(kinds[type(model)], model, blank)
    with pytest.raises(ValueError, match=message):
        upcycle_model(model, moe, KEY, **options)


def test_from_folder_to_folder(tmp_path, capsys):
    limoe = dense("limoe")
    save_model(tmp_path / "dense", "limoe", limoe.config, limoe.params)
    arguments = ["--moe.num-experts", "4", "--moe.selected", "2", "--moe.renormalize", "True"]
    folders = [str(tmp_path / "dense"), str(tmp_path / "sparse")]
    assert cli.main(["upcycle", *folders, *arguments]) == 0
    assert "4 experts in each of 1 blocks; 0.00 M parameters became" in capsys.readouterr().out
    loaded = load_model(tmp_path / "sparse")
    expected = upcycle_model(limoe, MOE, jax.random.key(0))
    assert loaded.config == expected.config
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected.params)
    assert json.loads((tmp_path / "sparse" / "config.json").read_text())["model"] == "limoe"
    assert cli.main(["upcycle", *reversed(folders)]) == 1  # it exists
    beyond = [folders[0], str(tmp_path / "b"), "--moe.capacity-factor", "-1", "--moe.n", "0"]
    assert cli.main(["upcycle", *beyond]) == 2
    said = capsys.readouterr().err
    assert "--moe.capacity_factor is -1.0; a number above 0 is expected" in said
    assert "--moe.n is 0; at least 1 is expected" in said
    assert cli.main(["upcycle", folders[1], str(tmp_path / "more")]) == 2
    assert "sparse already" in capsys.readouterr().err
