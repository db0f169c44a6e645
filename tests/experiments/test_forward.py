"""`auto` at inference: both ways and, where the cost model says so, some layers each way."""

import jax
import numpy as np
import pytest
from byways.experiments import forward
from byways.experiments.library import image_embedding
from byways.models import Limoe
from byways.models.config import ModelConfig, MoeConfig

CONFIG = ModelConfig(
    image_size=16,
    width=16,
    hidden=32,
    depth=4,
    heads=2,
    text_length=4,
    vocab_size=20,
    embed_dim=8,
    moe=MoeConfig(num_experts=4, capacity_factor=None),
)


@pytest.mark.parametrize(
    ("layers", "ways"),
    [
        pytest.param((), 2, id="none", marks=pytest.mark.slow),
        pytest.param((0, 1), 2, id="all", marks=pytest.mark.slow),
        pytest.param((1,), 3, id="some"),
    ],
)
def test_the_cost_model_may_add_a_third_way(monkeypatch, layers, ways):
    images = jax.random.randint(jax.random.key(0), (2, 16, 16, 3), 0, 255).astype("uint8")
    params = jax.jit(Limoe(CONFIG).init)(
        jax.random.key(1), images, jax.numpy.ones((2, 4), int), jax.numpy.ones((2, 4), bool)
    )["params"]
    monkeypatch.setattr(forward, "worth_apart", lambda lowered, train: layers)
    run = forward.Forward(image_embedding, CONFIG, params, "auto")
    given = np.asarray(images), np.ones(2, bool)
    found = [np.asarray(run(*given)) for _ in range(40)]
    (chooser,) = run._choosers.values()
    assert chooser.decided
    assert len(chooser.trials) == ways
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-5, atol=1e-6)
