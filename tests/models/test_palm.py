"""PaLM: sizes as published, causality, packing, rotary positions, the loss, what is refused."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import PALM, MoeConfig, Palm, PalmConfig, palm_loss, sequence_groups
from byways.models.rope import restarting_positions, rotate

TINY = PalmConfig(vocab_size=11, width=8, hidden=16, depth=2, heads=2, head_size=6, max_length=16)
SPARSE = dataclasses.replace(
    TINY,
    moe=MoeConfig(num_experts=2, selected=2, batch_priority=False, group_size=12),
)
TOKENS = jnp.array(np.random.default_rng(0).integers(0, 11, (2, 12)), jnp.int32)
SEGMENTS = jnp.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 7 + [2] * 5], jnp.int32)


@functools.cache
def initialised(config):
    return jax.jit(Palm(config).init)(jax.random.key(0), TOKENS)


@functools.cache
def model(config):
    """Jitted (tokens, segments) -> logits."""
    params = initialised(config)
    return jax.jit(lambda tokens, segments: Palm(config).apply(params, tokens, segments).logits)


def count(config):
    """(all parameters, of them the scales of norms), allocating nothing."""
    blank = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    tree = jax.eval_shape(Palm(config).init, jax.random.key(0), blank)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sizes = [(path[-1].key, math.prod(leaf.shape)) for path, leaf in leaves]
    return np.array([sum(n for _, n in sizes), sum(n for key, n in sizes if key == "scale")])


# Billions in the paper's table, which is of kernels and embeddings: with the norms' scales the
# largest would round to 540.36.
@pytest.mark.parametrize(
    ("name", "billions", "exactly"),
    [
        ("palm_8b", 8.63, 8_631_877_632),
        ("palm_62b", 62.50, 62_495_129_600),
        ("palm_540b", 540.35, 540_354_281_472),
    ],
)
def test_parameters_are_counted_as_published(name, billions, exactly):
    config = PALM[name]
    # Blocks are all alike, so two depths tell any other.
    one, two = (count(dataclasses.replace(config, depth=depth)) for depth in (1, 2))
    every, scales = one + (config.depth - 1) * (two - one)
    assert every - scales == exactly
    assert round((every - scales) / 1e9, 2) == billions
    assert scales == (config.depth + 1) * config.width


@pytest.mark.slow
@pytest.mark.parametrize("name", ["palm_8b", "palm_62b", "palm_540b"])
def test_parameters_in_full_depth(name):
    config = PALM[name]
    w = config.width
    inner = config.heads * config.head_size
    block = 2 * w * inner + 2 * w * config.head_size + 3 * w * config.hidden + w
    assert count(config)[0] == config.depth * block + config.vocab_size * w + w


def test_names_and_shapes():
    tree = initialised(TINY)["params"]
    assert set(tree) == {"embedding", "block_0", "block_1", "final_norm"}
    shapes = {
        "/".join(part.key for part in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree["block_0"])
    }
    assert shapes == {
        "norm/scale": (8,),
        "attention/query/kernel": (8, 12),
        "attention/key/kernel": (8, 6),
        "attention/value/kernel": (8, 6),
        "attention/out/kernel": (12, 8),
        "mlp/gate/kernel": (8, 16),
        "mlp/up/kernel": (8, 16),
        "mlp/down/kernel": (16, 8),
    }
    sparse = initialised(SPARSE)["params"]
    assert "moe" in sparse["block_1"]
    assert "mlp" not in sparse["block_1"]
    assert "mlp" in sparse["block_0"]


def test_a_block_is_what_the_paper_writes():
    """All of a one-block model in NumPy, for one short row."""
    config = dataclasses.replace(TINY, depth=1)
    tree = jax.tree.map(lambda x: np.asarray(x, np.float64), initialised(config))["params"]
    tokens = np.asarray(TOKENS[:1])

    def norm(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

    def turn(x, position):
        pairs = x[:3] + 1j * x[3:]
        pairs = pairs * np.exp(1j * position * 10_000.0 ** (-np.arange(3) / 3))
        return np.concatenate([pairs.real, pairs.imag])

    x = tree["embedding"][tokens[0]]
    block = tree["block_0"]
    inner = norm(x, block["norm"]["scale"])
    project = {
        name: inner @ block["attention"][name]["kernel"] for name in ("query", "key", "value")
    }
    attended = np.zeros((12, 12))
    for n in range(12):
        for a in range(2):
            query = turn(project["query"][n, 6 * a : 6 * a + 6], n)
            scores = [query @ turn(project["key"][m], m) / np.sqrt(6) for m in range(n + 1)]
            weights = np.exp(scores) / np.exp(scores).sum()
            attended[n, 6 * a : 6 * a + 6] = weights @ project["value"][: n + 1]
    mlp = {name: kernel["kernel"] for name, kernel in block["mlp"].items()}
    gate = inner @ mlp["gate"]
    x = (
        x
        + (gate / (1 + np.exp(-gate)) * (inner @ mlp["up"])) @ mlp["down"]
        + attended @ block["attention"]["out"]["kernel"]
    )
    logits = norm(x, tree["final_norm"]["scale"]) @ tree["embedding"].T / np.sqrt(8)
    np.testing.assert_allclose(model(config)(TOKENS, None)[0], logits, atol=2e-5)


@pytest.mark.parametrize("config", [TINY, SPARSE], ids=["dense", "sparse"])
def test_a_later_token_changes_no_earlier_logit(config):
    ones = jnp.ones_like(TOKENS)
    before = np.asarray(model(config)(TOKENS, ones))
    for place in (1, 6, 11):
        after = np.asarray(model(config)(TOKENS.at[:, place].add(1) % 11, ones))
        if config is TINY:
            np.testing.assert_array_equal(before[:, :place], after[:, :place])
        else:  # rows move within the experts' blocks, and may be rounded differently
            np.testing.assert_allclose(before[:, :place], after[:, :place], atol=1e-6)
        assert (before[:, place:] != after[:, place:]).any()


@pytest.mark.parametrize("config", [TINY, SPARSE], ids=["dense", "sparse"])
def test_packed_sequences_are_as_if_apart(config):
    packed = model(config)(TOKENS, SEGMENTS)
    for row, begin, end in [(0, 0, 5), (0, 5, 9), (1, 0, 7), (1, 7, 12)]:
        # Alone, at the start of a row of padding.
        alone = jnp.zeros_like(TOKENS).at[0, : end - begin].set(TOKENS[row, begin:end])
        real = jnp.zeros_like(TOKENS).at[0, : end - begin].set(1)
        logits = model(config)(alone, real)
        np.testing.assert_allclose(packed[row, begin:end], logits[0, : end - begin], atol=1e-5)


@pytest.mark.parametrize("config", [TINY, SPARSE], ids=["dense", "sparse"])
def test_a_number_that_is_no_token_makes_its_row_nan_and_none_at_padding(config):
    known, real = model(config)(TOKENS, SEGMENTS), SEGMENTS > 0
    for odd in (11, -1, -12):
        padded = model(config)(jnp.where(real, TOKENS, odd), SEGMENTS)
        np.testing.assert_array_equal(padded[real], known[real])
        found = model(config)(TOKENS.at[0, 2].set(odd), SEGMENTS)
        assert jnp.isnan(found[0]).all()
        np.testing.assert_array_equal(found[1], known[1])


def test_no_number_at_padding_makes_gradients_nan():
    @jax.jit
    def gradient(params, tokens):
        def loss(params):
            return palm_loss(Palm(TINY).apply(params, tokens, SEGMENTS).logits, tokens, SEGMENTS)

        return jax.grad(loss)(params)

    leaves = jax.tree.leaves(gradient(initialised(TINY), jnp.where(SEGMENTS > 0, TOKENS, 11)))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)


def test_positions_restart_and_only_distances_count():
    assert restarting_positions(SEGMENTS).tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2],
        [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4],
    ]
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def product(n, m):
        n, m = (jnp.full((1, 1), place, jnp.int32) for place in (n, m))
        return float(jnp.sum(rotate(query, n, 1e4) * rotate(key, m, 1e4)))

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(0, 0) == pytest.approx(float(jnp.sum(query * key)), abs=1e-5)
    assert abs(product(7, 3) - product(3, 7)) > 1e-2
    with pytest.raises(ValueError, match="head_size=3 is odd"):
        rotate(query[..., :3], jnp.zeros((1, 1), jnp.int32), 1e4)


def test_loss_is_the_formula_and_its_gradients_are_finite():
    logits = 3 * jax.random.normal(jax.random.key(1), (2, 12, 11))
    logits = logits.at[0, 9:].set(jnp.inf)  # padding
    total, number = 0.0, 0
    for row in range(2):
        for n in range(11):
            if SEGMENTS[row, n] == SEGMENTS[row, n + 1] > 0:
                wide = np.asarray(logits[row, n], np.float64)
                z = np.log(np.exp(wide).sum())
                total += z - wide[TOKENS[row, n + 1]] + 0.01 * z**2
                number += 1
    assert number == 4 + 3 + 6 + 4
    loss = palm_loss(logits, TOKENS, SEGMENTS, z_loss=0.01)
    np.testing.assert_allclose(loss, total / number, rtol=1e-6)
    assert palm_loss(logits, TOKENS, jnp.zeros_like(SEGMENTS)) == 0

    config = dataclasses.replace(
        SPARSE, moe=dataclasses.replace(SPARSE.moe, noise_std=1.0, capacity_factor=1.0)
    )
    assert sequence_groups(config, 2, 12) == 2
    keys = jax.random.split(jax.random.key(2), 2)

    def objective(params):
        out = Palm(config).apply(params, TOKENS, SEGMENTS, train=True, noise_keys=keys)
        return palm_loss(out.logits, TOKENS, SEGMENTS), out.routing

    grads, routing = jax.jit(jax.grad(objective, has_aux=True))(initialised(SPARSE))
    assert set(routing) == {"block_1"}
    assert float(routing["block_1"].tokens.sum()) == 21  # of 24, three are padding
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def apply(train=False, tokens=TOKENS, **changes):
    """The logits' shape of a sparse model with another mixture."""
    config = dataclasses.replace(SPARSE, moe=dataclasses.replace(SPARSE.moe, **changes))
    key = jax.random.split(jax.random.key(0), 2)
    both = Palm(config).init_with_output
    return jax.eval_shape(
        lambda: both(jax.random.key(0), tokens, train=train, noise_keys=key)[0].logits
    )


