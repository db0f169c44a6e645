"""A model cut into stages on different slices, trained on micro-batches as one program.

The program is a trace like any other: the order of its nodes is the schedule, and the runtime,
which dispatches in that order without waiting, makes the stages overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .computations import Computation
from .errors import ProgramError
from .programs import Program
from .resources import Slice
from .schedules import Schedule, pipeline_actions

StageFn = Callable[[Any, Any], Any]


def pipeline(
    stages: Sequence[StageFn],
    slices: Sequence[Slice],
    loss: Callable[[Any, Any], jax.Array],
    *,
    micro_batches: int,
    schedule: Schedule | str = "1f1b",
    name: str = "pipeline",
) -> Program:
    """A program of `(params, inputs, targets)` that gives the loss and its gradients.

    Stage s is `stages[s](params[s], x) -> y` on `slices[s]`; the last one's y goes to
    `loss(y, targets)`. The batch is cut along the first axis of every leaf; the result is the mean
    of the micro-batches' losses and the gradient of that, which are those of the whole batch where
    the loss is a mean over examples. (A contrastive loss is not: its micro-batches see other
    negatives.) Backwards recompute their stage's forward, so between the two only a stage's input
    is held; gradients are added up in donated buffers, in the order of the micro-batches for
    either schedule, so that both give the same bits.

    Args:
        stages: S functions.
        slices: S slices; a stage may share another's.
        loss: mean over its examples, a scalar; runs with the last stage.
        micro_batches: M; divides the batch.
        schedule: `1f1b` holds at most min(S - s, M) inputs at stage s, `gpipe` all M.
        name: the program's.

    Returns:
        a program: (params: a sequence of S trees, inputs: (B, …) leaves, targets: (B, …) leaves)
        to (loss: scalar on the last slice, gradients: a tuple of S trees, each on its slice).

    Raises:
        ProgramError: stages and slices differ in number; an unknown schedule; when called, a batch
            that M does not divide, or params that are not one tree a stage.

    References:
        Huang et al., GPipe, arXiv 1811.06965; Narayanan et al., PipeDream, SOSP 2019 (1F1B).
    """
    stages, slices = tuple(stages), tuple(slices)
    if len(stages) != len(slices):
        raise ProgramError(
            f"{len(stages)} stages on {len(slices)} slices: give each stage its slice"
        )
    actions = pipeline_actions(len(stages), micro_batches, schedule)
    last = len(stages) - 1
    cut = _cutter(micro_batches)
    cut_inputs = Computation(cut, slices[0], name="cut inputs")
    cut_targets = Computation(cut, slices[last], name="cut targets")
    forwards = [
        Computation(stage, part, name=f"forward {s}")
        for s, (stage, part) in enumerate(zip(stages, slices, strict=True))
    ]
    zeros = [Computation(_zeros, part, name=f"zero gradients {s}") for s, part in enumerate(slices)]
    backwards = [
        Computation(_backward(stage, first=s == 0), slices[s], name=f"backward {s}", donate=(3,))
        for s, stage in enumerate(stages[:last])
    ]
    backwards.append(
        Computation(
            _last_backward(stages[last], loss, micro_batches, first=last == 0),
            slices[last],
            name=f"backward {last}",
            donate=(3,),
        )
    )

    mean = Computation(_mean, slices[last], name="mean loss")

    def step(params: Sequence[Any], inputs: Any, targets: Any) -> tuple[Any, tuple[Any, ...]]:
        if len(params) != len(stages):
            raise ProgramError(
                f"program {name!r} has {len(stages)} stages and was given {len(params)} trees of "
                "parameters: give one for each"
            )
        xs: dict[tuple[int, int], Any] = {(0, m): x for m, x in enumerate(cut_inputs(inputs))}
        wanted = cut_targets(targets)
        losses: list[Any] = []
        grads = [zeros[s](tree) for s, tree in enumerate(params)]
        cotangents: dict[tuple[int, int], Any] = {}
        for action in actions:
            s, m = action.stage, action.micro
            if action.kind == "forward":
                # The last stage's forward is the first half of its backward.
                if s < last:
                    xs[s + 1, m] = forwards[s](params[s], xs[s, m])
                continue
            x = xs.pop((s, m))
            if s == last:
                grads[s], dx, part = backwards[s](params[s], x, wanted[m], grads[s])
                losses.append(part)
            else:
                grads[s], dx = backwards[s](params[s], x, cotangents.pop((s, m)), grads[s])
            if s > 0:
                cotangents[s - 1, m] = dx
        return mean(losses), tuple(grads)

    options = {"micro_batches": micro_batches, "schedule": schedule, "name": name}
    return Program(step, name, (pipeline, (stages, slices, loss), options))


def _cutter(micro_batches: int) -> Callable[[Any], list[Any]]:
    def cut(batch: Any) -> list[Any]:
        leaves, tree = jax.tree.flatten(batch)
        for leaf in leaves:
            if not leaf.ndim or leaf.shape[0] % micro_batches:
                raise ProgramError(
                    f"a batch of shape {list(leaf.shape)} does not cut into {micro_batches} "
                    "micro-batches: its first axis must be a multiple of them"
                )
        parts = [jnp.split(leaf, micro_batches) for leaf in leaves]
        return [jax.tree.unflatten(tree, [part[m] for part in parts]) for m in range(micro_batches)]

    return cut


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _mean(losses: list[jax.Array]) -> jax.Array:
    return sum(losses[1:], losses[0]) / len(losses)


def _added(first: Any, second: Any) -> Any:
    return jax.tree.map(jnp.add, first, second)


def _backward(stage: StageFn, first: bool) -> Callable[..., Any]:
    """(params, x, cotangent of y, gradients so far) to (gradients, cotangent of x)."""

    def backward(params: Any, x: Any, dy: Any, grads: Any) -> tuple[Any, Any]:
        if first:  # nobody asks for the gradient of the batch, which may hold integers
            _, pull = jax.vjp(lambda p: stage(p, x), params)
            return _added(grads, pull(dy)[0]), None
        _, pull = jax.vjp(stage, params, x)
        more, dx = pull(dy)
        return _added(grads, more), dx

    return backward


def _last_backward(
    stage: StageFn, loss: Callable[..., jax.Array], micro_batches: int, first: bool
) -> Callable[..., Any]:
    """(params, x, targets, gradients so far) to (gradients, cotangent of x, loss)."""

    def backward(params: Any, x: Any, targets: Any, grads: Any) -> tuple[Any, Any, jax.Array]:
        def whole(p: Any, x: Any) -> jax.Array:
            return loss(stage(p, x), targets)

        # The mean over micro-batches is taken here, so that every gradient comes out whole.
        def pulled(value: jax.Array, pull: Callable[..., Any]) -> Any:
            return pull(jnp.full_like(value, 1 / micro_batches))

        if first:
            value, pull = jax.vjp(lambda p: whole(p, x), params)
            return _added(grads, pulled(value, pull)[0]), None, value
        value, pull = jax.vjp(whole, params, x)
        more, dx = pulled(value, pull)
        return _added(grads, more), dx, value

    return backward
