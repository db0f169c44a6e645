"""optax optimisers and schedules, chosen by config."""

from __future__ import annotations

from typing import Any

import jax
import optax
from optax import contrib

from .across_experts import Blocks
from .config import OptimizerConfig
from .palm_optimizer import palm_learning_rate, palm_optimizer

Params = Any


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then `cosine`, `linear` or `rsqrt`.

    The former two reach `final_lr` after the last step, which itself is taken at a little more.
    `rsqrt` is lr · sqrt(warmup / step), the inverse square root of PaLM and V-MoE's 15B.
    """
    if config.name == "palm":
        return palm_learning_rate(config.lr, max(1, config.warmup))
    warm = max(1, min(config.warmup, steps))
    rest = max(1, steps - warm)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(config.lr, rest, config.final_lr)
    elif config.schedule == "linear":
        after = optax.linear_schedule(config.lr, config.lr * config.final_lr, rest)
    else:
        after = lambda step: config.lr * (warm / (step + warm)) ** 0.5  # noqa: E731
    # From one part of the warm-up, not from zero: the first step should count.
    ramp = optax.linear_schedule(config.lr / warm, config.lr, warm)
    return optax.join_schedules([ramp, after], [warm])


def make_optimizer(
    config: OptimizerConfig, steps: int, blocks: Blocks | None = None
) -> optax.GradientTransformation:
    """The optimiser of a run.

    `muon`: hidden matrices (attention, MLPs; each expert's on its own) by Muon (Jordan 2024),
    everything else by Adam at `adam_lr`. `adamw` and `adafactor` are optax's, `palm` is
    `palm_optimizer`. Weight decay is decoupled and on kernels only, of `muon` on those alone
    that Muon updates; `palm`'s is its own.
    The state has the same structure with any `blocks`, which are optax's own unless given.
    """
    blocks = blocks or Blocks()
    if config.name == "palm":
        steady = max(1, config.warmup)
        return palm_optimizer(
            config.lr, steady, momentum=config.b1, clip=config.clip, blocks=blocks
        )
    rate = learning_rate(config, steps)
    if config.name == "muon":
        ratio = config.adam_lr / config.lr
        optimizer = contrib.muon(
            rate,
            ns_steps=config.ns_steps,
            weight_decay=config.weight_decay,
            weight_decay_mask=decayed,
            muon_weight_dimension_numbers=matrices,
            adam_b1=config.b1,
            adam_b2=config.b2,
            adam_learning_rate=lambda step: rate(step) * ratio,
        )
    elif config.name == "adamw":
        optimizer = optax.adamw(
            rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=decayed
        )
    else:
        # `optax.adafactor` with its defaults, in parts of which some may be given.
        optimizer = optax.chain(
            optax.scale_by_factored_rms(),
            blocks.clip_by_block_rms(1.0),
            optax.scale_by_learning_rate(rate, flip_sign=False),
            blocks.scale_by_param_block_rms(1e-3),
            optax.add_decayed_weights(config.weight_decay, mask=decayed),
            optax.scale(-1),
        )
    if config.clip:
        optimizer = optax.chain(blocks.clip_by_global_norm(config.clip), optimizer)
    return optimizer


def decayed(params: Params) -> Params:
    """True for kernels, false for biases, norms, positions and single numbers."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def matrices(params: Params) -> Params:
    """Muon's axes of each hidden matrix; None, which is Adam, for the rest.

    An expert's matrix (E, D, H) is a matrix per expert. Heads are flattened: a projection to
    heads (D, heads, F) is one matrix of D by heads · F.
    """

    def axes(path: tuple, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        names = [part.key for part in path]
        if names[-1] != "kernel" or "Encoder" not in names or "Router" in names:
            return None
        if "SelfAttention" in names:
            inputs = (0, 1) if "out" in names else (0,)
            return contrib.MuonDimensionNumbers(
                inputs, tuple(axis for axis in range(leaf.ndim) if axis not in inputs)
            )
        return contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)
