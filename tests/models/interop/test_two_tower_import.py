"""CLIP and SigLIP of both layouts: logits equal theirs; damaged and foreign files are told."""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from byways.experiments.cli import main
from byways.models import (
    TwoTower,
    WeightsError,
    load_model,
    parameter_shapes,
    read_two_tower,
    save_model,
)
from byways.models.interop.tensors import read_shapes
from byways.models.interop.two_tower_files import recognised
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

PARITY = Path(__file__).parents[2] / "parity" / "clip"
MODELS = sorted(path.parent.name for path in PARITY.glob("*/expected.npz"))


@functools.partial(jax.jit, static_argnums=0)
def embed(config, params, pixels, ids, mask):
    out = TwoTower(config).apply({"params": params}, pixels, ids, mask)
    return out.image, out.text, out.scale


def compare(folder: Path):
    """Ours of the folder's weights and inputs, held against what is recorded there."""
    config, arrays = read_two_tower(folder)
    expected = np.load(folder / "expected.npz")
    inputs = (expected[name] for name in ("pixels", "ids", "mask"))
    image, text, scale = embed(config, unflatten_dict(arrays, sep="/"), *inputs)
    np.testing.assert_allclose(image, expected["image"], atol=2e-6)
    np.testing.assert_allclose(text, expected["text"], atol=2e-6)
    logits = scale * np.asarray(image) @ np.asarray(text).T + arrays.get("sigmoid_bias", 0)
    np.testing.assert_allclose(logits, expected["logits_per_image"], atol=2e-5)
    return config, arrays


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_theirs(name):
    config, arrays = compare(PARITY / name)
    siglip = "siglip" in name
    assert ("sigmoid_bias" in arrays) == siglip
    assert config.max_scale == (None if siglip else 100.0)
    assert config.text.causal != siglip
    assert {tower for tower, *_ in (key.split("/") for key in arrays)} <= {
        "image",
        "text",
        "log_scale",
        "sigmoid_bias",
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # theirs
def test_living_libraries_agree(tmp_path):
    for peer in ("torch", "transformers", "open_clip"):
        pytest.importorskip(peer)
    spec = importlib.util.spec_from_file_location("make_clip", PARITY / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(tmp_path, seed=100)
    for name in MODELS:
        compare(tmp_path / name)


def test_a_folder_of_ours_comes_back(tmp_path):
    config, arrays = read_two_tower(PARITY / "hf_siglip")
    save_model(tmp_path / "ours", "two_tower", config, arrays)
    found = load_model(tmp_path / "ours")
    assert (found.kind, found.config) == ("two_tower", config)
    jax.tree.map(np.testing.assert_array_equal, found.params, unflatten_dict(arrays, sep="/"))


def test_the_command_writes_a_folder_with_its_tokenizer(tmp_path, capsys):
    source, out = tmp_path / "theirs", tmp_path / "ours"
    shutil.copytree(PARITY / "open_clip_quick", source)
    shutil.copy(PARITY / "tokenizer" / "vocab.json", source)
    assert main(["import", "clip", str(source), str(out)]) == 0
    assert "texts of 7 pieces by 2 of 16; tokenizer: vocab.json" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"model.safetensors", "config.json", "vocab.json"}
    assert load_model(out).config == read_two_tower(source)[0]
    assert main(["import", "clip", str(source), str(out)]) == 1
    assert "exists" in capsys.readouterr().err


@pytest.fixture
def copied(tmp_path):
    """Copies of a fixture, changed: a function of the weights, or of the settings."""

    def copy(name, weights=None, settings=None):
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PARITY / name, folder)
        hugging_face = name.startswith("hf")
        if weights:
            path = folder / ("model.safetensors" if hugging_face else "open_clip_model.safetensors")
            arrays = safetensors.numpy.load_file(path)
            arrays = weights(arrays) or arrays
            safetensors.numpy.save_file(arrays, path)
        if settings:
            path = folder / ("config.json" if hugging_face else "open_clip_config.json")
            values = json.loads(path.read_text())
            settings(values)
            path.write_text(json.dumps(values))
        return folder

    return copy


def test_positions_that_old_files_keep_and_half_precision_are_read(copied):
    def change(arrays):
        arrays = {name: value.astype(np.float16) for name, value in arrays.items()}
        arrays["text_model.embeddings.position_ids"] = np.arange(7)[None]
        return arrays

    arrays = read_two_tower(copied("hf_clip_quick", change))[1]
    assert {value.dtype.name for value in arrays.values()} == {"float32"}


