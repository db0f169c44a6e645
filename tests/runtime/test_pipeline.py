"""Pipelines: orders of work, and the loss and gradients of the plain jit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.schedules import Action, pipeline_actions

from byways import runtime as rt

from .islands import stands_on

SIZES = [(1, 1), (1, 4), (2, 1), (2, 8), (3, 2), (4, 8), (4, 16), (8, 3)]


def in_flight(actions, stage):
    """Most micro-batches that are between their forward and their backward."""
    now = most = 0
    for action in actions:
        if action.stage == stage:
            now += 1 if action.kind == "forward" else -1
            most = max(most, now)
    return most


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "micro"), SIZES)
def test_orders_do_everything_once_and_in_time(stages, micro, schedule):
    actions = pipeline_actions(stages, micro, schedule)
    assert len(set(actions)) == len(actions) == 2 * stages * micro
    place = {action: n for n, action in enumerate(actions)}
    for action, n in place.items():
        s, m = action.stage, action.micro
        if action.kind == "forward":
            assert s == 0 or place[Action(s - 1, "forward", m)] < n
        else:
            assert place[Action(s, "forward", m)] < n
            assert s == stages - 1 or place[Action(s + 1, "backward", m)] < n


@pytest.mark.parametrize(("stages", "micro"), SIZES)
def test_one_forward_one_backward_bounds_what_is_in_flight(stages, micro):
    actions = pipeline_actions(stages, micro, "1f1b")
    assert [in_flight(actions, s) for s in range(stages)] == [
        min(stages - s, micro) for s in range(stages)
    ]
    everything = pipeline_actions(stages, micro, "gpipe")
    assert [in_flight(everything, s) for s in range(stages)] == [micro] * stages


def test_the_order_of_two_stages_by_hand():
    """S=2, M=2: stage 0 does F0 F1 B0 B1, stage 1 F0 B0 F1 B1; a backward takes two ticks."""
    said = [f"{a.kind[0].upper()}{a.micro}@{a.stage}" for a in pipeline_actions(2, 2, "1f1b")]
    # Ticks: F0@0 at 0; F1@0 and F0@1 at 1; B0@1 at 2; B0@0 and F1@1 at 4; B1@1 at 5; B1@0 at 7.
    assert said == ["F0@0", "F1@0", "F0@1", "B0@1", "B0@0", "F1@1", "B1@1", "B1@0"]


@pytest.mark.parametrize(
    ("stages", "micro", "schedule", "words"),
    [(2, 2, "zigzag", "gpipe"), (0, 2, "gpipe", "1 or more"), (2, 0, "1f1b", "1 or more")],
)
def test_no_such_order(stages, micro, schedule, words):
    with pytest.raises(rt.ProgramError, match=words):
        pipeline_actions(stages, micro, schedule)


def embed(params, ids):
    return jnp.tanh(params["table"][ids])


def layer(params, x):
    return jnp.tanh(x @ params["w"] + params["b"])


def loss(y, targets):
    return jnp.mean((y - targets) ** 2)


@functools.cache
def model(stages):
    """Integers in, so that the first stage's input has no gradient; D=6, B=8."""
    keys = jax.random.split(jax.random.key(0), stages + 1)
    params = [{"table": jax.random.normal(keys[0], (5, 6))}]
    for key in keys[1:stages]:
        params.append({"w": jax.random.normal(key, (6, 6)), "b": jnp.zeros(6)})
    ids = jnp.arange(8) % 5
    targets = jax.random.normal(keys[-1], (8, 6))
    functions = [embed] + [layer] * (stages - 1)

    @jax.jit
    @jax.value_and_grad
    def plain(params):
        x = ids
        for function, one in zip(functions, params, strict=True):
            x = function(one, x)
        return loss(x, targets)

    return functions, tuple(params), ids, targets, plain(tuple(params))


@functools.cache
def results(stages, micro, schedule):
    functions, params, ids, targets, _ = model(stages)
    system = rt.Runtime()
    slices = [system.virtual_devices().add_slice(1) for _ in range(stages)]
    step = rt.pipeline(functions, slices, loss, micro_batches=micro, schedule=schedule)
    graph = step.trace(params, ids, targets)
    value, grads = step(params, ids, targets)
    for tree, part in zip(rt.arrays(grads), slices, strict=True):
        assert stands_on(jax.tree.leaves(tree)[0], part)
    value, grads = rt.fetch((value, grads))
    return graph, value, grads


@pytest.mark.parametrize(("stages", "micro"), [(1, 2), (2, 4), (4, 8)])
def test_results_are_those_of_the_plain_jit(stages, micro):
    wanted, wanted_grads = model(stages)[-1]
    _, value, grads = results(stages, micro, "1f1b")
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), grads, wanted_grads
    )


def test_both_schedules_give_the_same_bits():
    _, value, grads = results(2, 4, "1f1b")
    _, other, other_grads = results(2, 4, "gpipe")
    jax.tree.map(np.testing.assert_array_equal, (value, grads), (other, other_grads))


def test_the_order_of_the_nodes_is_the_schedule():
    graph, _, _ = results(2, 4, "1f1b")
    said = [node.name for node in graph.nodes if node.name.startswith(("forward", "backward"))]
    # The last stage's forward is in its backward.
    assert said == [
        f"{a.kind} {a.stage}"
        for a in pipeline_actions(2, 4, "1f1b")
        if a.stage == 0 or a.kind == "backward"
    ]


def test_gradients_are_added_up_in_place():
    graph, _, _ = results(2, 4, "1f1b")
    for node in graph.nodes:
        if node.name.startswith("backward"):
            donated = {node.inputs[place] for place in node.donated}
            assert {graph.shape(ref).shape for ref in donated} in ({(5, 6)}, {(6, 6), (6,)})


def test_what_makes_no_pipeline():
    functions, params, ids, targets, _ = model(2)
    slices = [rt.Runtime().virtual_devices().add_slice(1)] * 2
    with pytest.raises(rt.ProgramError, match="2 stages on 1 slices"):
        rt.pipeline(functions, slices[:1], loss, micro_batches=2)
    with pytest.raises(rt.ProgramError, match="zigzag"):
        rt.pipeline(functions, slices, loss, micro_batches=2, schedule="zigzag")
    step = rt.pipeline(functions, slices, loss, micro_batches=3)
    with pytest.raises(rt.ProgramError, match="3 micro-batches"):
        step(params, ids, targets)
    with pytest.raises(rt.ProgramError, match="2 stages and was given 1"):
        step(params[:1], ids, targets)
