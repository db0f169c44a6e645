"""What the index path may cost, read off compiled programs: nothing here is run or timed."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import pytest
from byways.routing import Assignment, ExpertMlp, dispatch, expert_capacity, route_top_k

D, H = 256, 1024
# (G, T, E, K, factor): the benchmark's, and one large group.
BENCHMARK = (4, 256, 8, 2, 1.05)
LARGE = (1, 8192, 8, 1, 1.05)


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def experts(number):
    return ExpertMlp(
        floats(number, D, H), floats(number, H), floats(number, H, D), floats(number, D)
    )


def layer(name, selected, capacity):
    """(logits, tokens, experts) -> output: the routing and the dispatch."""

    def run(logits, x, weights):
        routing = route_top_k(logits, selected=selected, capacity=capacity)
        return dispatch(name, routing.assignment, x, weights)

    return run


def loss_of(run):
    """A loss whose gradient depends on the output, so that none of it can be left out."""
    return lambda *arguments: jnp.sum(jnp.sin(run(*arguments)))


@functools.cache
def flops(num_experts):
    groups, tokens, _, selected, factor = LARGE
    capacity = expert_capacity(tokens, num_experts, selected, factor)
    step = jax.jit(jax.value_and_grad(loss_of(layer("index", selected, capacity)), (0, 1, 2)))
    arguments = floats(groups, tokens, num_experts), floats(groups, tokens, D), experts(num_experts)
    return step.lower(*arguments).compile().cost_analysis()["flops"]


def test_flops_do_not_grow_with_experts():
    # Two products forwards and four backwards: all of them are counted, or the test says nothing.
    least = 6 * 2 * 8192 * D * H
    assert flops(8) > least
    assert flops(128) <= 1.10 * flops(8)


@functools.cache
def temporaries(shape, kind):
    """Bytes of temporaries over A = E*C*G*(2D+H) floats."""
    groups, tokens, number, selected, factor = shape
    capacity = expert_capacity(tokens, number, selected, factor)
    made = jax.eval_shape(
        functools.partial(route_top_k, selected=selected, capacity=capacity),
        floats(groups, tokens, number),
    ).assignment

    def run(gates, x, weights, assignment: Assignment):
        return dispatch("index", dataclasses.replace(assignment, weight=gates), x, weights)

    if kind == "forward":
        step = run
    else:
        inner = jax.checkpoint(run) if kind == "remat" else run
        step = jax.grad(loss_of(inner), (0, 1, 2))
    arguments = floats(groups, tokens * selected), floats(groups, tokens, D), experts(number), made
    analysis = jax.jit(step).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes / (4 * number * capacity * groups * (2 * D + H))


@pytest.mark.parametrize(
    ("shape", "kind", "most"),
    [
        (BENCHMARK, "forward", 1.0),
        (BENCHMARK, "remat", 2.2),
        (BENCHMARK, "gradient", 3.0),
        (LARGE, "forward", 1.0),
        # XLA begins to recompute before it is done with the first pass, which here leaves the
        # loss's own (T, D) arrays beside three of (E, N, H): 2.34.
        (LARGE, "remat", 2.4),
        (LARGE, "gradient", 3.0),
    ],
)
def test_temporaries(shape, kind, most):
    assert temporaries(shape, kind) <= most


def test_no_array_of_tokens_by_experts_by_slots():
    """Such as the einsum path has: it is what the pattern must find."""
    # Numbers that are no one else's.
    groups, tokens, number, selected, capacity, width, hidden = 2, 96, 7, 2, 29, 20, 36
    weights = ExpertMlp(
        floats(number, width, hidden),
        floats(number, hidden),
        floats(number, hidden, width),
        floats(number, width),
    )
    arguments = floats(groups, tokens, number), floats(groups, tokens, width), weights

    def found(name):
        step = jax.jit(jax.grad(loss_of(layer(name, selected, capacity)), (0, 1, 2)))
        text = step.lower(*arguments).compile().as_text()
        shapes = {tuple(map(int, dims.split(","))) for dims in re.findall(r"\w\[([\d,]+)\]", text)}
        # Tokens alone, or of all groups; experts and slots apart, or as one.
        return [
            shape
            for shape in shapes
            if {tokens, groups * tokens} & {*shape}
            and ({number, capacity} <= {*shape} or number * capacity in shape)
        ]

    assert not found("index")
    assert found("einsum")


def test_other_data_compile_nothing_anew():
    """Whatever is kept, dropped or masked: shapes alone decide."""
    width = 4
    step = jax.jit(layer("index", 2, 3))
    weights = jax.tree.map(
        lambda leaf: jnp.zeros((4, *(width for _ in leaf.shape[1:]))), experts(4)
    )
    x = jnp.ones((2, 8, width))
    logits = jnp.zeros((2, 8, 4))
    for other in (logits, logits.at[..., 0].set(9.0), logits + jnp.nan):
        step(other, x, weights)
    assert step._cache_size() == 1
