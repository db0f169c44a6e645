"""An optimiser of experts apart: gradients for those that are awake, and for no other.

`exact` equals optax on the stacked (E, …) arrays, to rounding. An expert that sleeps has a gradient
of zero there, and goes on all the same: its moments decay, its momentum still moves it, and weight
decay shrinks it. Here that is a program of its own, in which the zero is a constant; no array of
zeros is built or kept.

`sparse` touches those alone that are awake. Parameters, moments and weight decay of an expert that
sleeps stand still, and moments are corrected for their bias by the number of the expert's own
updates; the learning rate, and any other schedule, is that of the run's step. Where an optimiser
takes the mean square of a whole (E, …) array, it is that of the one expert.

In both the gradients are clipped by the norm of all of them, which zeros would not change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ..runtime import AnyArray, OnSlices, Slice, put
from .across_experts import Across, by_place
from .expert_layout import ExpertLayer, Layout, Unit

# Means of squares that an optimiser takes over whole (E, …) arrays.
Means = Literal["none", "params", "params and updates"]


@dataclasses.dataclass
class Experts:
    """Trained experts and what the optimiser keeps of each.

    Attributes:
        params: of each, its layer's `leaves` in that order, without the leading axis.
        moments: of each, as `Layout.take_apart` gives them.
        counts: of each, how often it was updated, () int32; empty in the exact mode.
    """

    params: dict[Unit, list[AnyArray]]
    moments: dict[Unit, list[AnyArray]]
    counts: dict[Unit, AnyArray]


class ExpertOptimizer:
    """The optimiser's step of all experts, where they live: expert e on slice e mod P."""

    def __init__(
        self,
        layout: Layout,
        make: Callable[[Any], optax.GradientTransformation],
        slices: Sequence[Slice],
        *,
        exact: bool,
        means: Means = "none",
        together: int = 8,
        batched: bool = False,
    ):
        """Args:
        layout: of the trained parameters.
        make: from (a part of) their tree to its optimiser, whose update takes `across`.
        slices: P homes of one device each; the first is the rest's.
        exact: the mode.
        means: what the optimiser needs of `across` besides the norm, in the exact mode.
        together: so many experts of equal shapes on one slice share a program.
        batched: there their matrix products are one, for which arrays are stacked; worth it where
            the optimiser multiplies matrices, as Muon does.
        """
        self.layout, self.slices, self.exact = layout, tuple(slices), exact
        self._make, self._together, self._batched = make, together, batched
        self._means: Means = means if exact else "none"
        self._programs: dict[Any, _Programs] = {}

    def sum_of_squares(self, grads: Mapping[Unit, list[AnyArray]]) -> list[AnyArray]:
        """Over all gradients of experts: a part from each slice, brought to the first."""
        totals = []
        for home, part in enumerate(self.slices):
            mine = [unit for unit in grads if unit[1] % len(self.slices) == home]
            total = part.put(jnp.zeros(()))
            for layer, units in self._parts(mine):
                total = self._of(layer).squares.on(part)(total, [grads[u] for u in units])
            totals.append(total)
        return self.slices[0].put(totals) if len(totals) > 1 else totals

    def step(
        self,
        experts: Experts,
        grads: Mapping[Unit, list[AnyArray]],
        common: Mapping[str, list[AnyArray]],
        norm: AnyArray,
    ) -> Experts:
        """One update; the experts' buffers are donated.

        Args:
            experts: all of them.
            grads: of those that are awake, as their parameters.
            common: by layer, of the rest's optimiser state before its own step (`Layout.common`).
            norm: of all gradients, the rest's too.
        """
        here = self._everywhere((dict(common), norm))
        means = self._measure(experts, grads, here)
        new = Experts(dict(experts.params), dict(experts.moments), dict(experts.counts))
        everyone = grads if not self.exact else experts.params
        for home, part in enumerate(self.slices):
            known, norm_here = here[home]
            mine = [u for u in everyone if u[1] % len(self.slices) == home]
            for awake in (True, False):
                for layer, units in self._parts(u for u in mine if (u in grads) is awake):
                    params, moments, counts = self._of(layer).update.on(part)(
                        [experts.params[u] for u in units],
                        [grads[u] for u in units] if awake else None,
                        [experts.moments[u] for u in units],
                        None if self.exact else [experts.counts[u] for u in units],
                        known[layer.name],
                        norm_here,
                        means[home].get(layer.name),
                    )
                    new.params.update(zip(units, params, strict=True))
                    new.moments.update(zip(units, moments, strict=True))
                    if counts is not None:
                        new.counts.update(zip(units, counts, strict=True))
        return new

    @property
    def _layers(self) -> Mapping[str, ExpertLayer]:
        return self.layout.layers

    def _measure(self, experts: Experts, grads: Mapping[Unit, list[AnyArray]], here: list[Any]):
        """By slice and layer, mean squares over whole (E, …) arrays."""
        if self._means == "none":
            return [{} for _ in self.slices]
        updates = self._means == "params and updates"
        found: dict[str, list[Any]] = {name: [] for name in self._layers}
        for home, part in enumerate(self.slices):
            common, norm = here[home]
            for name, layer in self._layers.items():
                zeros = part.put(jnp.zeros(()))
                total = dict.fromkeys(by_place(layer.tree), (zeros, zeros))
                mine = [(name, e) for e in range(home, layer.count, len(self.slices))]
                for awake in (True, False):
                    for _, units in self._parts(u for u in mine if (u in grads) is awake):
                        total = self._of(layer).measure.on(part)(
                            total,
                            [experts.params[u] for u in units],
                            [grads[u] for u in units] if awake and updates else None,
                            [experts.moments[u] for u in units],
                            common[name],
                            norm,
                        )
                found[name].append(total)
        first = self.slices[0]
        parts = first.put(found)
        return self._everywhere(
            {
                name: self._of(layer).means.on(first)(parts[name])
                for name, layer in self._layers.items()
            }
        )

    def _everywhere(self, tree: Any) -> list[Any]:
        """A copy on each slice."""
        if len(self.slices) == 1:
            return [tree]
        leaves, structure = jax.tree.flatten(tree)
        copies = put(leaves * len(self.slices), [part for part in self.slices for _ in leaves])
        size = len(leaves)
        return [
            jax.tree.unflatten(structure, copies[i * size : (i + 1) * size])
            for i in range(len(self.slices))
        ]

    def _parts(self, units: Iterable[Unit]) -> Iterator[tuple[ExpertLayer, list[Unit]]]:
        """Units in lots that share a program: `together`, and what is left over one by one."""
        lots: dict[Any, list[Unit]] = {}
        for unit in units:
            layer = self._layers[unit[0]]
            # What is measured is measured of a layer.
            lots.setdefault(layer.kind if self._means == "none" else layer.name, []).append(unit)
        for lot in lots.values():
            n = self._together
            whole = len(lot) // n * n
            parts = [lot[i : i + n] for i in range(0, whole, n)] + [[u] for u in lot[whole:]]
            for part in parts:
                yield self._layers[part[0][0]], part

    def _of(self, layer: ExpertLayer) -> _Programs:
        if layer.kind not in self._programs:
            self._programs[layer.kind] = _Programs(layer, self._make(layer.tree), self._batched)
        return self._programs[layer.kind]


