"""A LIMoE's zero-shot score evaluated as one should not: with capacity limits, and routed padding.

Everything else is the protocol of docs/evaluation.md: Noto's drawings, all object names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ....datasets import load_data
from ....models import Moe
from ...contrastive import pair_model
from ...evaluation.demo import object_candidates
from ...evaluation.evaluate import emoji_art
from ...evaluation.metrics import TopK, label_ranks
from ...evaluation.text import load_templates
from ...library import Run, load

_BATCH = 128
_ARTIST = "noto"


def probe(folder: Path) -> dict[str, float]:
    """Top-1 of Noto's object drawings: `dropless` and masked; at C = 1 in batches of 128, one
    group each, `ordered` as the data set is, kind by kind, and `shuffled`; `unmasked`: shuffled at
    C = 1, with padding of texts, and of the last batch, routed as if it were real.
    """
    run = load(folder)
    examples = load_data(emoji_art(run.config.data), run.config.model.image_size)
    candidates = object_candidates(examples.concepts, load_templates("label"))
    rows = examples.rows(artist=_ARTIST)
    rows = rows[candidates.of_concept[examples.concept[rows]] >= 0]
    images, target = examples.images(rows), candidates.of_concept[examples.concept[rows]]
    ids, real = run.tokenizer.encode(list(candidates.names), run.config.model.text_length)
    draw = np.random.default_rng(0)
    some, others = draw.permutation(len(images)), draw.permutation(len(ids))

    def top(factor: float | None, mixed: bool, routed: bool = False) -> float:
        embed = _embedder(run, factor, routed)
        order, words = (some, others) if mixed else (np.arange(len(images)), np.arange(len(ids)))
        seen = _undo(_in_batches(embed, len(images), lambda part: (images[order][part],)), order)
        read = _undo(
            _in_batches(embed, len(ids), lambda part: (ids[words][part], real[words][part])), words
        )
        ranks = label_ranks(seen @ read.T, target[:, None])
        return TopK.from_ranks(ranks, (1,)).fractions()["top1"]

    return {
        "dropless": top(None, mixed=False),
        "ordered": top(1.0, mixed=False),
        "shuffled": top(1.0, mixed=True),
        "unmasked": top(1.0, mixed=True, routed=True),
    }


def _embedder(run: Run, factor: float | None, routed: bool) -> Callable[..., jax.Array]:
    """One batch of images, or of texts with which pieces are real, and the mask of rows."""
    moe = dataclasses.replace(run.config.model.moe, eval_capacity_factor=factor)
    model = pair_model(dataclasses.replace(run.config.model, moe=moe))

    def everything(next_method: Any, arguments: Any, options: Any, context: Any) -> Any:
        if isinstance(context.module, Moe) and context.method_name == "__call__":
            tokens, mask, *rest = arguments
            return next_method(tokens, jnp.ones_like(mask), *rest, **options)
        return next_method(*arguments, **options)

    def apply(pixels: Any, ids: Any, real: Any, mask: Any) -> jax.Array:
        found = model.apply({"params": run.params}, pixels, ids, real, mask)
        return found.image if ids is None else found.text  # pyright: ignore

    @jax.jit
    def embed(*given: Any) -> jax.Array:
        *arrays, mask = given
        row = (arrays[0], None, None, mask) if len(arrays) == 1 else (None, *arrays, mask)
        if not routed:
            return apply(*row)
        with nn.intercept_methods(everything):
            return apply(*row)

    return embed


def _in_batches(
    embed: Callable[..., jax.Array], count: int, part: Callable[[slice], tuple[np.ndarray, ...]]
) -> Float[np.ndarray, "n F"]:
    found = []
    for start in range(0, count, _BATCH):
        arrays = part(slice(start, start + _BATCH))
        rows = len(arrays[0])
        filled = [np.pad(a, [(0, _BATCH - rows)] + [(0, 0)] * (a.ndim - 1)) for a in arrays]
        found.append(np.asarray(embed(*filled, np.arange(_BATCH) < rows))[:rows])
    return np.concatenate(found)


def _undo(embedded: Float[np.ndarray, "n F"], order: np.ndarray) -> Float[np.ndarray, "n F"]:
    back = np.empty_like(embedded)
    back[order] = embedded
    return back
