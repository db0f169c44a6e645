"""The ragged arithmetic under `grouped` and `blocked`, with products given from outside."""

import dataclasses
import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typeguard
from byways.routing import Assignment, ExpertMlp, dispatch, route_top_k
from byways.routing import dispatch_grouped as grouped_file
from byways.routing.dispatch_blocked import BlockedProducts, block_sizes, dispatch_blocked
from byways.routing.dispatch_grouped import KernelProducts, dispatch_grouped
from byways.routing.ragged import grouped_mlp
from byways.routing.rows import sorted_rows
from byways.routing.tokamax_kernels import tokamax_api

from . import reference

G, T, E, K, D, H = 2, 10, 4, 2, 3, 5


def careless_dot(left, right, sizes, dims):
    """A product like the kernels': it leaves rows past the end as it found them."""
    out = jax.lax.ragged_dot_general(
        left, right, sizes, dims, preferred_element_type=jnp.float32
    ).astype(left.dtype)
    if dims.rhs_group_dimensions:
        used = jnp.arange(out.shape[0]) < jnp.sum(sizes)
        out = jnp.where(used[:, None], out, jnp.nan)
    return out


CARELESS = KernelProducts(careless_dot)


def drawn(seed, capacity):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    weights = ExpertMlp(normal(E, D, H), normal(E, H), normal(E, H, D), normal(E, D))
    logits, mask = normal(G, T, E), rng.uniform(size=(G, T)) < 0.8
    return logits, mask, normal(G, T, D), weights, capacity


@functools.cache
def routed(capacity):
    return jax.jit(lambda x, m: route_top_k(x, m, selected=K, capacity=capacity).assignment)


@functools.cache
def step(dispatcher, remat=False):
    """The output, and the gradients by experts, tokens and gates of a loss that is not linear."""

    def loss(weights, x, gates, assignment):
        out = dispatcher(dataclasses.replace(assignment, weight=gates), x, weights)
        return jnp.sum(jnp.sin(out)), out

    grad = jax.grad(jax.checkpoint(loss) if remat else loss, argnums=(0, 1, 2), has_aux=True)
    return jax.jit(lambda a, x, w: grad(w, x, a.weight, a)[::-1])


@functools.cache
def forward(dispatcher):
    return jax.jit(lambda a, x, w: dispatcher(a, x, w))


kernels = functools.partial(dispatch_grouped, products=CARELESS)


@pytest.mark.parametrize("capacity", [None, 3])
def test_against_plain_loops_and_the_blocks(capacity):
    logits, mask, x, weights, _ = drawn(0, capacity)
    a = routed(capacity)(logits, mask)
    gates = reference.softmax(np.asarray(logits, np.float64))
    leaves = (weights.up, weights.up_bias, weights.down, weights.down_bias)
    expected = [
        reference.moe(leaves, reference.route(gates[g], mask[g], K, capacity, True), x[g])
        for g in range(G)
    ]
    # What nobody routes may be anything: here it is NaN, next to rows that were never written.
    dirty = jnp.where(mask[..., None], x, jnp.nan)
    if capacity is not None:
        out = forward(kernels)(a, dirty, weights)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        return
    out, grads = step(kernels)(a, dirty, weights)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    other = step(dispatch_blocked)(a, dirty, weights)
    for got, want in zip(jax.tree.leaves((out, grads)), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_recomputed_batched_and_bfloat16():
    logits, mask, x, weights, _ = drawn(1, None)
    a = routed(None)(logits, mask)
    want = step(kernels)(a, x, weights)
    again = step(kernels, True)(a, x, weights)
    for got, expected in zip(jax.tree.leaves(again), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (a, x))
    twice = (twice[0], twice[1].at[1].multiply(-1.0))
    for dispatcher in (kernels, dispatch_blocked):
        both = jax.jit(jax.vmap(step(dispatcher), in_axes=(0, 0, None)))(*twice, weights)
        for i, sign in enumerate((1.0, -1.0)):
            alone = step(dispatcher)(a, sign * x, weights)
            for got, expected in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
                np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-5)
    half, grads = step(kernels)(a, x.astype(jnp.bfloat16), weights)
    assert half.dtype == jnp.float32
    assert (grads[0].up.dtype, grads[1].dtype) == (jnp.float32, jnp.bfloat16)
    scale = float(jnp.abs(want[0]).max())
    np.testing.assert_allclose(half / scale, want[0] / scale, atol=0.02)


def test_expert_layout():
    """Expert choice: a token may be taken by all experts or by none."""
    rng = np.random.default_rng(2)
    _, _, x, weights, _ = drawn(2, None)
    taken = Assignment(
        token=jnp.asarray(rng.integers(T, size=(G, E * 3)), jnp.int32),
        expert=jnp.tile(jnp.repeat(jnp.arange(E, dtype=jnp.int32), 3), (G, 1)),
        slot=jnp.tile(jnp.arange(3, dtype=jnp.int32), (G, E)),
        weight=jnp.asarray(rng.uniform(size=(G, E * 3)), jnp.float32),
        routed=jnp.ones((G, E * 3), bool),
        kept=jnp.asarray(rng.uniform(size=(G, E * 3)) < 0.7),
        num_tokens=T,
        num_experts=E,
        capacity=3,
        layout="expert",
    )
    leaves = (weights.up, weights.up_bias, weights.down, weights.down_bias)
    expected = np.zeros((G, T, D))
    for g in range(G):
        fields = (getattr(taken, name)[g] for name in ("token", "expert", "weight", "kept"))
        pairs = [(int(t), 0, int(e), 0, float(w), k) for t, e, w, k in zip(*fields, strict=True)]
        expected[g] = reference.moe(leaves, pairs, x[g])
    for dispatcher in (kernels, dispatch_blocked):
        np.testing.assert_allclose(forward(dispatcher)(taken, x, weights), expected, atol=1e-4)


