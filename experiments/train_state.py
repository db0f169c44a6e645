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

from ..models import MODALITIES, Limoe
from ..routing import flat_statistics
from .config import ExperimentConfig
from .errors import ConfigError
from .loss_free import balance_biases
from .objective import objective
from .optimizer import learning_rate, make_optimizer

State = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Training:
    """What a run needs on its devices.

    Attributes:
        model: the module.
        start: seed -> the state at step 0: `params`, `opt_state`, `step`, and `interval`, sums
            of the metrics since the last metric line.
        step: (state, batch) -> (state, loss); compiled, and the state is donated.
        put: a NumPy batch -> on the devices, sharded along B.
        read: state -> the metrics since the last call, and the state with an empty `interval`.
    """

    model: Limoe
    start: Callable[[], State]
    step: Callable[[State, dict[str, Array]], tuple[State, Array]]
    put: Callable[[dict[str, np.ndarray]], dict[str, Array]]
    read: Callable[[State], tuple[dict[str, Array], State]]


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


def prepare(config: ExperimentConfig) -> Training:
    """Builds the model, its optimiser and the sharded step; compiles nothing yet.

    Raises:
        ConfigError: the devices are not there, or do not divide the batch.
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
    model = Limoe(config.model)
    optimizer = make_optimizer(config.optimizer, config.steps)

    def start() -> State:
        params = initial_params(config)
        state = {
            "params": params,
            "opt_state": optimizer.init(params),
            "step": jnp.zeros((), jnp.int32),
        }
        return state | {"interval": empty_interval(config, params)}

    def step(state: State, batch: dict[str, Array]) -> tuple[State, Array]:
        # Noise depends on seed and step alone, so that a resumed run draws the same.
        key = jax.random.fold_in(jax.random.key(config.seed), state["step"])
        gradient = jax.value_and_grad(
            lambda params: objective(model, params, batch, key, config), has_aux=True
        )
        (loss, (parts, sums)), grads = gradient(state["params"])
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        parts["grad_norm"] = optax.tree.norm(grads)
        one = {"parts": parts, "routing": sums, "steps": jnp.ones(())}
        interval = jax.tree.map(jnp.add, state["interval"], one)
        params = optax.apply_updates(state["params"], updates)
        new = {
            "params": balance_biases(state["params"], params, sums, config.model.moe),
            "opt_state": opt_state,
            "step": state["step"] + 1,
            "interval": interval,
        }
        return new, loss

    def put(batch: dict[str, np.ndarray]) -> dict[str, Array]:
        return jax.device_put({k: batch[k] for k in ("image", "text", "text_mask")}, along_batch)

    def read(state: State) -> tuple[dict[str, Array], State]:
        empty = jax.tree.map(jnp.zeros_like, state["interval"])
        return interval_metrics(config, state), state | {"interval": empty}

    return Training(
        model=model,
        start=jax.jit(start, out_shardings=whole),
        step=jax.jit(step, donate_argnums=0, out_shardings=(whole, whole)),
        put=put,
        read=jax.jit(read, donate_argnums=0, out_shardings=whole),
    )


def example_inputs(config: ExperimentConfig) -> tuple[Array, Array, Array]:
    """Two empty rows, as the model takes them: to make parameters and count things."""
    model = config.model
    side = model.image_size
    images = jnp.zeros((2, side, side, 3), jnp.uint8)
    text = jnp.zeros((2, model.text_length), jnp.int32)
    return images, text, jnp.ones(text.shape, bool)


def initial_params(config: ExperimentConfig) -> Any:
    """Fresh float32 parameters, drawn from the config's seed."""
    key = jax.random.key(config.seed)
    params = Limoe(config.model).init(key, *example_inputs(config))["params"]
    if config.loss.contrastive == "sigmoid":
        # SigLIP's start: nearly all pairs are negatives (arXiv 2303.15343, section 3.2).
        params["sigmoid_bias"] = jnp.asarray(-10.0)
    return params


def empty_interval(config: ExperimentConfig, params: Any) -> dict[str, Any]:
    """Zeros with the structure of one step's metrics; under jit, only their shapes are used."""
    images, text, mask = example_inputs(config)
    batch = {
        name: jnp.zeros((config.batch_size, *like.shape[1:]), like.dtype)
        for name, like in (("image", images), ("text", text), ("text_mask", mask))
    }
    _, (parts, sums) = objective(Limoe(config.model), params, batch, jax.random.key(0), config)
    parts["grad_norm"] = jnp.zeros(())
    steps = jnp.ones(())
    return jax.tree.map(jnp.zeros_like, {"parts": parts, "routing": sums, "steps": steps})


def interval_metrics(config: ExperimentConfig, state: State) -> dict[str, Array]:
    """The metrics since the last line: means of losses, statistics of all the tokens."""
    interval = state["interval"]
    metrics = {name: total / interval["steps"] for name, total in interval["parts"].items()}
    rate = learning_rate(config.optimizer, config.steps)
    metrics["lr"] = jnp.asarray(rate(state["step"] - 1), jnp.float32)
    for layer, sums in interval["routing"].items():
        for name, value in flat_statistics(sums, MODALITIES).items():
            metrics[f"routing/{layer}/{name}"] = value
    return metrics
