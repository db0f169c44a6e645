"""Where the experts are in a tree of parameters, and the optimiser's state of each of them.

The canonical state, which is saved, is what optax makes of the whole tree: moments are (E, …) as
parameters are. In pieces, every expert has moments of its own, (1, …) each, and the rest, with
all counts of steps, is the state of an optimiser of the parameters that are no experts'.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import unflatten_dict
from jaxtyping import Array

Shapes = Mapping[str, jax.ShapeDtypeStruct]
# A layer's name and an expert's number.
Unit = tuple[str, int]
# States that count the steps of the run, not of what they update.
_SCHEDULES = ("ScaleByScheduleState", "WeightDecaySchedule")


@dataclasses.dataclass(frozen=True)
class ExpertLayer:
    """The experts of a sparse layer, and what the optimiser keeps of one of them.

    Attributes:
        name: the place above its leaves.
        count: E.
        leaves: places of its trained (E, …) arrays in the whole tree, sorted.
        tree: a unit, the arrays (1, …) of one expert, as shapes in nested dictionaries. The
            numbers of blocks are left out of its names: layers of equal shapes have equal trees.
        state: the optimiser's state of a unit, as shapes.
        of_unit: of each leaf of `state`, whether it is the unit's own (a moment).
        counts: of each leaf of `state`, whether it counts the unit's own updates.
        places: of each leaf of `state`, its place in the canonical state.
    """

    name: str
    count: int
    leaves: tuple[str, ...]
    tree: Any
    state: Any
    of_unit: tuple[bool, ...]
    counts: tuple[bool, ...]
    places: tuple[str, ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for layers that share programs."""
        shapes = tuple((s.shape, s.dtype) for s in jax.tree.leaves((self.tree, self.state)))
        return (*jax.tree.flatten(self.tree)[1:], shapes)


class Layout:
    """The trained parameters of a model, the experts' apart."""

    def __init__(
        self,
        shapes: Shapes,
        experts: Iterable[str],
        make: Callable[[Any], optax.GradientTransformation],
        canonical: Any,
    ):
        """Args:
        shapes: of the trained parameters, by place.
        experts: places of those whose leading axis is E.
        make: from a part of their tree, nested, to its optimiser.
        canonical: the optimiser's state of all parameters, as shapes.
        """
        self._whole = canonical
        apart = set(experts)
        shared = _nested({name: s for name, s in shapes.items() if name not in apart})
        self._shared = jax.eval_shape(make(shared).init, shared)
        groups: dict[str, list[str]] = {}
        for name in sorted(apart & set(shapes)):
            groups.setdefault(name.rsplit("/", 2)[0], []).append(name)
        self.layers = {
            name: _layer(name, leaves, shapes, make, _places(self._shared))
            for name, leaves in groups.items()
        }

    def check(self) -> list[str]:
        """What of the optimiser mixes experts in a way that cannot be taken apart."""
        whole = dict(zip(_places(self._whole), jax.tree.leaves(self._whole), strict=True))
        return [
            f"optimizer.name 'adafactor' factors the second moments of {place} over its experts, "
            f"since E = {layer.count} is among the two largest axes: take another optimiser, or "
            "--execution fused"
            for layer in self.layers.values()
            for place, own, shape in zip(layer.places, layer.of_unit, _leaves(layer), strict=True)
            if own and whole[place].shape not in (shape, (layer.count, *shape[1:]))
        ]

    def take_apart(self, state: Any) -> tuple[Any, dict[Unit, list[Array]]]:
        """The state of what is no experts', and each expert's moments."""
        found = dict(zip(_places(self._whole), jax.tree.leaves(state), strict=True))
        shared = [found[place] for place in _places(self._shared)]
        units: dict[Unit, list[Array]] = {}
        for layer in self.layers.values():
            own = [
                (found[place], shape)
                for place, mine, shape in zip(
                    layer.places, layer.of_unit, _leaves(layer), strict=True
                )
                if mine
            ]
            for e in range(layer.count):
                units[layer.name, e] = [x if x.shape == s else x[e : e + 1] for x, s in own]
        return jax.tree.unflatten(jax.tree.structure(self._shared), shared), units

    def put_together(self, shared: Any, units: Mapping[Unit, Sequence[Array]]) -> Any:
        """The inverse of `take_apart`, bit for bit."""
        found = dict(zip(_places(self._shared), jax.tree.leaves(shared), strict=True))
        whole = dict(zip(_places(self._whole), jax.tree.leaves(self._whole), strict=True))
        home = jax.tree.leaves(shared)[0].sharding
        for layer in self.layers.values():
            mine = [place for place, own in zip(layer.places, layer.of_unit, strict=True) if own]
            for number, place in enumerate(mine):
                parts = [units[layer.name, e][number] for e in range(layer.count)]
                parts = jax.device_put(parts, home)
                one = whole[place].shape == parts[0].shape
                found[place] = parts[0] if one else jnp.concatenate(parts)
        leaves = [found[place] for place in _places(self._whole)]
        return jax.tree.unflatten(jax.tree.structure(self._whole), leaves)

    def common(self, shared: Any) -> dict[str, list[Array]]:
        """By layer, what a unit's state has in common with the rest's: counts and constants."""
        found = dict(zip(_places(shared), jax.tree.leaves(shared), strict=True))
        return {
            name: [found[p] for p, own in zip(layer.places, layer.of_unit, strict=True) if not own]
            for name, layer in self.layers.items()
        }


def _layer(name, leaves, shapes, make, shared) -> ExpertLayer:
    one = {n: jax.ShapeDtypeStruct((1, *shapes[n].shape[1:]), shapes[n].dtype) for n in leaves}
    there = jax.eval_shape(make(_nested(one)).init, _nested(one))
    places = _places(there)
    short = re.sub(r"_\d+(?=/|$)", "", name)
    tree = _nested({short + n.removeprefix(name): s for n, s in one.items()})
    state = jax.eval_shape(make(tree).init, tree)
    known = set(shared)
    schedules = jax.tree.leaves(
        jax.tree.map(
            lambda part: jax.tree.map(lambda _: _counts_steps(part), part),
            state,
            is_leaf=_counts_steps,
        )
    )
    of_unit = tuple(place not in known for place in places)
    counts = tuple(
        not own and not scheduled and jnp.issubdtype(leaf.dtype, jnp.integer)
        for own, scheduled, leaf in zip(of_unit, schedules, jax.tree.leaves(state), strict=True)
    )
    count = shapes[leaves[0]].shape[0]
    return ExpertLayer(name, count, tuple(leaves), tree, state, of_unit, counts, places)


def _counts_steps(part: Any) -> bool:
    return type(part).__name__ in _SCHEDULES


def _leaves(layer: ExpertLayer) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(layer.state)]


def _places(tree: Any) -> tuple[str, ...]:
    return tuple(
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    )


def _nested(flat: Mapping[str, Any]) -> Any:
    return unflatten_dict(dict(flat), sep="/")
