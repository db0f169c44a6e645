"""Dispatch over devices: experts sharded, tokens sharded, rows exchanged by all-to-all.

No device holds all experts or all tokens. The mesh has an axis of experts, with n devices;
groups are shared out over this axis and all others, so that a `data` axis may stand beside it: the
experts are then replicated along `data`, and rows travel along the axis of experts only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.extend import backend
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Float

from .assignment import Assignment
from .expert_shards import shard_dropless, shard_with_capacity
from .experts import ExpertMlp

_Tree = TypeVar("_Tree")


def dispatch_expert_parallel(
    assignment: Assignment,
    tokens: Float[Array, "G T D"],
    experts: ExpertMlp,
    *,
    mesh: Mesh | AbstractMesh | None = None,
    axis: str = "expert",
    ragged: bool | None = None,
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token); see `dispatch_index`.

    Takes assignments with a capacity, and dropless ones. Groups that the devices
    do not divide are filled up with empty ones, and experts with some that nobody chooses.
    `exchange_bytes` says how much travels.

    Args:
        mesh: None takes the one of `jax.set_mesh`.
        axis: name of the axis of experts.
        ragged: dropless rows by `jax.lax.ragged_all_to_all`; None does so unless the mesh is of
            CPUs, whose back end lacks it, and which exchange worst-case buffers instead.

    Returns:
        (G, T, D) float32, sharded like the groups; zero for a token with no kept pair.

    Raises:
        ValueError: no mesh, or one without the axis.
    """
    mesh = _mesh_with(mesh, axis)
    groups, num_experts = tokens.shape[0], assignment.num_experts
    devices, shards = mesh.shape[axis], mesh.size
    if ragged is None:
        ragged = _on_accelerator(mesh)
    # Padded pairs are not kept, whatever else their zeros say.
    assignment, tokens = _pad_first((assignment, tokens), -groups % shards)
    experts = _pad_first(experts, -num_experts % devices)
    by_group, by_expert = _specs(mesh, axis)
    whole = num_experts + -num_experts % devices
    arguments = (
        _place(dataclasses.replace(assignment, num_experts=whole), mesh, by_group),
        _place(tokens, mesh, by_group),
        _place(experts, mesh, by_expert),
    )
    out = _program(mesh, axis, assignment.capacity is None, ragged)(*arguments)
    if groups % shards:
        # An axis type that is explicit has no uneven shards: such a result is on every device.
        out = _place(out, mesh, PartitionSpec())[:groups]
    return out


@functools.cache
def _program(mesh: Mesh | AbstractMesh, axis: str, dropless: bool, ragged: bool) -> Callable:
    """What all devices do, compiled as one even where the caller is not: step by step it would
    be hundreds of little programs."""
    by_group, by_expert = _specs(mesh, axis)
    if dropless:
        body = functools.partial(shard_dropless, axis=axis, ragged=ragged)
    else:
        body = functools.partial(shard_with_capacity, axis=axis)
    whole = jax.shard_map(
        body,
        mesh=mesh,
        in_specs=(by_group, by_group, by_expert),
        out_specs=by_group,
        # The loops and custom derivatives inside do not track what varies over which axis.
        check_vma=False,
    )
    return jax.jit(whole)


def _specs(mesh: Mesh | AbstractMesh, axis: str) -> tuple[PartitionSpec, PartitionSpec]:
    """How groups lie, over all axes, and experts, over theirs."""
    others = (name for name in mesh.axis_names if name != axis)
    return PartitionSpec((*others, axis)), PartitionSpec(axis)


def _mesh_with(mesh: Mesh | AbstractMesh | None, axis: str) -> Mesh | AbstractMesh:
    """The mesh, or the ambient one.

    Raises:
        ValueError: there is none, or it lacks the axis.
    """
    if mesh is None:
        mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise ValueError(
            "the `expert_parallel` dispatcher needs a mesh, and there is none: pass mesh=, or call "
            f"under `with jax.set_mesh(jax.make_mesh((n,), ({axis!r},), "
            "axis_types=(jax.sharding.AxisType.Auto,))):`"
        )
    if axis not in mesh.axis_names:
        raise ValueError(
            f"the mesh has axes {tuple(mesh.axis_names)}, none called {axis!r} for the experts to "
            f"lie along: name one so, say jax.make_mesh((d, n), ('data', {axis!r}), "
            "axis_types=(jax.sharding.AxisType.Auto,) * 2), or pass axis="
        )
    return mesh


def _on_accelerator(mesh: Mesh | AbstractMesh) -> bool:
    if isinstance(mesh, Mesh):
        return mesh.devices.flat[0].platform != "cpu"
    return backend.get_default_device().platform != "cpu"


def _pad_first(tree: _Tree, more: int) -> _Tree:
    """Zeros (false) appended along the first axis of every leaf."""
    if not more:
        return tree
    return jax.tree.map(lambda x: jnp.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1)), tree)


def _place(tree: _Tree, mesh: Mesh | AbstractMesh, spec: PartitionSpec) -> _Tree:
    """Sharded so, where the mesh has axes that XLA does not see to by itself."""
    if all(kind == AxisType.Auto for kind in mesh.axis_types):
        return tree
    return jax.sharding.reshard(tree, jax.sharding.NamedSharding(mesh, spec))