def test_a_scale_beyond_clips_bound_is_kept(copied):
    def change(arrays):
        arrays["logit_scale"][...] = 4.8

    assert read_two_tower(copied("hf_clip_quick", change))[0].max_scale is None


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hf_clip_gelu", lambda a: without(a, "logit_scale"), "logit_scale is missing"),
        ("hf_clip_gelu", lambda a: without(a, "visual_projection.weight"), "missing: .'visual"),
        ("hf_siglip", lambda a: a.update(more=np.zeros(2)), "more has type F64"),
        ("hf_siglip", lambda a: a.update(more=np.zeros(2, "f")), "unexpected: .'more'"),
        (
            "open_clip_quick",
            lambda a: a.update({"ln_final.weight": np.zeros(3, "f")}),
            r"ln_final.weight has shape \(3,\), expected \(16,\)",
        ),
        (
            "open_clip_quick",
            lambda a: {k: v for k, v in a.items() if ".resblocks.1.attn" not in k},
            "missing: .'transformer.resblocks.1.attn.in_proj_bias'",
        ),
        (
            "open_clip_siglip",
            lambda a: a.update({"visual.trunk.pos_embed": np.zeros((1, 5, 24), "f")}),
            "5 positions of patches are no square",
        ),
        ("open_clip_gelu", lambda a: {"weight": np.zeros(2, "f")}, "neither a CLIP nor a SigLIP"),
    ],
)
def test_wrong_weights_are_told(copied, name, change, message):
    with pytest.raises(WeightsError, match=message):
        read_two_tower(copied(name, change))


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("hf_clip_gelu", "model_type", "siglip", "model_type is 'siglip', expected one of clip"),
        ("hf_clip_gelu", "text_config", 3, "is '3', expected an object"),
        ("hf_clip_gelu", "text_config.num_attention_heads", 5, "does not divide into 5 heads"),
        ("hf_clip_gelu", "text_config.num_attention_heads", -1, "expected a size above 0"),
        ("hf_clip_gelu", "vision_config.hidden_size", 32, "expected 24, as the weights have it"),
        ("hf_siglip", "vision_config.image_size", 12, "expected 2 patches of 4, as the weights"),
        ("hf_siglip", "vision_config.hidden_act", "relu", "expected one of quick_gelu, gelu"),
        ("hf_siglip", "text_config.layer_norm_eps", "1", "expected a number above 0"),
        ("open_clip_gelu", "model_cfg.vision_cfg.qk_norm", True, "qk_norm is 'True', expected"),
        ("open_clip_gelu", "model_cfg.text_cfg.pool_type", "first", "one of argmax, eos, last"),
        ("open_clip_gelu", "model_cfg.text_cfg.no_causal_mask", True, "padding is attended to"),
        ("open_clip_gelu", "model_cfg.text_cfg.hf_model_name", "bert", "nothing else is known"),
        ("open_clip_siglip", "model_cfg.vision_cfg.timm_model_name", "eva", "vit_SIZE_patchN"),
        ("open_clip_siglip", "preprocess_cfg.mean", [0.5], "expected three numbers"),
    ],
)
def test_wrong_settings_are_told(copied, name, path, value, message):
    def change(values):
        *parts, last = path.split(".")
        for part in parts:
            values = values[part]
        values[last] = value

    with pytest.raises(WeightsError, match=message):
        read_two_tower(copied(name, settings=change))


def test_damaged_and_missing_files_are_told(copied, tmp_path):
    folder = copied("hf_clip_gelu")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for size in (0, 5, 200, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="cannot be read"):
            read_two_tower(folder)
    weights.write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        read_two_tower(weights)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        read_two_tower(weights)
    with pytest.raises(WeightsError, match=r"no model\.safetensors and no open_clip_model"):
        read_two_tower(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin may run code when loaded"):
        read_two_tower(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(WeightsError, match=r"model-00001-of-00002\.safetensors is not read: join"):
        read_two_tower(tmp_path)


def leaves(values, path=()):
    """Paths of all values within an object, objects among them."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(data=st.data(), name=st.sampled_from(MODELS), value=ANYTHING)
def test_any_setting_is_either_read_or_refused(data, name, value):
    folder = PARITY / name
    weights = next(folder.glob("*.safetensors"))
    path = folder / ("config.json" if name.startswith("hf") else "open_clip_config.json")
    values = json.loads(path.read_text())
    *parts, last = data.draw(st.sampled_from(sorted(leaves(values))))
    inner = functools.reduce(lambda found, key: found[key], parts, values)
    inner[last] = value
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / path.name).write_text(json.dumps(values))
        (Path(work) / weights.name).symlink_to(weights)
        try:
            config, arrays = read_two_tower(work)
        except WeightsError:
            return
    shapes = {key: array.shape for key, array in arrays.items() if key != "sigmoid_bias"}
    assert shapes == parameter_shapes("two_tower", config)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    data=st.data(),
    name=st.sampled_from(MODELS),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 5, 16, 24, 2**40]), max_size=4),
)
def test_any_shape_is_either_right_or_refused(data, name, shape):
    folder = PARITY / name
    path = next(folder.glob("*.safetensors"))
    shapes = read_shapes(path)
    changed = data.draw(st.sampled_from(sorted(shapes)))
    right = shapes[changed]
    shapes[changed] = tuple(shape)
    try:
        recognised(shapes, path)
    except WeightsError:
        return
    assert tuple(shape) == right or changed.startswith("logit")
