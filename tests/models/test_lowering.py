"""Lowered models: the work of a sense that is not there, and layers that stay fused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import Calibration, Costs, Limoe, PerExpert, lower, worth_apart
from byways.models.config import ModelConfig, MoeConfig
from byways.models.lowering.worth import layer_works
from byways.routing import ExpertMlp, dispatch, route_top_k

from byways import runtime as rt

BATCH, TEXT, EXPERTS = 4, 5, 4


def limoe(dispatcher):
    moe = MoeConfig(
        n=1, num_experts=EXPERTS, capacity_factor=None, dispatcher=dispatcher, noise_std=0.0
    )
    return Limoe(
        ModelConfig(
            image_size=16,
            width=16,
            hidden=32,
            depth=2,
            heads=2,
            text_length=TEXT,
            vocab_size=20,
            embed_dim=8,
            moe=moe,
        )
    )


@functools.cache
def batch():
    """Parameters, images and texts."""
    images = jax.random.randint(jax.random.key(0), (BATCH, 16, 16, 3), 0, 255).astype(jnp.uint8)
    texts = jax.random.randint(jax.random.key(1), (BATCH, TEXT), 1, 20)
    model = limoe("blocked")
    params = jax.jit(model.init)(jax.random.key(2), images, texts, texts > 0)
    return params, images, texts


def objective(dispatcher):
    model = limoe(dispatcher)

    def loss(params, images, texts, real):
        found = model.apply(params, images, texts, real, train=True)
        logits = found.image @ found.text.T * found.scale
        return -jnp.mean(jnp.diag(jax.nn.log_softmax(logits)))

    return loss


@functools.cache
def fused():
    """The loss and its gradient by one program."""
    return jax.jit(jax.value_and_grad(objective("blocked")))


@functools.cache
def lowered(only=None):
    params, images, texts = batch()
    return lower(objective("pathways"), params, images, texts, texts > 0, only=only)


def stacked(tree):
    def one(leaf):
        return leaf.stacked(jnp.zeros(1)) if isinstance(leaf, PerExpert) else leaf

    return jax.tree.map(one, rt.arrays(tree), is_leaf=lambda leaf: isinstance(leaf, PerExpert))


def assert_close(found, wanted):
    """To float32's rounding over the whole tree; a bias of keys has no gradient but rounding."""
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest),
        found,
        wanted,
    )


@pytest.mark.parametrize("there", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_batch_without_text_runs_nothing_of_the_text(there):
    params, images, texts = batch()
    real = jnp.full(texts.shape, there)
    low = lowered()
    args = low.split(params, images, texts, real)
    with rt.recording(low.system) as recorder:
        loss, grads = low.value_and_grad(0)(*args)
        jax.block_until_ready(jax.tree.leaves((loss, grads)))
    wanted = fused()(params, images, texts, real)
    np.testing.assert_allclose(loss.result(), wanted[0], rtol=1e-5)
    assert_close(stacked(grads), wanted[1])
    woken = [span.name for span in recorder.spans if span.woken_by is not None]
    text = {name for name in woken if name.startswith("text")}
    work = {"text embedding forward of 4", "text embedding backward of 4"}
    assert (work <= text) == there
    if not there:
        assert text == {
            "text embedding zeros",
            "text embedding no gradients",
            "text head zeros",
            "text head no gradients",
        }


def test_layers_that_stay_fused_keep_their_experts_stacked():
    params, images, texts = batch()
    low, whole = lowered(only=(1,)), lowered()
    assert len(low.switches) == 1
    assert len(whole.switches) == 2
    args = low.split(params, images, texts, texts > 0)
    apart = [leaf for leaf in jax.tree.leaves(args, is_leaf=_apart) if _apart(leaf)]
    assert len(apart) == 4
    loss, grads = low.value_and_grad(0)(*args)
    wanted = fused()(params, images, texts, texts > 0)
    np.testing.assert_allclose(loss.result(), wanted[0], rtol=1e-5)
    assert_close(stacked(grads), wanted[1])


def test_after_compiling_ahead_a_call_compiles_nothing(monkeypatch):
    params, images, texts = batch()
    low, real = lowered(only=(1,)), texts > 0
    args = low.split(params, images, texts, real)
    low.compile(*args)
    low.value_and_grad(0).compile(*args)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    given = low.split(params, images, texts, jnp.zeros_like(real))
    loss, grads = low.value_and_grad(0)(*given)
    rt.fetch((low(*args), low(*given), loss, grads))


def _apart(leaf):
    return isinstance(leaf, PerExpert)


def test_a_layer_that_is_not_there_cannot_be_apart():
    with pytest.raises(ValueError, match=r"only=\[2\]: the function has 2 sparse layers"):
        lowered(only=(0, 2))
    with pytest.raises(ValueError, match="no experts to cut at"):
        lowered(only=())


def test_a_layer_with_few_slots_has_rows_for_which_no_number_of_pairs_is_made():
    """64 pairs make blocks of up to 32 rows, and with 4 experts of 8 slots there are 32 + 32 rows;
    without a capacity 62 or 63 pairs would make 94 or 95, and so on: never 64."""
    weights = (jnp.ones((4, 8, 8)), jnp.zeros((4, 8)), jnp.ones((4, 8, 8)), jnp.zeros((4, 8)))
    tokens = jax.random.normal(jax.random.key(0), (1, 64, 8))

    def layer(weights, tokens):
        found = route_top_k(tokens[..., :4], None, selected=1, capacity=8)
        return dispatch("pathways", found.assignment, tokens, ExpertMlp(*weights))

    low = lower(layer, weights, tokens)
    jax.block_until_ready(low(*low.split(weights, tokens)))
    (work,) = layer_works(low)
    assert work.counts == tuple(low.awake()[0])
    assert max(work.counts) == 8
    assert work.most_rows >= 64 > dataclasses.replace(work, pairs=work.pairs - 1).most_rows
    free = Costs(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    dear = dataclasses.replace(free, always=1.0)
    for fused, apart, layers in ((free, dear, ()), (dear, free, (0,))):
        costs = Calibration((fused, fused), (apart, apart), shared=True, seconds=0.0)
        assert worth_apart(low, train=False, costs=costs) == layers


def test_a_layer_is_worth_it_where_enough_of_it_sleeps():
    """Fused, a layer costs a millisecond for each expert that is there; apart for each that is
    awake, and 2.5 for the call: worth it with one awake of four, not with three."""
    low = lowered()
    params, images, texts = batch()
    jax.block_until_ready(low(*low.split(params, images, texts, texts > 0)))
    nothing = {"weight": 0.0, "row": 0.0, "long": 0.0}
    weights = 2 * 16 * 32
    fused = Costs(always=0.0, start=0.0, every=1e-3 / weights, **nothing)
    apart = Costs(always=2.5e-3, start=1e-3, every=0.0, **nothing)
    costs = Calibration((fused, fused), (apart, apart), shared=True, seconds=0.0)
    low.switches[0].last = np.array([3, 0, 0, 0])
    low.switches[1].last = np.array([40, 30, 9, 0])  # longer than a shared node pads
    assert worth_apart(low, train=False, costs=costs) == (0,)
