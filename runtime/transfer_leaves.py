"""From the leaves of a tree to what travels for them, and back."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from .carried_errors import Origin, error_arrays
from .errors import RuntimeFault, ValueReleased
from .layouts import ONE, layout_of, sharding_here
from .tickets import Leaf, Ticket, build_tree
from .transfer_errors import TransferError
from .values import Value
from .waiting import is_gone


def offered_leaf(given: Any, origin: Origin | None) -> tuple[Leaf, Any, Origin | None]:
    """What a ticket says of a leaf, the array that travels for it, and who makes it.

    Args:
        given: an array, a `Value`, what makes an array, or the exception in the place of one.
        origin: program, node and island, of what is no `Value`.

    Raises:
        ValueReleased: it is deleted already.
        TransferError: it is spread in a way that has no name.
    """
    if isinstance(given, BaseException):
        (array,) = error_arrays(given, [jax.ShapeDtypeStruct((), "float32")])
        return Leaf((), "float32", ONE), array, origin
    if isinstance(given, Value):
        origin = _maker(given)
        try:
            array = given.array()
        except RuntimeFault as error:
            (array,) = error_arrays(error, [jax.ShapeDtypeStruct(given.shape, given.dtype)])
    elif isinstance(given, jax.Array):
        array = given
    else:
        try:
            array = jax.numpy.asarray(given)
        except (TypeError, ValueError) as error:
            raise TransferError(
                f"{type(given).__name__} makes no array, so it cannot be offered: give what "
                f"jax.tree.leaves finds arrays in ({error})"
            ) from error
    if is_gone(array):
        raise ValueReleased(
            f"an array {array.dtype}{list(array.shape)} was donated or deleted before it was "
            "offered"
        )
    keys, name = "", _name(array.dtype)
    if not name:
        keys = str(jax.random.key_impl(array))
        array = jax.random.key_data(array)
        name = array.dtype.name
    layout, travels = layout_of(array)
    return Leaf(array.shape, name, layout, keys), travels, origin


@functools.cache
def _name(dtype: Any) -> str:
    """ "" of random keys."""
    return "" if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key) else dtype.name


def _maker(value: Value) -> Origin:
    run, node = value._run, value._node
    graph = run.plan.graph
    return graph.name, graph.nodes[node].name, run.island_name(node)


@functools.lru_cache(4096)
def shape_here(leaf: Leaf, devices: tuple[Any, ...]) -> jax.ShapeDtypeStruct:
    """What is asked of the transfer for a leaf, on these devices.

    Raises:
        TransferError: they are too few.
    """
    where = sharding_here(leaf.layout, devices)
    return jax.ShapeDtypeStruct(leaf.shape, np.dtype(leaf.dtype), sharding=where)


def arrived_tree(
    ticket: Ticket, flat: Sequence[Any], devices: tuple[Any, ...], target: Sharding | None
) -> Any:
    """The tree of a ticket, of the arrays that travelled for it."""
    rest, leaves = iter(flat), []
    for leaf in ticket.leaves:
        if math.prod(leaf.shape):
            array = next(rest)
        else:
            array = jax.device_put(np.empty(leaf.shape, leaf.dtype), devices[0])
        if leaf.keys:
            array = jax.random.wrap_key_data(array, impl=leaf.keys)
        if target is not None and array.sharding != target:
            array = jax.device_put(array, target)
        leaves.append(array)
    return build_tree(ticket.structure, leaves)