@pytest.mark.parametrize("products", ["blocks", "kernels"])
def test_each_row_meets_its_expert_however_the_rows_fall(products):
    """All to one, none to some, none at all: the same compiled function, beside plain loops."""
    sizes = block_sizes(24, E, 4)
    chosen = BlockedProducts(sizes) if products == "blocks" else CARELESS
    run = jax.jit(functools.partial(grouped_mlp, chosen))
    _, _, _, weights, _ = drawn(3, None)
    leaves = (weights.up, weights.up_bias, weights.down, weights.down_bias)
    rng = np.random.default_rng(3)
    for counts in ([24, 0, 0, 0], [0, 0, 0, 24], [5, 0, 6, 7], [1, 1, 1, 1], [0, 0, 0, 0]):
        used = sum(counts)
        rows = np.zeros((24 + sizes[-1], D))
        rows[:used] = rng.standard_normal((used, D))
        who = np.repeat(np.arange(E), counts)
        expected = np.zeros(rows.shape)
        for i, e in enumerate(who):
            expected[i] = reference.expert(leaves, e, rows[i])
        got = run(jnp.asarray(rows, jnp.float32), jnp.asarray(counts, jnp.int32), weights)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_rows_are_a_permutation_sorted_by_expert():
    logits, mask, *_ = drawn(4, 3)
    a = routed(3)(logits, mask)
    rows = jax.tree.map(np.asarray, sorted_rows(a, extra=5))
    kept = np.asarray(a.kept).reshape(-1)
    used = kept.sum()
    assert rows.token.shape == (min(G * T * K, G * E * 3) + 5,)
    np.testing.assert_array_equal(
        rows.sizes, np.bincount(np.asarray(a.expert)[a.kept], minlength=E)
    )
    experts = np.asarray(a.expert).reshape(-1)[rows.pair[:used]]
    assert (np.diff(experts) >= 0).all()
    np.testing.assert_array_equal(rows.row[rows.pair[:used]], np.arange(used))
    assert (rows.pair[used:] == G * T * K).all()
    assert (rows.token[used:] == G * T).all()
    assert (rows.row[~kept] == rows.token.shape[0]).all()


def test_a_cpu_takes_the_blocks_and_imports_no_kernels():
    logits, mask, x, weights, _ = drawn(5, None)
    a = routed(None)(logits, mask)
    programs = [
        step(d).lower(a, x, weights).as_text() for d in (dispatch_grouped, dispatch_blocked)
    ]
    assert programs[0] == programs[1]
    assert "tokamax" not in sys.modules


def test_lowers_for_accelerators():
    """All three products and their surroundings, without the device."""
    logits, mask, x, weights, _ = drawn(6, None)
    a = routed(None)(logits, mask)
    traced = step(kernels).trace(a, x.astype(jnp.bfloat16), weights)
    for platform in ("cuda", "tpu"):
        assert "ragged_dot" in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.fixture
def accelerator(monkeypatch):
    """The default device calls itself a GPU, and tokamax is not yet imported."""
    device = types.SimpleNamespace(platform="gpu")
    monkeypatch.setattr(grouped_file.backend, "get_default_device", lambda: device)
    tokamax_api.cache_clear()
    yield
    tokamax_api.cache_clear()


def test_without_tokamax_an_accelerator_is_told(accelerator, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokamax", None)
    logits, mask, x, weights, _ = drawn(7, None)
    with pytest.raises(ImportError, match=r"byways\[grouped\].*--no-deps"):
        dispatch("grouped", routed(None)(logits, mask), x, weights)


def test_tokamax_is_imported_without_its_type_checks(accelerator, monkeypatch, tmp_path):
    """As tokamax does at import: annotations that no typeguard of ours could read."""
    (tmp_path / "tokamax.py").write_text(
        "import typeguard\n"
        "@typeguard.typechecked\n"
        "@typeguard.typechecked(collection_check_strategy=None)\n"
        "def ragged_dot_general(left: '*B T', right, sizes, dims):\n"
        "    import jax\n"
        "    return jax.lax.ragged_dot_general(left, right, sizes, dims)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    original = typeguard.typechecked
    logits, mask, x, weights, _ = drawn(8, None)
    a = routed(None)(logits, mask)
    try:
        got = dispatch("grouped", a, x, weights)
    finally:
        sys.modules.pop("tokamax", None)
    assert typeguard.typechecked is original
    np.testing.assert_allclose(got, step(dispatch_blocked)(a, x, weights)[0], atol=1e-4)


def test_bad_blocks_are_named():
    logits, mask, x, weights, _ = drawn(9, None)
    with pytest.raises(ValueError, match="block=0"):
        dispatch_blocked(routed(None)(logits, mask), x, weights, block=0)
