"""A modality's pathway is the whole model on that modality, with fewer experts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import (
    ImageTowerConfig,
    LoadedModel,
    ModelConfig,
    MoeConfig,
    TwoTowerConfig,
    cut_pathway,
    load_model,
    parameter_shapes,
    save_model,
)
from byways.routing import keep_experts, route_top_k
from flax.traverse_util import flatten_dict, unflatten_dict

E = 5
UNUSED = {"image": (1, 4), "text": (0, 1)}  # experts that no token of the modality asks for
MOE = MoeConfig(n=1, num_experts=E, selected=2, task="added", group_size=64)
CONFIG = ModelConfig(8, 4, 8, 12, 2, 2, text_length=5, vocab_size=11, embed_dim=6, moe=MOE)
DRAW = np.random.default_rng(0)
INPUTS = {
    "image": (DRAW.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8), None, None),
    "text": (
        *(None, DRAW.integers(0, 11, (6, 5), dtype=np.int32)),
        np.arange(5) < DRAW.integers(2, 6, (6, 1)),
    ),
}


def drawn(kind, config):
    """A model of random parameters."""
    shapes = parameter_shapes(kind, config)
    flat = {name: DRAW.standard_normal(shape, np.float32) / 2 for name, shape in shapes.items()}
    return LoadedModel(kind, config, unflatten_dict(flat, sep="/"))


@functools.cache
def whole(modality="image"):
    """Evaluated without drops, or (for text) with some."""
    moe = dataclasses.replace(MOE, eval_capacity_factor=0.8 if modality == "text" else None)
    model = drawn("limoe", dataclasses.replace(CONFIG, moe=moe))
    for index in CONFIG.moe_layers:
        table = model.params["Encoder"][f"encoderblock_{index}"]["Moe"]["Router"]["task"]
        for row, experts in enumerate(UNUSED.values()):
            table[row, list(experts)] = -1e3
    return model


def embedded(model, modality):
    """(B, F), and the routing."""
    run = jax.jit(lambda p, inputs: model.module.apply({"params": p}, *inputs))
    out = run(model.params, INPUTS[modality])
    return np.asarray(getattr(out, modality)), out.routing


@functools.cache
def expected(modality):
    """What the whole model makes of a modality, and the pairs of its experts."""
    found, routing = embedded(whole(modality), modality)
    row = list(UNUSED).index(modality)
    return found, {name: np.asarray(sums.assigned[row]) for name, sums in routing.items()}


@pytest.mark.parametrize("modality", ["image", pytest.param("text", marks=pytest.mark.slow)])
def test_without_its_unused_experts_it_is_exactly_the_whole_model(tmp_path, modality):
    wanted, pairs = expected(modality)
    cut = cut_pathway(whole(modality), modality, pairs)
    save_model(tmp_path / "cut", cut.kind, cut.config, cut.params)
    loaded = load_model(tmp_path / "cut")
    assert loaded.kind == f"limoe_{modality}"
    np.testing.assert_array_equal(embedded(loaded, modality)[0], wanted)
    used = [np.flatnonzero(counts) for counts in pairs.values()]
    assert 0 < sum(map(len, used)) <= 2 * (E - 2)
    flat = flatten_dict(loaded.params, sep="/")
    for name, numbers in zip(pairs, used, strict=True):
        kernel = f"Encoder/{name}/Moe/Mlp/Dense_0/kernel"
        original = flatten_dict(whole(modality).params, sep="/")[kernel]
        np.testing.assert_array_equal(flat[kernel], original[numbers])
        assert flat[f"Encoder/{name}/Moe/Router/dense/kernel"].shape == (8, E)
    other = {"image": "text", "text": "image"}[modality]
    assert not {other, f"{other}_projection"} & set(loaded.params)
    assert {modality, f"{modality}_projection", "log_scale"} < set(loaded.params)


def test_experts_that_are_used_little_can_go_too():
    wanted, pairs = expected("image")
    cut = cut_pathway(whole(), "image", pairs, most=1)
    found, routing = embedded(cut, "image")
    assert len(cut.config.moe.kept_experts) == 2
    for name, sums in routing.items():  # what has gone counts as dropped
        largest = int(np.argmax(pairs[name]))
        kept = np.asarray(sums.kept[0])
        assert kept[largest] > 0
        assert kept.sum() == kept[largest] < np.asarray(sums.assigned[0]).sum()
    assert 1e-4 < abs(found - wanted).max() < 2
    share = cut_pathway(whole(), "image", pairs, min_share=1.0)  # the largest stays
    assert share.config.moe.kept_experts == cut.config.moe.kept_experts


@pytest.mark.slow
def test_routing_by_task_alone_leaves_k_experts():
    moe = MoeConfig(n=1, num_experts=E, selected=2, task="alone", eval_capacity_factor=1.0)
    model = drawn("limoe", dataclasses.replace(CONFIG, depth=1, moe=moe))
    wanted, routing = embedded(model, "text")
    cut = cut_pathway(model, "text", {n: sums.assigned[1] for n, sums in routing.items()})
    table = model.params["Encoder"]["encoderblock_0"]["Moe"]["Router"]["task"]
    assert cut.config.moe.kept_experts == tuple(sorted(np.argsort(-table[1])[:2].tolist()))
    np.testing.assert_array_equal(embedded(cut, "text")[0], wanted)


def test_two_towers_come_apart():
    image = ImageTowerConfig(8, 4, 8, 12, 2, 2, moe=dataclasses.replace(MOE, num_experts=3))
    config = TwoTowerConfig(image, embed_dim=6)
    model = drawn("two_tower", config)
    cut = cut_pathway(model, "image", {f"image/encoderblock_{i}": [0, 3, 1] for i in (0, 1)})
    assert cut.kind == "two_tower_image"
    assert cut.config.image.moe.kept_experts == (1, 2, 4, 5)
    assert cut.config.text == config.text
    assert set(cut.params) == {"image", "log_scale"}
    flat = flatten_dict(cut.params, sep="/")
    assert {n: v.shape for n, v in flat.items()} == parameter_shapes(cut.kind, cut.config)
    assert set(cut_pathway(model, "text", {}).params) == {"text", "log_scale"}


def test_what_has_no_pathway():
    _, pairs = expected("image")
    with pytest.raises(ValueError, match="no pathway for 'sound'"):
        cut_pathway(whole(), "sound", pairs)
    again = dataclasses.replace(CONFIG, moe=dataclasses.replace(MOE, kept_experts=(1, 5)))
    soft = dataclasses.replace(CONFIG, moe=MoeConfig(router="soft"))
    with pytest.raises(ValueError, match="is a pathway already"):
        cut_pathway(LoadedModel("limoe", again, {}), "image", pairs)
    with pytest.raises(ValueError, match="router 'soft' has no pathway"):
        cut_pathway(LoadedModel("limoe", soft, {}), "image", pairs)
    with pytest.raises(ValueError, match=r"pairs of blocks \[\]"):
        cut_pathway(whole(), "image", {})
    with pytest.raises(ValueError, match="not all zero"):
        cut_pathway(whole(), "image", {name: [0] * E for name in pairs})
    with pytest.raises(ValueError, match=r"min_share=2\.0"):
        cut_pathway(whole(), "image", pairs, min_share=2.0)


def test_kept_experts_are_numbers_of_experts():
    logits = jnp.zeros((1, 2, 3))
    routing = route_top_k(logits, selected=1, capacity=None)
    for kept in ([], [1, 0], [1, 1], [3]):
        with pytest.raises(ValueError, match=r"kept experts .* of 0\.\.2, ascending"):
            keep_experts(routing.assignment, kept)
    by_expert = dataclasses.replace(routing.assignment, layout="expert")
    with pytest.raises(ValueError, match="has no pathway"):
        keep_experts(by_expert, [0])
