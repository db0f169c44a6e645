"""A training step by pathways: what no token chose is neither run nor differentiated.

The optimiser's step of each expert happens where the expert lives. The state of these steps has
experts apart; what is saved, and what everything else reads, is the canonical one of
`train_state`, so that a run goes on under either execution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from ..models import PerExpert, lower, worth_apart
from ..runtime import AnyArray, OnSlices, Slice, arrays, fetch
from .across_experts import ALL_GIVEN, NORM_GIVEN, Across, Blocks
from .config import Experiment
from .errors import ConfigError
from .execution import by_pathways
from .expert_layout import Layout, Unit
from .expert_optimizer import ExpertOptimizer, Experts, Means
from .freezing import leave_frozen, trained_mask
from .loss_free import balance_biases
from .optimizer import make_optimizer
from .tasks import task_of
from .train_state import (
    State,
    Training,
    initial_state,
    interval_metrics,
    local_mesh,
    whole_optimizer,
    with_step,
)

# What an optimiser asks of whole (E, …) arrays.
_MEANS: dict[str, Means] = {"palm": "params", "adafactor": "params and updates"}


def prepare_pathways(config: Experiment) -> Training:
    """As `train_state.prepare`, by pathways; `config.devices` are the homes of the experts, and the
    first of them that of everything else.

    Args:
        config: of a sparse model, dropless.

    Raises:
        ConfigError: the devices are not there, a frozen place is not in the model, or the optimiser
            mixes experts.
    """
    return PathwaysStep(config).training()


class PathwaysStep:
    """The parts of the step.

    The state: `trained` and `frozen` parameters by place, with a `PerExpert` for each that holds
    experts; `opt`, the optimiser's of what is no experts'; `moments` and `counts` of each expert;
    `step` and `interval` as in the canonical state.
    """

    def __init__(
        self,
        config: Experiment,
        together: int = 8,
        only: tuple[int, ...] | None = None,
        slices: Sequence[Slice] | None = None,
    ):
        """Args:
        config: as of `prepare_pathways`.
        together: so many experts of one size share a program in the optimiser's step.
        only: numbers of the sparse layers whose experts are apart; None is all. Those of the others
            are run, differentiated and updated whole, with what lies between.
        slices: of a runtime, one device each, the homes of the experts; the first is that of
            everything else. None makes some of the config's devices.

        Raises:
            ConfigError: as `prepare_pathways`.
        """
        self.config = config
        devices = tuple(local_mesh(config.devices).devices.flat)
        self.exact = config.expert_updates == "exact"
        self.task = task_of(config)
        self.objective = task_of(
            dataclasses.replace(config, model=by_pathways(config.model))
        ).objective
        self.whole_optimizer, _ = whole_optimizer(config)
        # Of the canonical state, which is of this process.
        self.canon = jax.sharding.SingleDeviceSharding(devices[0])
        shapes = jax.eval_shape(lambda: initial_state(config, self.task, self.whole_optimizer))
        flat = flatten_dict(shapes["params"], sep="/")
        self.mask = trained_mask(shapes["params"], config.freeze)
        mask = flatten_dict(self.mask, sep="/")
        self.places = {name: mask[name] for name in flat}
        self.blank = jax.eval_shape(lambda: self.task.blank(config.batch_size))
        args = (*self._sorted(flat), self.blank, jax.ShapeDtypeStruct((), jnp.int32))
        self.lowered = lower(
            self._loss,
            *args,
            devices=devices if slices is None else None,
            slices=slices,
            only=only,
        )
        self.slices = self.lowered.slices
        self.home = self.slices[0]
        names = [path[1].key for path, _ in jax.tree_util.tree_leaves_with_path(args[:2])]  # pyright: ignore
        self.experts = frozenset(names[i] for i in self.lowered.experts)
        trained = args[0]
        self.shared_optimizer = self._optimizer_of(NORM_GIVEN)
        self.layout = Layout(
            trained, self.experts, self._optimizer_of(Blocks()), shapes["opt_state"]
        )
        problems = self.layout.check()
        if problems:
            raise ConfigError(problems)
        self.optimizer = ExpertOptimizer(
            self.layout,
            self._optimizer_of(ALL_GIVEN if self.exact else NORM_GIVEN),
            self.slices,
            exact=self.exact,
            means=_MEANS.get(config.optimizer.name, "none"),
            together=together,
            batched=config.optimizer.name == "muon",
        )
        self.gradient = self.lowered.value_and_grad(0)
        self.rest = OnSlices(self._rest, donate=(0, 1, 2, 3)).on(self.home)

    def worth_apart(self) -> tuple[int, ...]:
        """Sparse layers that the cost model finds faster apart, by the counts of the last step."""
        return worth_apart(self.lowered, train=True)

    def training(self) -> Training:
        """The step with its canonical state."""
        config, task = self.config, self.task

        def read(state: State) -> tuple[dict[str, Array], State]:
            empty = jax.tree.map(jnp.zeros_like, state["interval"])
            return interval_metrics(config, task, state), empty

        metrics = jax.jit(read)

        def read_state(state: State):
            found, empty = metrics(fetch({"interval": state["interval"], "step": state["step"]}))
            return found, state | {"interval": self.home.put(empty)}

        def put(batch: dict[str, np.ndarray]) -> dict[str, AnyArray]:
            return self.home.put({name: batch[name] for name in self.blank})

        def start() -> State:
            state = initial_state(config, task, self.whole_optimizer)
            if not self.exact:
                state["expert_updates"] = {
                    name: jnp.zeros((layer.count,), jnp.int32)
                    for name, layer in self.layout.layers.items()
                }
            return state

        return Training(
            task=task,
            start=jax.jit(start, out_shardings=self.canon),
            step=self.step,
            put=put,
            read=read_state,
            home=self.canon,
            enter=self.enter,
            canonical=self.canonical,
            params=self.params,
        )

    def step(self, state: State, batch: dict[str, AnyArray]) -> tuple[State, AnyArray]:
        found = self.gradient(state["trained"], state["frozen"], batch, state["step"])
        (loss, (parts, sums)), grads = arrays(found)
        trained = state["trained"]
        apart = self._units(grads)
        shared, opt, counters, common, norm = self.rest(
            self._shared(trained),
            state["opt"],
            state["step"],
            state["interval"],
            self._shared(grads),
            self.optimizer.sum_of_squares(apart),
            parts,
            sums,
        )
        experts = self.optimizer.step(
            Experts(self._units(trained), state["moments"], state["counts"]), apart, common, norm
        )
        new = {
            "trained": shared | self._per_expert(experts.params),
            "frozen": state["frozen"],
            "opt": opt,
            "moments": experts.moments,
            "counts": experts.counts,
            **counters,
        }
        return new, loss

    def enter(self, state: State) -> State:
        """The canonical state with experts apart."""
        flat = flatten_dict(state["params"], sep="/")
        trained, frozen, *_ = self.lowered.split(*self._sorted(flat), self.blank, state["step"])
        opt, moments = self.layout.take_apart(state["opt_state"])
        counts = {}
        if not self.exact:
            updates = state["expert_updates"]
            counts = {(name, e): updates[name][e] for name, e in moments}
        own = {"opt": opt, "step": state["step"], "interval": state["interval"]}
        homes = {unit: self.slices[unit[1] % len(self.slices)] for unit in moments}
        return {
            "trained": trained,
            "frozen": frozen,
            # In buffers of their own, since a step gives them up.
            **self.home.put(jax.tree.map(jnp.copy, own)),
            "moments": {u: homes[u].put(m) for u, m in moments.items()},
            "counts": {u: homes[u].put(c) for u, c in counts.items()},
        }

    def params(self, state: State) -> Any:
        """The parameters as one tree of whole arrays on the first device of this process."""
        frozen, trained = fetch((state["frozen"], state["trained"]))
        return unflatten_dict(self._whole(frozen) | self._whole(trained), sep="/")

    def canonical(self, state: State) -> State:
        """The inverse of `enter`, bit for bit."""
        state = fetch(state)
        found = {
            "params": self.params(state),
            "opt_state": self.layout.put_together(state["opt"], state["moments"]),
            "step": state["step"],
            "interval": state["interval"],
        }
        if not self.exact:
            found["expert_updates"] = {
                name: jnp.stack(
                    jax.device_put(
                        [state["counts"][name, e] for e in range(layer.count)], self.canon
                    )
                )
                for name, layer in self.layout.layers.items()
            }
        return found

    def _loss(self, trained, frozen, batch, step):
        params = unflatten_dict(frozen | trained, sep="/")
        key = jax.random.fold_in(jax.random.key(self.config.seed), step)
        return self.objective(params, batch, key)

    def _rest(self, shared, opt, step, interval, grads, squares, parts, sums):
        """The update of everything but the experts, and what the experts' needs of it."""
        tree = unflatten_dict(shared, sep="/")
        norm = jnp.sqrt(sum(squares) + sum(jnp.sum(jnp.square(g)) for g in grads.values()))
        updates, new_opt = self.shared_optimizer(tree).update(
            unflatten_dict(grads, sep="/"), opt, tree, across=Across(norm)
        )
        new = optax.apply_updates(tree, updates)
        moved = balance_biases(tree, new, sums, self.task.routers, self.mask)
        counters = with_step(step, interval, parts, sums, norm)
        common = self.layout.common(opt)
        return flatten_dict(moved, sep="/"), new_opt, counters, common, norm

    def _optimizer_of(self, blocks: Blocks) -> Callable[[Any], Any]:
        base = make_optimizer(self.config.optimizer, self.config.steps, blocks)

        def make(tree):
            if not self.config.freeze:
                return base
            return leave_frozen(base, jax.tree.map(lambda _: True, tree))

        return make

    def _sorted(self, flat: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Trained and frozen parameters, by place."""
        return (
            {name: x for name, x in flat.items() if self.places[name]},
            {name: x for name, x in flat.items() if not self.places[name]},
        )

    def _shared(self, flat: Mapping[str, Any]) -> dict[str, AnyArray]:
        return {name: x for name, x in flat.items() if name not in self.experts}

    def _units(self, flat: Mapping[str, Any]) -> dict[Unit, list[AnyArray]]:
        """The arrays of each expert that is there, as `Experts.params` has them."""
        return {
            (name, e): [flat[leaf].arrays[e] for leaf in layer.leaves]
            for name, layer in self.layout.layers.items()
            for e in flat[layer.leaves[0]].arrays
        }

    def _per_expert(self, units: Mapping[Unit, list[AnyArray]]) -> dict[str, PerExpert]:
        return {
            leaf: PerExpert({e: units[name, e][number] for e in range(layer.count)}, layer.count)
            for name, layer in self.layout.layers.items()
            for number, leaf in enumerate(layer.leaves)
        }

    def _whole(self, flat: Mapping[str, Any]) -> dict[str, Array]:
        return {name: x.stacked() if isinstance(x, PerExpert) else x for name, x in flat.items()}
