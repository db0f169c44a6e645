"""Folders of every kind of model come back bit for bit, and what lies is refused."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from byways.models import (
    MODEL_KINDS,
    ImageTowerConfig,
    ModelConfig,
    MoeConfig,
    PalmConfig,
    TextTowerConfig,
    TwoTowerConfig,
    VmoeConfig,
    WeightsError,
    load_model,
    parameter_shapes,
    read_model_config,
    save_model,
)
from flax.traverse_util import flatten_dict

MOE = MoeConfig(num_experts=3, selected=2, task="added", bias="sign")
CONFIGS = {
    "vmoe": VmoeConfig(image_size=8, patch_size=4, width=8, hidden=12, depth=2, heads=2, moe=MOE),
    "limoe": ModelConfig(*(8, 4, 8, 12, 2, 2), text_length=5, vocab_size=11, embed_dim=6, moe=MOE),
    "two_tower": TwoTowerConfig(
        ImageTowerConfig(8, 4, 8, 12, 2, 2, moe=MOE),
        TextTowerConfig(5, 11, 8, 10, 1, 2, causal=True, moe=MOE),
        embed_dim=6,
    ),
    "palm": PalmConfig(
        *(11, 8, 12, 2, 2), head_size=4, moe=dataclasses.replace(MOE, batch_priority=False)
    ),
}


# A part of a model has the config of the whole.
CONFIGS |= {
    f"{kind}_{part}": CONFIGS[kind] for kind in ("limoe", "two_tower") for part in ("image", "text")
}


def drawn(kind, config=None):
    """Parameters by name, and a number that no rounding keeps."""
    draw = np.random.default_rng(0)
    shapes = parameter_shapes(kind, config or CONFIGS[kind])
    return {
        name: draw.standard_normal(shape, np.float32) * np.float32(1 / 3)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_every_kind_comes_back_as_it_was(tmp_path, kind):
    arrays = drawn(kind)
    (tmp_path / "words").write_text("a file beside")
    beside = {"tokenizer.model": tmp_path / "words"}
    save_model(tmp_path / "out", kind, CONFIGS[kind], arrays, beside=beside)
    loaded = load_model(tmp_path / "out")
    assert (loaded.kind, loaded.config) == (kind, CONFIGS[kind])
    assert loaded.module.config == CONFIGS[kind]
    flat = flatten_dict(loaded.params, sep="/")
    assert set(flat) == set(arrays)
    for name, value in arrays.items():
        assert flat[name].dtype == np.float32
        np.testing.assert_array_equal(flat[name], value)
    assert (tmp_path / "out" / "tokenizer.model").read_text() == "a file beside"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "words"}
    with pytest.raises(WeightsError, match="exists: name another folder"):
        save_model(tmp_path / "out", kind, CONFIGS[kind], arrays)


def test_a_small_model_of_few_slots_is_described_without_a_warning():
    moe = MoeConfig(num_experts=2, capacity_multiple_of=4, batch_priority=False)
    small = VmoeConfig(image_size=32, patch_size=16, width=8, hidden=8, depth=2, heads=2, moe=moe)
    assert "Encoder/encoderblock_1/Moe/Router/dense/kernel" in parameter_shapes("vmoe", small)
    for kind in ("palm", "two_tower"):  # whose texts are causal
        moe = dataclasses.replace(moe, num_experts=4, eval_capacity_factor=1.25)
        config = CONFIGS[kind]
        if kind == "palm":
            config = dataclasses.replace(config, moe=moe)
        else:
            config = dataclasses.replace(config, text=dataclasses.replace(config.text, moe=moe))
        assert parameter_shapes(kind, config)
    wide = dataclasses.replace(CONFIGS["palm"], moe=dataclasses.replace(moe, selected=2))
    with pytest.raises(ValueError, match=r"K=2 with eval_capacity_factor=1.25 is not causal"):
        parameter_shapes("palm", wide)


def test_half_precision_widens(tmp_path):
    config = dataclasses.replace(CONFIGS["vmoe"], moe=MoeConfig(placement="none"))
    arrays = drawn("vmoe", config)
    half = {name: value.astype(ml_dtypes.bfloat16) for name, value in arrays.items()}
    save_model(tmp_path / "out", "vmoe", config, half)
    flat = flatten_dict(load_model(tmp_path / "out").params, sep="/")
    for name, value in half.items():
        assert flat[name].dtype == np.float32
        np.testing.assert_array_equal(flat[name], value.astype(np.float32))
    with pytest.raises(WeightsError, match="cls is float64; parameters are float32"):
        save_model(tmp_path / "x", "vmoe", config, arrays | {"cls": np.zeros((1, 1, 8))})


def test_a_kind_and_a_config_that_do_not_fit(tmp_path):
    with pytest.raises(WeightsError, match="kind is 'bert', expected one of vmoe, limoe"):
        save_model(tmp_path / "x", "bert", CONFIGS["vmoe"], {})
    with pytest.raises(WeightsError, match="a vmoe has a VmoeConfig, not a PalmConfig"):
        save_model(tmp_path / "x", "vmoe", CONFIGS["palm"], {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 10**9}, "depth 1000000000 of"),
        ({"depth": 3}, "missing"),
        ({"moe": {"num_experts": 10**9}}, "num_experts 1000000000 of"),
        ({"image_size": 2**30, "positions": "sincos2d"}, "too many patches"),
        ({"width": -8}, "width is -8"),
        ({"hidden": 2**40}, "which is no size"),
        ({"width": 8.0}, "width is 8.0; expected int"),
        ({"width": True}, "width is True; expected int"),
        ({"head_bias": float("nan")}, "head_bias is nan; expected float"),
        ({"head_bias": 10**400}, "head_bias is 1000"),
        ({"classifier": ["gap"]}, r"classifier is \['gap'\]; expected one of token, gap, map"),
        ({"moe": 7}, "moe is 7; expected an object"),
        ({"moe": {"n": 0}}, "the config makes no vmoe"),
        ({"heads": 0}, "the config makes no vmoe"),
        ({"patch_size": 0}, "the config makes no vmoe"),
        ({"x" * 5000: 1}, "unknown key x"),
    ],
)
def test_a_config_that_lies(tmp_path, change, message):
    save_model(tmp_path / "out", "vmoe", CONFIGS["vmoe"], drawn("vmoe"))
    path = tmp_path / "out" / "config.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"config": found["config"] | change}))
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(tmp_path / "out")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text", ["", "[" * 10**5, "[" * 900 + "]" * 900, '"' + "a" * 2**21, "1" * 5000, "\xff", "null"]
)
def test_what_is_no_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text, "latin-1")
    with pytest.raises(WeightsError, match=r"config\.json"):
        read_model_config(tmp_path)