@pytest.mark.parametrize(
    ("train", "changes", "why"),
    [
        (False, {"router": "expert_choice"}, "'expert_choice' is not causal: whether an expert"),
        (True, {"router": "soft"}, "'soft' is not causal: every slot mixes all tokens"),
        (True, {"batch_priority": True}, "later token with a larger gate would displace"),
        (
            False,
            {"batch_priority": True, "eval_capacity_factor": 1.0, "selected": 1},
            "set batch_priority=False",
        ),
        (False, {"eval_capacity_factor": 1.0}, "K=2 with eval_capacity_factor=1.0 is not causal"),
        (False, {"tokens": jnp.zeros((2, 17), jnp.int32)}, "longer than max_length=16"),
    ],
)
def test_what_would_look_ahead_is_refused(train, changes, why):
    with pytest.raises(ValueError, match=why):
        apply(train, **changes)


@pytest.mark.parametrize(
    ("train", "changes"),
    [
        (True, {"capacity_factor": 1.0}),  # K=2: second choices may be displaced, as in GShard
        (True, {"capacity_factor": None, "batch_priority": True}),
        (False, {"batch_priority": True}),  # dropless
        (False, {"eval_capacity_factor": 1.0, "selected": 1, "router": "switch"}),
        (False, {"router": "hash"}),
    ],
)
def test_what_does_not_is_let_pass(train, changes):
    assert apply(train, **changes).shape == (2, 12, 11)


def test_one_choice_in_token_order_is_causal_under_a_capacity():
    """The case that evaluation allows: tokens do get dropped, and never by later ones."""
    moe = dataclasses.replace(SPARSE.moe, selected=1, eval_capacity_factor=1.0)
    config = dataclasses.replace(SPARSE, moe=moe)
    params = initialised(config)

    @jax.jit
    def run(tokens):
        out = Palm(config).apply(params, tokens)
        return out.logits, out.assignments["block_1"].kept

    before, kept = run(TOKENS)
    assert not kept.all()
    for place in (4, 9):
        after, _ = run(TOKENS.at[:, place:].set(TOKENS[:, :1]))
        np.testing.assert_array_equal(before[:, :place], after[:, :place])
