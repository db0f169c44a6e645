"""Routing measured at the training capacity, on a model small enough to check by hand."""

import dataclasses

import jax
import numpy as np
import pytest
from byways.datasets.config import DataConfig
from byways.experiments.config import ExperimentConfig
from byways.experiments.evaluation import measure_routing
from byways.experiments.train_state import initial_params
from byways.models.config import ModelConfig, MoeConfig

MOE = MoeConfig(num_experts=4, group_size=48, capacity_factor=1.0)
MODEL = ModelConfig(
    image_size=8, patch_size=4, width=8, hidden=8, depth=2, heads=2,
    text_length=4, vocab_size=16, embed_dim=8, moe=MOE,
)  # fmt: skip
CONFIG = ExperimentConfig(model=MODEL, data=DataConfig(text_length=4), batch_size=12)


def batches(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "image": rng.integers(0, 256, (12, 8, 8, 3)).astype(np.uint8),
            "text": rng.integers(2, 16, (12, 4)).astype(np.int32),
            "text_mask": np.arange(4) < rng.integers(1, 5, (12, 1)),
        }


def with_router(kernel):
    # Only the shapes are traced; initialisers would take seconds to compile.
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: initial_params(CONFIG))
    params = jax.tree.map(lambda s: rng.normal(0, 0.1, s.shape).astype(s.dtype), shapes)
    block = params["Encoder"]["encoderblock_1"]["Moe"]["Router"]["dense"]
    block["kernel"] = np.broadcast_to(np.asarray(kernel, np.float32), (8, 4)).copy()
    return params


def test_a_collapsed_router_shows():
    # Zero logits tie, and ties go to expert 0. Groups of 6 examples hold 24 image tokens and
    # 6 to 24 text tokens; T = 48, so C = 48/4 = 12 of the T_real tokens find a slot.
    made = list(batches(2))
    real = [b["text_mask"].reshape(2, -1).sum(axis=1) + 24 for b in made]
    found = measure_routing(CONFIG, with_router(0.0), made)
    assert found["groups"] == 2
    tokens = int(np.sum(real))
    assert found["tokens"] == {"image": 96, "text": tokens - 96}
    # Four groups of four experts with 12 slots each.
    assert found["capacity_over_real_tokens"] == pytest.approx(4 * 4 * 12 / tokens)
    layer = found["layers"]["encoderblock_1"]
    assert layer["load"] == [1.0, 0.0, 0.0, 0.0]
    assert layer["dead_experts"] == [1, 2, 3]
    assert layer["max_load"] == 4.0
    parts = layer["modalities"]
    served = sum(parts[m]["success"] * found["tokens"][m] for m in ("image", "text"))
    assert served == pytest.approx(4 * 12, rel=1e-5)
    for part in parts.values():  # all four gates are 1/4
        assert part["local_entropy"] == pytest.approx(np.log(4), rel=1e-5)
        assert part["global_entropy"] == pytest.approx(np.log(4), rel=1e-5)
    assert parts["image"]["share"][0] == pytest.approx(96 / tokens)
    # A random router spreads the same tokens over four queues of 12.
    assert served / tokens < 0.5 < layer["success_random"] <= 1.0


def test_all_batches_together_are_one_state():
    # Batches of different numbers of text tokens: merged sums, not averaged shares.
    made = list(batches(3))
    params = with_router(np.eye(8, 4))
    whole = measure_routing(CONFIG, params, made)
    parts = [measure_routing(CONFIG, params, [b]) for b in made]
    weights = np.array([p["tokens"]["text"] for p in parts])
    each = [p["layers"]["encoderblock_1"]["modalities"]["text"]["success"] for p in parts]
    together = whole["layers"]["encoderblock_1"]["modalities"]["text"]["success"]
    assert together == pytest.approx(np.average(each, weights=weights), rel=1e-5)


def test_a_dense_model_has_no_layers():
    dense = dataclasses.replace(MODEL, moe=dataclasses.replace(MOE, placement="none"))
    config = dataclasses.replace(CONFIG, model=dense)
    assert measure_routing(config, {}, batches(1))["layers"] == {}


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="no batch"):
        measure_routing(CONFIG, with_router(0.0), [])