class _Programs:
    """The programs of the layers of a kind; each takes lists with an item for an expert."""

    def __init__(self, layer: ExpertLayer, optimizer: Any, batched: bool):
        self.layer, self.optimizer, self.batched = layer, optimizer, batched
        self._structure = jax.tree.structure(layer.tree)
        self.squares = OnSlices(self._squares)
        self.update = OnSlices(self._update, donate=(0, 2, 3))
        self.measure = OnSlices(self._measure)
        self.means = OnSlices(self._mean)

    def _squares(self, total, grads):
        return total + sum(jnp.sum(jnp.square(g)) for unit in grads for g in unit)

    def _update(self, params, grads, moments, counts, common, norm, means):
        across = Across(norm)
        if means is not None:
            across.params = {place: p for place, (p, _) in means.items()}
            across.updates = {place: u for place, (_, u) in means.items()}

        def one(unit, grad, moments, count):
            tree = self._tree(unit)
            gradient = jax.tree.map(jnp.zeros_like, tree) if grad is None else self._tree(grad)
            state = self._state(moments, common, count)
            updates, state = self.optimizer.update(gradient, state, tree, across=across)
            tree = optax.apply_updates(tree, updates)
            leaves = zip(jax.tree.leaves(state), self.layer.of_unit, strict=True)
            kept = [leaf for leaf, own in leaves if own]
            return (
                [leaf[0] for leaf in jax.tree.leaves(tree)],
                kept,
                None if count is None else count + 1,
            )

        many = range(len(params))
        given = [
            (params[i], grads and grads[i], moments[i], None if counts is None else counts[i])
            for i in many
        ]
        if self.batched and len(given) > 1:
            stacked = jax.vmap(one)(*jax.tree.map(lambda *x: jnp.stack(x), *given))
            found = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in many]
        else:
            found = [one(*unit) for unit in given]
        new_params, new_moments, new_counts = zip(*found, strict=True)
        return new_params, new_moments, None if counts is None else new_counts

    def _measure(self, total, params, grads, moments, common, norm):
        total = dict(total)
        for i, unit in enumerate(params):
            tree, seen = self._tree(unit), {}
            if grads is not None:
                across = Across(norm, seen=seen)
                state = self._state(moments[i], common, None)
                self.optimizer.update(self._tree(grads[i]), state, tree, across=across)
            for place, leaf in by_place(tree).items():
                p, u = total[place]
                # Of an expert that sleeps the update is zero there.
                more = jnp.sum(jnp.square(seen[place])) if place in seen else 0.0
                total[place] = (p + jnp.sum(jnp.square(leaf)), u + more)
        return total

    def _mean(self, totals):
        means = {}
        for place, leaf in by_place(self.layer.tree).items():
            size = leaf.size * self.layer.count
            p, u = (sum(part) / size for part in zip(*(t[place] for t in totals), strict=True))
            means[place] = (p, u)
        return means

    def _tree(self, leaves: Sequence[Array]) -> Any:
        return jax.tree.unflatten(self._structure, [leaf[None] for leaf in leaves])

    def _state(self, moments: Sequence[Array], common: Sequence[Array], count: Array | None) -> Any:
        own, rest = iter(moments), iter(common)
        leaves = []
        for mine, counted in zip(self.layer.of_unit, self.layer.counts, strict=True):
            leaf = next(own) if mine else next(rest)
            leaves.append(count if counted and count is not None else leaf)
        return jax.tree.unflatten(jax.tree.structure(self.layer.state), leaves)
