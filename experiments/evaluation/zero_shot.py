"""Zero-shot classification: an image is named by the text whose embedding is nearest.

Normalise each prompt's embedding, average over the templates, normalise again: the
protocol of CLIP (Radford et al. 2021, sec. 3.1.4), open_clip and big_vision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from .metrics import TopK, label_ranks, similarities
from .text import Templates

EmbedImages = Callable[[np.ndarray], np.ndarray]
EmbedTexts = Callable[[list[str]], np.ndarray]


def normalised(vectors: Float[np.ndarray, "B F"], what: str) -> Float[np.ndarray, "B F"]:
    """Rows of length one, float32.

    Raises:
        ValueError: for a row that is zero or not finite, which has no direction; `what`
            names the rows in the message.
    """
    vectors = np.asarray(vectors, np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] == 0))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(vectors)} {what} embeddings are zero or not finite "
            f"(first at {int(bad[0])}); the model has diverged or the input is empty."
        )
    return vectors / length


def class_embeddings(
    embed_texts: EmbedTexts, names: Sequence[str], templates: Templates
) -> Float[np.ndarray, "N F"]:
    """One direction a class: the normalised mean of its prompts' normalised embeddings.

    Args:
        embed_texts: list of P texts -> (P, F).
        names: N class names.
        templates: filled with each name.

    Returns:
        (N, F) float32, rows of length one.

    Raises:
        ValueError: where embeddings have no direction, or there are no names.
    """
    if not names:
        raise ValueError("there are no class names to embed")
    prompts = [prompt for name in names for prompt in templates.prompts(name)]
    each = normalised(embed_texts(prompts), "text")
    mean = each.reshape(len(names), len(templates.templates), -1).mean(axis=1)
    return normalised(mean, "class")


def classify(
    batches: Iterable[dict[str, np.ndarray]],
    embed_images: EmbedImages,
    classes: Float[np.ndarray, "N F"],
    labels_of: Callable[[dict[str, np.ndarray]], Int[np.ndarray, "B A"]],
    ks: Sequence[int] = (1, 5),
) -> TopK:
    """Top-k accuracy over batches of the data contract, padding rows left out.

    Args:
        batches: each with `image` (B,S,S,3) uint8 and `mask` (B,) bool.
        embed_images: (B,S,S,3) uint8 -> (B, F).
        classes: (N, F) from `class_embeddings`.
        labels_of: a batch's (B, A) right classes, several allowed, padded with -1.
        ks: the k's.
    """
    state = TopK.empty(ks)
    for batch in batches:
        mask = np.asarray(batch["mask"], bool)
        scores = np.zeros((len(mask), len(classes)), np.float32)
        scores[mask] = similarities(
            normalised(embed_images(batch["image"])[mask], "image"), classes
        )
        ranks = label_ranks(scores, np.asarray(labels_of(batch)), mask)
        state += TopK.from_ranks(ranks, ks, mask)
    return state
