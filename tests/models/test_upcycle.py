"""Sparse upcycling: at step 0 the grown model is the dense one."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments import cli
from byways.models import MoeConfig, Vmoe, VmoeConfig, load_model, save_model, upcycle_vmoe

DENSE = VmoeConfig(
    image_size=8,
    patch_size=4,
    width=8,
    hidden=12,
    depth=2,
    heads=2,
    num_classes=3,
    moe=MoeConfig(placement="none"),
)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
KEY = jax.random.key(1)


def dense_params():
    params = jax.jit(Vmoe(DENSE).init)(jax.random.key(2), IMAGES)["params"]
    # The head begins at zero, which would make any two models agree.
    params["head"]["kernel"] = jax.random.normal(KEY, params["head"]["kernel"].shape)
    return params


def logits(config, params):
    return jax.jit(lambda p: Vmoe(config).apply({"params": p}, IMAGES).logits)(params)


@pytest.mark.parametrize(
    "moe",
    [
        MoeConfig(num_experts=4, selected=2, renormalize=True),
        MoeConfig(num_experts=4, selected=2, router="sigmoid", bias="sign"),
        MoeConfig(num_experts=2, selected=2),
    ],
)
def test_the_grown_model_is_the_dense_one(moe):
    params = dense_params()
    config, grown = upcycle_vmoe(DENSE, params, moe, KEY)
    assert "Mlp" in params["Encoder"]["encoderblock_1"]  # the old tree is as it was
    np.testing.assert_allclose(logits(config, grown), logits(DENSE, params), atol=1e-5)


def test_gates_that_are_not_renormalised_change_it_and_so_does_noise():
    params = dense_params()
    moe = MoeConfig(num_experts=4, selected=2, renormalize=True)
    plain, grown = upcycle_vmoe(DENSE, params, dataclasses.replace(moe, renormalize=None), KEY)
    assert abs(logits(plain, grown) - logits(DENSE, params)).max() > 1e-3
    _, noisy = upcycle_vmoe(DENSE, params, moe, KEY, noise=0.1)
    first = noisy["Encoder"]["encoderblock_1"]["Moe"]["Mlp"]["Dense_0"]
    assert jnp.unique(first["kernel"], axis=0).shape[0] == 4
    assert jnp.unique(first["bias"], axis=0).shape[0] == 1


@pytest.mark.parametrize(
    ("moe", "noise", "message"),
    [
        (MoeConfig(placement="none"), 0.0, "makes no block sparse"),
        (MoeConfig(router="hash"), 0.0, "behind a learned router"),
        (MoeConfig(), -1.0, "noise=-1.0"),
    ],
)
def test_what_cannot_grow(moe, noise, message):
    with pytest.raises(ValueError, match=message):
        upcycle_vmoe(DENSE, {}, moe, KEY, noise=noise)
    sparse = dataclasses.replace(DENSE, moe=MoeConfig())
    with pytest.raises(ValueError, match=r"blocks \(1,\) are sparse already"):
        upcycle_vmoe(sparse, {}, moe, KEY)


def test_from_folder_to_folder(tmp_path, capsys):
    save_model(tmp_path / "vit", "vmoe", DENSE, dense_params())
    arguments = ["--moe.num-experts", "4", "--moe.selected", "2", "--moe.renormalize", "True"]
    folders = [str(tmp_path / "vit"), str(tmp_path / "vmoe")]
    assert cli.main(["upcycle", *folders, *arguments]) == 0
    assert "4 experts in 1 of 2 blocks" in capsys.readouterr().out
    loaded = load_model(tmp_path / "vmoe")
    np.testing.assert_allclose(
        logits(loaded.config, loaded.params), logits(DENSE, dense_params()), atol=1e-5
    )
    assert json.loads((tmp_path / "vmoe" / "config.json").read_text())["model"] == "vmoe"
    assert cli.main(["upcycle", *reversed(folders)]) == 1  # it exists
    assert cli.main(["upcycle", folders[1], str(tmp_path / "more")]) == 2
    assert "sparse already" in capsys.readouterr().err
