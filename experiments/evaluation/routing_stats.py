"""What the routers would do at the capacity of training, over drawings never trained on.

Scores are dropless. Here alone a run is measured with the groups and capacity of training
(no noise), since that is where a collapse shows: tokens that find no slot, experts that
nobody asks for, a modality that is pushed out by the other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...datasets import Examples, Tokenizer, draw_caption
from ...models import MODALITIES, Limoe, join
from ...routing import RoutingSums, route_random, routing_statistics
from ..config import ExperimentConfig
from ..contrastive import count_groups


def paired_batches(
    examples: Examples, rows: np.ndarray, tokenizer: Tokenizer, config: ExperimentConfig
) -> Iterator[dict[str, np.ndarray]]:
    """Whole batches of drawings with captions, mixed as training mixes them.

    Rows are shuffled (seed 0): drawings of one kind in a row would meet in one group and
    crowd the same experts. Captions are drawn as in training, and drawings are of the kinds that
    the run was trained on (`data.objects_only`). A last ragged batch is left out, for its
    padding would leave slots free; fewer rows than one batch are repeated.

    Args:
        examples: the data set.
        rows: which of its rows.
        tokenizer: of the run.
        config: of the run.
    """
    rng = np.random.default_rng(0)
    size, share = config.batch_size, config.data.label_share
    if config.data.objects_only:
        objects = np.array([concept.is_object for concept in examples.concepts], bool)
        rows = rows[objects[examples.concept[rows]]]
    order = rng.permutation(rows)
    if len(order) < size:
        order = np.resize(order, size)
    for start in range(0, len(order) - size + 1, size):
        part = order[start : start + size]
        captions = [draw_caption(examples.concepts[c], rng, share) for c in examples.concept[part]]
        text, text_mask = tokenizer.encode(captions, config.model.text_length)
        yield {"image": examples.images(part), "text": text, "text_mask": text_mask}


def measure_routing(
    config: ExperimentConfig, params: Any, batches: Iterable[dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Routing statistics at the training capacity, of all batches together.

    Args:
        config: of the run; a dense model has no layers to report.
        params: the model's parameters.
        batches: of `image` (B,S,S,3), `text` (B,N), `text_mask` (B,N), where B divides into
            groups; at most 16.7 million tokens in all, for counts are float32.

    Returns:
        {"capacity_factor" (None where training is dropless), "groups" (G of a batch), "tokens"
        (n_m by name),
        "capacity_over_real_tokens" (slots per wanted pair: above "capacity_factor", which counts
        padding among the tokens of a group), "layers"}. A layer has
        "load" (E shares of the wanted pairs), "dead_experts" (those under 0.1/E), "max_load"
        (the largest load times E), "success_random" (share of tokens that a uniformly random
        router gives a slot to, at the same groups and capacity), and "modalities": name ->
        {"success" (share of tokens with a slot), "local_entropy", "global_entropy" (nats),
        "top_gate", "share" (of each expert's pairs, before drops)}.

    Raises:
        ValueError: no batch was given.
    """
    moe = config.model.moe
    result: dict[str, Any] = {"capacity_factor": moe.capacity_factor, "layers": {}}
    if not config.model.moe_layers or moe.router == "soft":  # which drops nothing
        return result
    run = _program(config)
    wanted = ("image", "text", "text_mask")
    total: dict[str, RoutingSums] = {}
    luck: dict[str, np.ndarray] = {}
    groups = 0
    for number, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(0), number)
        found, chance = run(params, {k: batch[k] for k in wanted}, key)
        groups = count_groups(config.model, len(batch["image"]), 1)
        for name, sums in found.items():
            total[name] = total[name].merge(sums) if name in total else sums
            luck[name] = luck.get(name, 0) + np.asarray(chance[name], np.int64)
    if not total:
        raise ValueError("no batch was given, so there is no routing to measure")
    counts = next(iter(total.values())).tokens
    result["groups"] = groups
    result["tokens"] = {m: int(counts[i]) for i, m in enumerate(MODALITIES)}
    _, real, slots = next(iter(luck.values()))
    result["capacity_over_real_tokens"] = float(slots / (real * moe.chosen))
    result["layers"] = {
        name: {**_layer(sums), "success_random": float(luck[name][0] / luck[name][1])}
        for name, sums in total.items()
    }
    return result


@functools.lru_cache(maxsize=4)
def _program(config: ExperimentConfig) -> Callable[..., tuple[dict[str, RoutingSums], dict]]:
    """(params, batch, key) -> per layer the sums, and (tokens that a random router serves, tokens,
    slots)."""
    moe = config.model.moe
    quiet = dataclasses.replace(moe, noise_std=0.0)
    model = Limoe(dataclasses.replace(config.model, moe=quiet))

    @jax.jit
    def run(params: Any, batch: dict[str, jax.Array], key: jax.Array):
        groups = count_groups(config.model, batch["image"].shape[0], 1)
        patches = (config.model.image_size // config.model.patch_size) ** 2
        out = model.apply(
            {"params": params},
            batch["image"],
            batch["text"],
            batch["text_mask"],
            groups=groups,
            train=True,
        )
        found, chance = {}, {}
        for name, made in out.assignments.items():  # pyright: ignore
            tokens = _routed_tokens(batch, groups, patches)
            drawn = route_random(
                key, tokens, made.num_experts, selected=moe.chosen, capacity=made.capacity
            ).assignment
            served = drawn.kept.reshape(*tokens.shape, -1).any(axis=-1)
            found[name] = out.routing[name]  # pyright: ignore
            slots = tokens.sum() * moe.chosen  # dropless: one for each pair
            if made.capacity is not None:
                slots = made.capacity * made.num_experts * tokens.shape[0]
            chance[name] = jnp.stack([served.sum(), tokens.sum(), jnp.asarray(slots)])
        return found, chance

    return run


def _routed_tokens(batch: dict[str, jax.Array], groups: int, patches: int) -> jax.Array:
    """(G, T) bool: what the router sees, as the model lays it out."""
    drawn = jnp.ones((batch["image"].shape[0], patches), bool)
    return join([drawn, batch["text_mask"]], groups)


def _layer(sums: RoutingSums) -> dict[str, Any]:
    derived = routing_statistics(sums)
    modalities = {
        name: {
            **{
                key: float(getattr(derived, key)[m])
                for key in ("success", "local_entropy", "global_entropy", "top_gate")
            },
            "share": np.asarray(derived.share)[m].tolist(),
        }
        for m, name in enumerate(MODALITIES)
    }
    load = np.asarray(derived.load)
    return {
        "load": load.tolist(),
        "dead_experts": np.flatnonzero(load < 0.1 / len(load)).tolist(),
        "max_load": float(derived.max_load),
        "modalities": modalities,
    }
