"""A stack's blocks one after another: unrolled, or a `lax.scan` over each run of equal ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from .runs import Run, find_runs
from .stacking import stack_run, unstack_run

# (x, number of the block, what it alone is given) -> its arguments, by place and by name.
Arguments = Callable[[Any, Any, Any], tuple[tuple, dict[str, Any]]]
# (number of the block, whether it is detached, rather than a part of the owner) -> the block
Make = Callable[[int, bool], nn.Module]


def apply_blocks(
    owner: nn.Module,
    prefix: str,
    kinds: Sequence[Hashable],
    make: Make,
    arguments: Arguments,
    x: Any,
    extras: Sequence[Any],
    *,
    scan: bool,
    remat: bool,
) -> tuple[Any, list[tuple]]:
    """Takes x through all blocks; what else they give comes back block by block.

    With `scan` the owner's parameters may be canonical (`encoderblock_3/…`), which are stacked
    here, a copy at each step, or stacked already (`stack_blocks`). Where it is being
    initialised they are made canonical, and are other draws than the unrolled form's.

    Args:
        owner: the bound module whose parameters the blocks' are.
        prefix: blocks are called prefix_0, prefix_1, ….
        kinds: of each block; equal ones have the same code and shapes.
        make: a block; it gives a tuple whose first element enters the next one.
        arguments: of a block; within a scan the number is traced.
        x: enters the first block.
        extras: of each block, what it alone is given; within a run all of it or none.
        scan: one traced body for each run of equal blocks.
        remat: keep only what enters a block, and compute the rest again in the backward pass.

    Raises:
        ValueError: parameters of a block are missing, they are stacked and `scan` is not set, or
            extras differ within a run.
    """
    if not scan and (not remat or owner.is_initializing()):
        _refuse_stacked(owner, prefix, kinds)
        outs = []
        for number, extra in enumerate(extras):
            args, named = arguments(x, number, extra)
            x, *out = make(number, False)(*args, **named)  # pyright: ignore[reportCallIssue]
            outs.append(tuple(out))
        return x, outs

    def step(block: nn.Module, x: Any, tree: Any, number: Any, extra: Any) -> tuple[Any, tuple]:
        args, named = arguments(x, number, extra)
        x, *out = block.apply({"params": tree}, *args, **named)
        return x, tuple(out)

    found: dict[int, tuple] = {}
    for run in find_runs(kinds) if scan else [Run(index, 1, 1) for index in range(len(kinds))]:
        blocks = [make(run.block(0, place), True) for place in range(run.period)]
        if owner.is_initializing():
            _initialise(owner, prefix, run, blocks, arguments, x, extras)
        steps = [functools.partial(step, block) for block in blocks]
        if remat:  # a scan as it is keeps XLA from finding that it computes a thing twice
            steps = [jax.checkpoint(one, prevent_cse=run.count == 1) for one in steps]
        trees = _trees(owner, prefix, run)
        if run.count == 1:
            for place, one in enumerate(steps):
                number = run.first + place
                x, found[number] = one(x, trees[str(place)], number, extras[number])
        else:
            x, outs = _scan(prefix, run, steps, trees, extras, x)
            found |= outs
    return x, [found[number] for number in range(len(kinds))]


def _scan(
    prefix: str,
    run: Run,
    steps: list[Callable],
    trees: Mapping[str, Any],
    extras: Sequence[Any],
    x: Any,
) -> tuple[Any, dict[int, tuple]]:
    """A run by one `lax.scan`; leaves alone go in and out, for their classes know one block's."""
    _check_extras(prefix, run, extras)
    structures: list[Any] = [None] * run.period

    def turn(x, given):
        outs = []
        for place, (one, (tree, number, own)) in enumerate(zip(steps, given, strict=True)):
            structure = jax.tree.structure(extras[run.block(0, place)])
            x, out = one(x, tree, number, structure.unflatten(own))
            leaves, structures[place] = jax.tree.flatten(out)
            outs.append(leaves)
        return x, outs

    numbers = jnp.arange(run.first, run.block(run.count, 0)).reshape(run.count, -1)
    own = stack_run(run, [jax.tree.leaves(extra) for extra in extras].__getitem__)
    given = [(trees[str(i)], numbers[:, i], own[str(i)]) for i in range(run.period)]
    x, outs = lax.scan(turn, x, given)
    each = unstack_run(run, outs)
    places = {run.block(turn, i): i for turn in range(run.count) for i in range(run.period)}
    return x, {number: structures[places[number]].unflatten(each[number]) for number in places}


def _initialise(
    owner: nn.Module,
    prefix: str,
    run: Run,
    blocks: list[nn.Module],
    arguments: Arguments,
    x: Any,
    extras: Sequence[Any],
) -> None:
    """Makes the run's parameters by one traced body, and stores them block by block."""

    def make(given):
        key, first = given
        trees = []
        for place, block in enumerate(blocks):
            args, named = arguments(x, first + place, extras[run.block(0, place)])
            made: Any = block.init(jax.random.fold_in(key, place), *args, **named)
            trees.append(made["params"])
        return trees

    firsts = run.first + run.period * jnp.arange(run.count)
    trees = lax.map(make, (jax.random.split(owner.make_rng("params"), run.count), firsts))
    for number, tree in unstack_run(run, trees).items():
        owner.put_variable("params", f"{prefix}_{number}", tree)


def _trees(owner: nn.Module, prefix: str, run: Run) -> Mapping[str, Any]:
    """By place, the parameters of the run: stacked, where it has more turns than one."""
    if run.count > 1 and owner.has_variable("params", run.name(prefix)):
        return owner.get_variable("params", run.name(prefix))

    def tree(number: int) -> Any:
        name = f"{prefix}_{number}"
        if not owner.has_variable("params", name):
            where = "/".join((*owner.path, name))
            raise ValueError(
                f"there are no parameters {where}, nor {run.name(prefix)}: is this the tree of "
                "another config? One that was stacked for another comes back by unstack_blocks"
            )
        return owner.get_variable("params", name)

    if run.count > 1:
        return stack_run(run, tree)
    return {str(place): tree(run.first + place) for place in range(run.period)}


def _refuse_stacked(owner: nn.Module, prefix: str, kinds: Sequence[Hashable]) -> None:
    for run in find_runs(kinds):
        if owner.has_variable("params", run.name(prefix)):
            raise ValueError(
                f"the parameters hold {run.name(prefix)}, which is stacked, and the config has "
                "scan=False: set scan=True, or give unstack_blocks(params)"
            )


def _check_extras(prefix: str, run: Run, extras: Sequence[Any]) -> None:
    for place in range(run.period):
        numbers = [run.block(turn, place) for turn in range(run.count)]
        given = [number for number in numbers if extras[number] is not None]
        if given and len(given) < len(numbers):
            raise ValueError(
                f"within a scan each of the blocks {numbers} ({prefix}_N) is given something of "
                f"its own, such as noise, or none of them is: here {given} are"
            )
