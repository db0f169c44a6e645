"""Each router's own rules, by hand; what all share is in the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    ExpertMlp,
    cut_out_task,
    dispatch,
    pair_of_slot,
    route,
    route_hash,
    route_random,
    route_sigmoid,
    route_top_k,
    task_logits,
    update_bias,
)

from .contract import agree
from .pairs import as_pairs


@functools.cache
def run(name, **options):
    """A router with K and capacity set, jitted."""
    return jax.jit(lambda logits, mask=None, **more: route(name, logits, mask, **options, **more))


@functools.cache
def update(rule):
    return jax.jit(lambda bias, wanted: update_bias(bias, wanted, rate=0.5, rule=rule))


def logit(p):
    """What the sigmoid makes p of."""
    p = np.asarray(p, np.float32)
    return jnp.asarray(np.log(p / (1 - p)))[None]


# Two tokens, three experts: scores that need not sum to 1.
SCORES = [[0.9, 0.6, 0.1], [0.2, 0.5, 0.3]]


def test_sigmoid_gates_by_hand():
    one = run("sigmoid", selected=1, capacity=2)(logit(SCORES))
    # K=1 is not renormalised, or the gate would be 1.
    np.testing.assert_allclose(one.assignment.weight, [[0.9, 0.5]], rtol=1e-5)
    two = run("sigmoid", selected=2, capacity=2)(logit(SCORES))
    # .9/(.9+.6), .6/1.5; .5/(.5+.3), .3/.8.
    np.testing.assert_allclose(two.assignment.weight, [[0.6, 0.4, 0.625, 0.375]], rtol=1e-5)
    assert two.assignment.expert.tolist() == [[0, 1, 1, 2]]
    # The distribution is the scores over their sums, 1.6 and 1.
    np.testing.assert_allclose(two.probs[0, 0], np.asarray([9, 6, 1]) / 16, rtol=1e-5)
    np.testing.assert_allclose(two.probs[0, 1], [0.2, 0.5, 0.3], rtol=1e-5)
    raw = jax.jit(lambda x: route_sigmoid(x, selected=2, capacity=2, renormalize=False))(
        logit(SCORES)
    )
    np.testing.assert_allclose(raw.assignment.weight, [[0.9, 0.6, 0.5, 0.3]], rtol=1e-5)


def test_sigmoids_that_underflow_still_share():
    made = run("sigmoid", selected=2, capacity=2)(jnp.full((1, 2, 3), -200.0))
    np.testing.assert_allclose(made.probs, 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(made.assignment.weight, 1 / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["sigmoid", "top_k"])
def test_a_bias_moves_the_choice_and_never_the_weight(name):
    bias = jnp.asarray([-10.0, 0.0, 10.0])
    shares = np.asarray(SCORES) / np.sum(SCORES, 1, keepdims=True)
    logits = logit(SCORES) if name == "sigmoid" else jnp.log(jnp.asarray(shares, jnp.float32))[None]
    made = run(name, selected=2, capacity=2)(logits, bias=bias)
    # Expert 2 first, expert 0 never, whatever the tokens say.
    assert made.assignment.expert.tolist() == [[2, 1, 2, 1]]
    assert made.biased
    weight = np.asarray([[0.1, 0.6], [0.3, 0.5]])
    if name == "sigmoid":  # renormalised among the chosen
        weight = weight / weight.sum(1, keepdims=True)
    else:
        weight = np.asarray([[0.1 / 1.6, 0.6 / 1.6], [0.3, 0.5]])
    np.testing.assert_allclose(made.assignment.weight.reshape(2, 2), weight, rtol=1e-5)
    np.testing.assert_allclose(made.probs[0], shares, rtol=1e-5)
    none = run(name, selected=2, capacity=2)(logits)
    zero = run(name, selected=2, capacity=2)(logits, bias=jnp.zeros(3))
    for a, b in zip(jax.tree.leaves(none), jax.tree.leaves(zero), strict=True):
        assert np.array_equal(a, b)


def test_no_gradient_reaches_the_bias():
    def total(bias):
        made = route_sigmoid(logit(SCORES), selected=2, capacity=2, bias=bias)
        return jnp.sum(made.assignment.weight * jnp.arange(4.0))

    assert not jax.jit(jax.grad(total))(jnp.asarray([0.1, 0.0, 0.0])).any()


@pytest.mark.parametrize(
    ("rule", "wanted", "expected"),
    [
        # Mean 4: the sign of 4 - wanted, times the rate of 0.5.
        ("sign", [10.0, 4.0, 0.0, 2.0], [0.5, 1.0, 1.5, 1.5]),
        # Deviations 6, 0, -4, -2; std sqrt((36+16+4)/4) = sqrt 14.
        ("z_score", [10.0, 4.0, 0.0, 2.0], 1 - 0.5 * np.asarray([6, 0, -4, -2]) / np.sqrt(14)),
        ("sign", [3.0, 3.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0]),
        ("z_score", [3.0, 3.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0]),
        ("sign", [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]),
        ("z_score", [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_update_of_the_bias_by_hand(rule, wanted, expected):
    got = update(rule)(np.ones(4, np.float32), np.asarray(wanted, np.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_hash_sends_an_id_the_same_way_everywhere():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5000, (4, 2500)).astype(np.int32)
    made = [
        jax.jit(functools.partial(route_hash, num_experts=8, selected=2, capacity=9, seed=seed))(
            ids
        )
        for seed in (0, 1)
    ]
    a = jax.device_get(made[0].assignment)
    pairs = a.expert.reshape(4, 2500, 2)
    assert (pairs[..., 0] != pairs[..., 1]).all()
    assert set(a.weight.ravel()) == {0.5}
    where = {}
    for number, pair in zip(ids.ravel(), pairs.reshape(-1, 2).tolist(), strict=True):
        assert where.setdefault(number, pair) == pair
    # Uniform over ids, in each choice: within 5 standard deviations of n/8.
    first = np.asarray(list(where.values()))
    for k in range(2):
        counts = np.bincount(first[:, k], minlength=8)
        n = len(where)
        assert np.abs(counts - n / 8).max() < 5 * np.sqrt(n / 8 * 7 / 8)
    other = np.asarray(made[1].assignment.expert).reshape(4, 2500, 2)
    # Another seed is another map: chance alone makes 1/8 of first choices agree.
    assert abs((other == pairs)[..., 0].mean() - 1 / 8) < 0.03


def test_random_draws_different_experts_uniformly():
    mask = jnp.ones((8, 64), bool).at[:, 60:].set(False)
    draw = jax.jit(lambda key: route_random(key, mask, 4, selected=2, capacity=30).assignment)
    keys = jax.random.split(jax.random.key(0), 8)
    drawn = jax.device_get(draw(keys))
    counts = np.bincount(drawn.expert[drawn.routed], minlength=4)
    assert counts.sum() == 8 * 60 * 2
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.03)
    pairs = drawn.expert.reshape(8, 64, 2)
    assert (pairs[:, :60, 0] != pairs[:, :60, 1]).all()
    assert set(drawn.weight[drawn.routed].tolist()) == {0.5}
    # A group's draw is its key's: other groups' keys do not matter.
    other = jax.device_get(draw(keys.at[1:].set(keys[0])))
    np.testing.assert_array_equal(other.expert[0], drawn.expert[0])
    assert (other.expert[1] != drawn.expert[1]).any()
    np.testing.assert_array_equal(other.expert[1], other.expert[0])
    # Those that are served first are not the first tokens.
    assert drawn.kept[:, :2].sum() < drawn.kept[:, :2].size


def test_task_alone_is_a_smaller_model():
    rng = np.random.default_rng(1)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape).astype(np.float32))

    experts = ExpertMlp(normal(4, 3, 6), normal(4, 6), normal(4, 6, 3), normal(4, 3))
    table, x = normal(3, 4), normal(2, 8, 3)
    task = jnp.asarray(rng.integers(0, 3, (2, 8)).astype(np.int32))

    @jax.jit
    def whole(x, task):
        made = route_top_k(task_logits(table, task), selected=2, capacity=None)
        return dispatch("blocked", made.assignment, x, experts)

    out = np.asarray(whole(x, task))
    cut = functools.partial(cut_out_task, experts, table, selected=2)
    models, results = jax.jit(
        lambda x: list(zip(*((m, m(x)) for m in map(cut, range(3))), strict=True))
    )(x)
    for number, (small, alone) in enumerate(zip(models, np.asarray(results), strict=True)):
        assert small.experts.up.shape == (2, 3, 6)
        mine = np.asarray(task) == number
        np.testing.assert_allclose(alone[mine], out[mine], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="task=3"):
        cut(3)


def test_task_logits_are_added_to_the_tokens_own():
    table = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    task, own = jnp.asarray([[1, 0]]), jnp.asarray([[[10.0, 20.0], [30.0, 40.0]]])
    both, alone = jax.jit(lambda: (task_logits(table, task, own), task_logits(table, task)))()
    np.testing.assert_array_equal(both, [[[13.0, 24.0], [31.0, 42.0]]])
    np.testing.assert_array_equal(alone, [[[3.0, 4.0], [1.0, 2.0]]])


def test_expert_choice_by_hand():
    gates = [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.15, 0.8, 0.05], [0.5, 0.25, 0.25]]
    logits = jnp.log(jnp.asarray(gates, jnp.float32))[None]
    choose = run("expert_choice", selected=1, capacity=2)
    made = choose(logits, jnp.ones((1, 4), bool))
    # Expert 0: tokens 0 and 1 tie at .7, the lower first. Expert 1: tokens 2 (.8) and 3 (.25).
    # Expert 2: token 3 (.25), then 0, which ties with 1 (.1).
    assert made.assignment.token.tolist() == [[0, 1, 2, 3, 3, 0]]
    assert made.assignment.expert.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert made.assignment.slot.tolist() == [[0, 1, 0, 1, 0, 1]]
    np.testing.assert_allclose(
        made.assignment.weight, [[0.7, 0.7, 0.8, 0.25, 0.25, 0.1]], rtol=1e-5
    )
    assert made.assignment.kept.all()
    assert made.selected == 0
    # Token 3 alone: each expert has one token for two slots.
    few = choose(logits, jnp.asarray([[False, False, False, True]])).assignment
    assert few.kept.tolist() == [[True, False] * 3]
    assert few.token[0, ::2].tolist() == [3, 3, 3]
    assert jax.jit(pair_of_slot)(few).tolist() == [[0, 6, 2, 6, 4, 6]]
    # More slots than tokens: those past T stay free.
    wide = run("expert_choice", selected=1, capacity=5)(logits, jnp.ones((1, 4), bool)).assignment
    assert wide.kept.tolist() == [[True, True, True, True, False] * 3]
    assert sorted(wide.token[0, :4].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["top_k", "sigmoid", "expert_choice", "hash"])
def test_no_mask_is_a_mask_of_all(name):
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((2, 6, 3)).astype(np.float32)
    more = {"ids": rng.integers(9, size=(2, 6)).astype(np.int32)} if name == "hash" else {}
    both = jax.jit(
        lambda logits, mask, more: [
            route(name, logits, m, selected=2, capacity=2, **more) for m in (None, mask)
        ]
    )
    none, full = both(logits, np.ones((2, 6), bool), more)
    for a, b in zip(jax.tree.leaves(none), jax.tree.leaves(full), strict=True):
        assert np.array_equal(a, b)


def test_switch_and_gshard_by_hand():
    gates = [[0.6, 0.3, 0.1], [0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]
    logits = jnp.log(jnp.asarray(gates, jnp.float32))[None]
    one = run("switch", selected=1, capacity=1)(logits)
    # In token order: token 1 wants expert 0 after token 0.
    rows = as_pairs(one, 0)
    assert [(e, s, k) for e, s, _, k in rows.values()] == [(0, 0, 1), (0, 1, 0), (1, 0, 1)]
    np.testing.assert_allclose([w for _, _, w, _ in rows.values()], [0.6, 0.5, 0.7], rtol=1e-5)
    two = run("gshard", selected=2, capacity=2)(logits)
    # .6/.9, .3/.9; .5/.75, .25/.75 (expert 1, the lower of equals); .7/.9, .2/.9.
    expected = [2 / 3, 1 / 3, 2 / 3, 1 / 3, 7 / 9, 2 / 9]
    np.testing.assert_allclose(two.assignment.weight[0], expected, rtol=1e-5)
    assert two.assignment.expert.tolist() == [[0, 1, 0, 1, 1, 0]]
    # First choices: expert 0 has tokens 0 and 1, expert 1 has 2. Then token 0 is second at
    # expert 1, tokens 1 and 2 find nothing.
    assert two.assignment.kept.tolist() == [[True, True, True, False, True, False]]
    agree(two.probs, jnp.asarray(gates)[None], 1e-5)


@pytest.mark.parametrize("low", [-20.0, -45.0, -60.0, -75.0, -90.0, -200.0])
def test_tiny_sigmoids_share_a_token_with_a_finite_gradient(low):
    """s / (sum of s) depends on differences of log s alone, whatever their size."""

    @jax.jit
    @jax.value_and_grad
    def first(logits):
        routing = route_sigmoid(logits, selected=2, capacity=None)
        return routing.assignment.weight[0, 0]

    value, grad = first(jnp.full((1, 1, 4), low) + jnp.arange(4.0))
    share = 1 / (1 + np.exp(-1.0))
    # Below -87 float32 has no such sigmoids: their logarithms still have the share.
    np.testing.assert_allclose(value, share, rtol=1e-4)
    slope = share * (1 - share)
    np.testing.assert_allclose(grad[0, 0], [0, 0, -slope, slope], rtol=1e-4, atol=1e-6)


def test_saturated_sigmoids_are_told_apart():
    logits = jnp.array([[[17.0, 22.0, 26.0, 1.0]]])
    chosen = jax.jit(lambda x: route_sigmoid(x, selected=1, capacity=None).assignment.expert)
    assert chosen(logits).tolist() == [[2]]
