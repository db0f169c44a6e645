"""Generation: the cache changes nothing, prompts of any length go together, sampling."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import MoeConfig, Palm, PalmConfig, generate
from byways.models.palm import empty_caches
from byways.models.sampling import sample

TINY = PalmConfig(vocab_size=13, width=8, hidden=16, depth=2, heads=2, head_size=6, max_length=16)
SPARSE = dataclasses.replace(TINY, moe=MoeConfig(num_experts=3, selected=2))
BOTH = pytest.mark.parametrize("config", [TINY, SPARSE], ids=["dense", "sparse"])
PROMPTS = jnp.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0], [5, 0, 0, 0, 0]], jnp.int32)
LENGTHS = np.array([5, 3, 1])
MASK = jnp.arange(5) < LENGTHS[:, None]
STEPS = 4


@functools.cache
def initialised(config):
    return jax.jit(Palm(config).init)(jax.random.key(0), PROMPTS)


@functools.cache
def whole(config):
    """Jitted (tokens, segments) -> logits, with no cache."""
    params = initialised(config)
    return jax.jit(lambda tokens, segments: Palm(config).apply(params, tokens, segments).logits)


@BOTH
def test_greedy_is_the_likeliest_of_the_whole_sequence_each_time(config):
    made = np.asarray(generate(config, initialised(config), PROMPTS, MASK, steps=STEPS))
    assert made.shape == (3, STEPS)
    tokens = np.zeros((3, 5 + STEPS), np.int32)
    tokens[:, :5] = PROMPTS
    lengths = LENGTHS.copy()
    for step in range(STEPS):
        segments = (np.arange(5 + STEPS) < lengths[:, None]).astype(np.int32)
        logits = whole(config)(tokens, segments)[np.arange(3), lengths - 1]
        np.testing.assert_array_equal(made[:, step], np.argmax(logits, axis=-1))
        tokens[np.arange(3), lengths] = made[:, step]
        lengths += 1


@BOTH
def test_logits_by_the_cache_are_those_without(config):
    tokens = jax.random.randint(jax.random.key(1), (3, 9), 0, 13)
    expected = whole(config)(tokens, jnp.ones_like(tokens))
    params = initialised(config)
    extend = jax.jit(functools.partial(Palm(config).apply, method="extend"))
    caches = empty_caches(config, 3, 9)
    for begin, end in [(0, 5), (5, 6), (6, 7), (7, 8), (8, 9)]:
        place = jnp.arange(begin, end)
        positions = jnp.broadcast_to(place, (3, end - begin))
        mask = jnp.broadcast_to(jnp.arange(9) <= place[:, None], (3, end - begin, 9))
        last = jnp.full((3,), end - begin - 1)
        real = jnp.ones((3, end - begin), bool)
        logits, caches = extend(
            params, tokens[:, begin:end], positions, mask, real, caches, jnp.int32(begin), last
        )
        np.testing.assert_allclose(logits, expected[:, end - 1], atol=1e-5)


def test_what_stands_at_padding_does_not_matter_nor_what_comes_after_the_end():
    run = functools.partial(generate, TINY, initialised(TINY), mask=MASK, steps=STEPS)
    made = np.asarray(run(PROMPTS))
    np.testing.assert_array_equal(made, run(jnp.where(MASK, PROMPTS, 7)))
    end = int(made[0, 1])
    ended = np.asarray(run(PROMPTS, end=end))
    for row, plain in zip(ended, made, strict=True):
        (places,) = np.nonzero(plain == end)
        stop = places[0] if places.size else STEPS
        np.testing.assert_array_equal(row[:stop], plain[:stop])
        assert (row[stop:] == end).all()


def test_half_precision_keeps_its_type_in_the_cache():
    config = dataclasses.replace(SPARSE, dtype="bfloat16")
    made = jax.eval_shape(lambda: generate(config, initialised(SPARSE), PROMPTS, steps=STEPS))
    assert made.shape == (3, STEPS)
    for leaf in jax.tree.leaves(empty_caches(config, 1, 2)):
        assert leaf.dtype == jnp.bfloat16


def test_sampling_repeats_by_key_and_keeps_to_the_likeliest():
    run = functools.partial(
        generate, TINY, initialised(TINY), PROMPTS, MASK, steps=STEPS, temperature=5.0, top_k=3
    )
    one, again, other = (run(key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3])), (4000, 4))
    for top_k, temperature in [(None, 1.0), (2, 1.0), (None, 0.5)]:
        drawn = sample(jax.random.key(0), logits, temperature, top_k)
        wanted = np.array([0.1, 0.4, 0.2, 0.3]) ** (1 / temperature)
        if top_k:
            wanted[[0, 2]] = 0
        share = np.bincount(drawn, minlength=4) / 4000
        np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.03)
        assert not share[wanted == 0].any()
    # A cold draw is greedy, and so is one of the likeliest alone.
    greedy = generate(TINY, initialised(TINY), PROMPTS, MASK, steps=STEPS)
    alone = generate(
        TINY,
        initialised(TINY),
        PROMPTS,
        MASK,
        steps=STEPS,
        temperature=1.0,
        top_k=1,
        key=jax.random.key(3),
    )
    np.testing.assert_array_equal(greedy, alone)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"steps": 0}, "at least one token"),
        ({"steps": 12}, "longer than max_length=16"),
        ({"temperature": -1.0}, "zero \\(greedy\\) or above"),
        ({"temperature": 1.0}, "needs a key"),
        ({"top_k": 14}, "expected 1..13"),
        ({"mask": jnp.arange(5) < jnp.array([[5], [0], [1]])}, "none is empty"),
        ({"mask": jnp.arange(5) != jnp.array([[9], [1], [9]])}, "padded on the right"),
    ],
)
def test_bad_requests_are_refused(options, why):
    with pytest.raises(ValueError, match=why):
        generate(TINY, {}, PROMPTS, **{"steps": STEPS, **options})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"eval_capacity_factor": 1.0, "router": "switch", "selected": 1},
            "generation is dropless",
        ),
        ({"router": "random"}, "cannot generate"),
        ({"router": "soft"}, "not causal"),
    ],
)
def test_mixtures_that_cannot_go_step_by_step_are_refused(changes, why):
    config = dataclasses.replace(SPARSE, moe=dataclasses.replace(SPARSE.moe, **changes))
    with pytest.raises(ValueError, match=why):
        generate(config, {}, PROMPTS, steps=STEPS)


@pytest.mark.slow
def test_the_page_shows_what_runs(root, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "palm.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 20
    exec(code, {})
    assert capsys.readouterr().out == "b' not to be'\n"
