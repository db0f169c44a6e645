"""What the routers would do at the capacity of training, over examples never trained on.

Scores are dropless. Here alone a run is measured with the groups and capacity of training
(no noise), since that is where a collapse shows: tokens that find no slot, experts that
nobody asks for, a modality that is pushed out by the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...datasets import Examples, Tokenizer, draw_caption
from ...routing import RoutingSums, route_random, routing_statistics
from ..config import ContrastiveConfig, Experiment
from .routing_probes import probe_of


def paired_batches(
    examples: Examples, rows: np.ndarray, tokenizer: Tokenizer, config: ContrastiveConfig
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
    config: Experiment, params: Any, batches: Iterable[dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Routing statistics at the training capacity, of all batches together.

    Args:
        config: of the run, of any kind; a dense model has no layers to report.
        params: the model's parameters.
        batches: as training has them, of B examples, where B divides into groups; at most 16.7
            million tokens in all, for counts are float32.

    Returns:
        {"layers"}, and of a model with routed layers "groups" (G of a batch), "tokens" (n_m by
        modality), and where all layers share them "capacity_factor" and
        "capacity_over_real_tokens". A layer has
        "capacity_factor" (None where training is dropless), "capacity_over_real_tokens" (slots per
        wanted pair: above the former, which counts padding among the tokens of a group),
        "load" (E shares of the wanted pairs), "dead_experts" (those under 0.1/E), "max_load"
        (the largest load times E), "success_random" (share of tokens that a uniformly random
        router gives a slot to, at the same groups and capacity), and "modalities", of those
        that come there: name ->
        {"success" (share of tokens with a slot), "local_entropy", "global_entropy" (nats),
        "top_gate", "share" (of each expert's pairs, before drops)}.

    Raises:
        ValueError: no batch was given.
    """
    probe = probe_of(config)
    # Soft routing drops nothing, and chooses nothing.
    blocks = [str(block) for block in config.model.moe_layers]
    if all(probe.routers(block).router == "soft" for block in blocks):
        return {"layers": {}}
    run = _program(config)
    total: dict[str, RoutingSums] = {}
    luck: dict[str, np.ndarray] = {}
    groups = 0
    for number, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(0), number)
        arrays = {name: batch[name] for name in probe.inputs}
        found, chance = run(params, arrays, key)
        groups = probe.groups(len(arrays[probe.inputs[0]]))
        for name, sums in found.items():
            total[name] = total[name].merge(sums) if name in total else sums
            luck[name] = luck.get(name, 0) + np.asarray(chance[name], np.int64)
    if not total:
        raise ValueError("no batch was given, so there is no routing to measure")
    # A tower's layers see its tokens alone.
    counts = np.max([np.asarray(sums.tokens) for sums in total.values()], axis=0)
    layers = {}
    for name, sums in total.items():
        moe, (served, real, slots) = probe.routers(name), luck[name]
        layers[name] = {
            "capacity_factor": moe.capacity_factor,
            "capacity_over_real_tokens": float(slots / (real * moe.chosen)),
            **_layer(sums, probe.modalities),
            "success_random": float(served / real),
        }
    result: dict[str, Any] = {
        "groups": groups,
        "tokens": {name: int(n) for name, n in zip(probe.modalities, counts, strict=True)},
    }
    for key in ("capacity_factor", "capacity_over_real_tokens"):
        first, *others = (layer[key] for layer in layers.values())
        if all(other == first for other in others):
            result[key] = first
    return {**result, "layers": layers}


@functools.lru_cache(maxsize=4)
def _program(config: Experiment) -> Callable[..., tuple[dict[str, RoutingSums], dict]]:
    """(params, batch, key) -> per layer the sums, and (tokens that a random router serves, tokens,
    slots)."""
    probe = probe_of(config)

    @jax.jit
    def run(params: Any, batch: dict[str, jax.Array], key: jax.Array):
        groups = probe.groups(batch[probe.inputs[0]].shape[0])
        # Heard by a router that draws its choices alone.
        out = probe.apply(params, batch, groups, jax.random.split(key, groups))
        chance = {}
        for name, made in out.assignments.items():
            tokens, chosen = probe.tokens(batch, name, groups), probe.routers(name).chosen
            drawn = route_random(
                key, tokens, made.num_experts, selected=chosen, capacity=made.capacity
            ).assignment
            served = drawn.kept.reshape(*tokens.shape, -1).any(axis=-1)
            slots = tokens.sum() * chosen  # dropless: one for each pair
            if made.capacity is not None:
                slots = made.capacity * made.num_experts * tokens.shape[0]
            chance[name] = jnp.stack([served.sum(), tokens.sum(), jnp.asarray(slots)])
        return out.routing, chance

    return run


# As one program: by itself each of its many small operations would be compiled.
_statistics = jax.jit(routing_statistics)


def _layer(sums: RoutingSums, names: Sequence[str]) -> dict[str, Any]:
    derived = _statistics(sums)
    modalities = {
        name: {
            **{
                key: float(getattr(derived, key)[m])
                for key in ("success", "local_entropy", "global_entropy", "top_gate")
            },
            "share": np.asarray(derived.share)[m].tolist(),
        }
        for m, name in enumerate(names)
        if sums.tokens[m] > 0
    }
    load = np.asarray(derived.load)
    return {
        "load": load.tolist(),
        "dead_experts": np.flatnonzero(load < 0.1 / len(load)).tolist(),
        "max_load": float(derived.max_load),
        "modalities": modalities,
    }
