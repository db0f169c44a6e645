"""Every kind of sparse model with its experts in processes of a Ray: the numbers of this one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import (
    ImageTowerConfig,
    MoeConfig,
    Palm,
    PalmConfig,
    TextTowerConfig,
    TwoTower,
    TwoTowerConfig,
    Vmoe,
    VmoeConfig,
    lower,
)

from byways import runtime as rt

from .test_lowering import assert_close, objective, stacked
from .test_lowering import batch as limoe_batch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own

MOE = MoeConfig(
    placement="every",
    n=1,
    num_experts=4,
    capacity_factor=None,
    eval_capacity_factor=None,
    group_size=16,
    noise_std=0.0,
    dispatcher="pathways",
)
SIZES = {"width": 8, "hidden": 16, "depth": 2, "heads": 2}
IMAGE = {"image_size": 8, "patch_size": 4, "moe": MOE}
TEXT = {"vocab_size": 20, "moe": MOE}


@pytest.fixture(scope="module")
def slices():
    pytest.importorskip("ray")
    with rt.RayRuntime(2) as system:
        yield [system.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]


def drawn(module, *inputs):
    """Parameters of which no two experts' are alike, and no head is zero."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), s.dtype), shapes)


def images(rows=4):
    return jnp.asarray(np.random.default_rng(1).integers(0, 256, (rows, 8, 8, 3)), jnp.uint8)


def tokens(length, rows=4):
    return jnp.asarray(np.random.default_rng(2).integers(1, 20, (rows, length)), jnp.int32)


def likely(logits, targets):
    """Mean negative logarithm of the targets' probabilities."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
    return -picked.mean()


def contrast(found):
    logits = found.image @ found.text.T * found.scale
    return likely(logits, jnp.arange(len(logits)))


def limoe():
    params, pictures, texts = limoe_batch()
    return objective("pathways"), (params, pictures, texts, texts > 0)


def vmoe():
    model = Vmoe(VmoeConfig(num_classes=3, **IMAGE, **SIZES))
    pictures, labels = images() / 255.0, jnp.arange(4) % 3
    params = drawn(model, pictures)
    return lambda p, x: likely(model.apply(p, x).logits, labels), (params, pictures)


def palm():
    model = Palm(PalmConfig(head_size=4, max_length=8, **TEXT, **SIZES))
    params, texts = drawn(model, tokens(8)), tokens(8)

    def loss(p, texts):
        return likely(model.apply(p, texts).logits[:, :-1], texts[:, 1:])

    return loss, (params, texts)


def two_towers():
    image, text = (
        ImageTowerConfig(**IMAGE, **SIZES),
        TextTowerConfig(text_length=5, **TEXT, **SIZES),
    )
    model, texts = TwoTower(TwoTowerConfig(image, text, embed_dim=8)), tokens(5)
    params = drawn(model, images(), texts, texts > 0)
    return lambda p, x, t: contrast(model.apply(p, x, t, t > 0)), (params, images(), texts)


@pytest.mark.parametrize("kind", [limoe, vmoe, palm, two_towers], ids=lambda kind: kind.__name__)
def test_values_and_gradients_are_those_of_this_process(slices, kind):
    function, args = kind()
    near, far = lower(function, *args), lower(function, *args, slices=slices)
    wanted, gradients = near.value_and_grad(0)(*near.split(*args))
    forward = far(*far.split(*args))
    np.testing.assert_allclose(forward.result(), wanted.result(), rtol=1e-6)
    loss, found = far.value_and_grad(0)(*far.split(*args))
    np.testing.assert_allclose(loss.result(), wanted.result(), rtol=1e-6)
    assert_close(stacked(rt.fetch(found)), stacked(gradients))
    assert [list(one) for one in far.awake()] == [list(one) for one in near.awake()]
    assert any(list(one) for one in far.awake())
