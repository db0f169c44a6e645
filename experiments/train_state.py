"""The state of training and the one compiled step that changes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from ..routing import flat_statistics
from .config import Experiment
from .errors import ConfigError
from .freezing import leave_frozen, stop_frozen, trained_mask
from .loss_free import balance_biases
from .objective import Parts
from .optimizer import learning_rate, make_optimizer
from .task import Task
from .tasks import task_of

State = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Training:
    """What a run needs on its devices.

    Attributes:
        task: what is trained.
        start: seed -> the state at step 0: `params`, `opt_state`, `step`, and `interval`, sums
            of the metrics since the last metric line.
        step: (state, batch) -> (state, loss); compiled, and the state is donated.
        put: a NumPy batch -> on the devices, sharded along B.
        read: state -> the metrics since the last call, and the state with an empty `interval`.
        home: where the canonical state is.
        enter: the canonical state, which `start` gives and checkpoints hold -> the one that `step`,
            `read` and the rest take.
        canonical: its inverse, bit for bit.
        params: such a state -> the parameters, (E, …) where they are of experts.
    """

    task: Task
    start: Callable[[], State]
    step: Callable[[State, dict[str, Array]], tuple[State, Array]]
    put: Callable[[dict[str, np.ndarray]], dict[str, Array]]
    read: Callable[[State], tuple[dict[str, Array], State]]
    home: jax.sharding.Sharding
    enter: Callable[[State], State] = lambda state: state
    canonical: Callable[[State], State] = lambda state: state
    params: Callable[[State], Any] = lambda state: state["params"]


def local_mesh(devices: int) -> Mesh:
    """A mesh `("data",)` over the first local devices; 0 takes them all.

    Raises:
        ConfigError: fewer devices are there.
    """
    there = jax.local_devices()
    if devices > len(there):
        raise ConfigError(
            [f"devices={devices}, but this process has {len(there)}: lower --devices, or use 0"]
        )
    return Mesh(np.array(there[: devices or None]), ("data",))


def prepare(config: Experiment) -> Training:
    """Builds the model, its optimiser and the sharded step; compiles nothing yet.

    Raises:
        ConfigError: the devices are not there, or do not divide the batch; a frozen place is not
            in the model.
    """
    mesh = local_mesh(config.devices)
    count = mesh.devices.size
    if config.batch_size % count:
        raise ConfigError(
            [
                f"batch_size={config.batch_size} does not divide among {count} devices: "
                "take a multiple, or fewer --devices"
            ]
        )
    whole = NamedSharding(mesh, PartitionSpec())
    along_batch = NamedSharding(mesh, PartitionSpec("data"))
    task = task_of(config)
    optimizer, trained = whole_optimizer(config)

    def moving(params: Any) -> Any:
        return params if trained is None else stop_frozen(params, trained)

    def step(state: State, batch: dict[str, Array]) -> tuple[State, Array]:
        # Noise depends on seed and step alone, so that a resumed run draws the same.
        key = jax.random.fold_in(jax.random.key(config.seed), state["step"])
        gradient = jax.value_and_grad(
            lambda params: task.objective(moving(params), batch, key), has_aux=True
        )
        (loss, (parts, sums)), grads = gradient(state["params"])
        return updated(task, optimizer, state, grads, parts, sums, trained), loss

    inputs = tuple(jax.eval_shape(lambda: task.blank(1)))

    def put(batch: dict[str, np.ndarray]) -> dict[str, Array]:
        return jax.device_put({name: batch[name] for name in inputs}, along_batch)

    def read(state: State) -> tuple[dict[str, Array], State]:
        empty = jax.tree.map(jnp.zeros_like, state["interval"])
        return interval_metrics(config, task, state), state | {"interval": empty}

    return Training(
        task=task,
        start=jax.jit(lambda: initial_state(config, task, optimizer), out_shardings=whole),
        step=jax.jit(step, donate_argnums=0, out_shardings=(whole, whole)),
        put=put,
        read=jax.jit(read, donate_argnums=0, out_shardings=whole),
        home=whole,
    )


def initial_params(config: Experiment) -> Any:
    """Fresh float32 parameters, drawn from the config's seed."""
    return task_of(config).init(jax.random.key(config.seed))


def whole_optimizer(config: Experiment) -> tuple[optax.GradientTransformation, Any]:
    """The optimiser of all parameters, and which of them are trained; None is all."""
    optimizer = make_optimizer(config.optimizer, config.steps)
    if not config.freeze:
        return optimizer, None
    shapes = jax.eval_shape(lambda: initial_params(config))
    trained = trained_mask(shapes, config.freeze)
    return leave_frozen(optimizer, trained), trained


def initial_state(config: Experiment, task: Task, optimizer: optax.GradientTransformation) -> State:
    """The canonical state at step 0."""
    params = initial_params(config)
    state = {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }
    return state | {"interval": empty_interval(task, params, config.batch_size)}


def updated(
    task: Task,
    optimizer: optax.GradientTransformation,
    state: State,
    grads: Any,
    parts: Parts,
    sums: Any,
    trained: Any,
) -> State:
    """The canonical state after a step with such gradients.

    Args:
        parts, sums: of the objective that the gradients are of.
        trained: as `whole_optimizer` gives it.
    """
    updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
    norm = optax.tree.norm(grads)
    params = optax.apply_updates(state["params"], updates)
    return {
        "params": balance_biases(state["params"], params, sums, task.routers, trained),
        "opt_state": opt_state,
        **with_step(state["step"], state["interval"], parts, sums, norm),
    }


def with_step(
    step: Array, interval: dict[str, Any], parts: Parts, sums: Any, norm: Array
) -> dict[str, Any]:
    """The state's counters with one more step in them."""
    one = {"parts": parts | {"grad_norm": norm}, "routing": sums, "steps": jnp.ones(())}
    return {"step": step + 1, "interval": jax.tree.map(jnp.add, interval, one)}


def empty_interval(task: Task, params: Any, batch_size: int) -> dict[str, Any]:
    """Zeros with the structure of one step's metrics; under jit, only their shapes are used."""
    _, (parts, sums) = task.objective(params, task.blank(batch_size), jax.random.key(0))
    parts["grad_norm"] = jnp.zeros(())
    steps = jnp.ones(())
    return jax.tree.map(jnp.zeros_like, {"parts": parts, "routing": sums, "steps": steps})


def interval_metrics(config: Experiment, task: Task, state: State) -> dict[str, Array]:
    """The metrics since the last line: means of losses, statistics of all the tokens."""
    interval = state["interval"]
    metrics = {name: total / interval["steps"] for name, total in interval["parts"].items()}
    rate = learning_rate(config.optimizer, config.steps)
    metrics["lr"] = jnp.asarray(rate(state["step"] - 1), jnp.float32)
    for layer, sums in interval["routing"].items():
        absent = tuple(f"/{name}" for name in task.modalities if name not in task.seen(layer))
        for name, value in flat_statistics(sums, task.modalities).items():
            if not name.endswith(absent):
                metrics[f"routing/{layer}/{name}"] = value
    return metrics
