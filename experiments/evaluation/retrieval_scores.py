"""Retrieval between the images and the captions of any split, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...datasets import EvaluationSplit
from ..errors import UsageError
from .baselines import chance_top_k
from .embedder import Embedder
from .metrics import TopK
from .questions import check_captions
from .retrieval import pair_captions, score_chunks
from .score_protocol import ScoreProtocol, padded, ranks_of
from .text import content_hash
from .zero_shot import normalised

_KS = (1, 5, 10)
_BATCH = 128
# Queries compared at a time; bounds memory and changes nothing else.
_ROWS = 1024


def score_retrieval(
    embedder: Embedder, split: EvaluationSplit, protocol: ScoreProtocol, limit: int | None = None
) -> dict[str, Any]:
    """R@1, 5 and 10: image to text, any of the image's captions; text to image.

    Rows without a caption are left out, and counted.

    Raises:
        UsageError: no row has a caption.
        RecordError: a picture that does not decode.
        ValueError: embeddings without direction.
    """
    check_captions(split)
    images: list[np.ndarray] = []
    captions: list[list[str]] = []

    def batches():
        for batch, rows in split.batches(_BATCH, embedder.image_size, protocol.resize, limit):
            for row in rows:
                own = (protocol.caption(text) for text in row.captions)
                captions.append([text for text in own if text])
            yield batch

    for found in embedder.images(batches()):
        images.append(normalised(found, "image"))
    kept = np.array([bool(own) for own in captions], bool)
    if not kept.any():
        raise UsageError(f"no row of {split.split} of {split.name} has a caption")
    texts, texts_of, images_of = paired([own for own in captions if own], protocol)
    distinct = list(dict.fromkeys(texts))
    at = {text: number for number, text in enumerate(distinct)}
    vectors = normalised(embedder.texts(distinct), "text")[[at[text] for text in texts]]
    rows = np.concatenate(images)[kept]
    return {
        "scores": {
            "image_to_text": _recall(rows, vectors, texts_of, protocol),
            "text_to_image": _recall(vectors, rows, images_of, protocol),
        },
        "chance": {
            "image_to_text": _chance(texts_of, len(vectors)),
            "text_to_image": _chance(images_of, len(rows)),
        },
        "images": len(rows),
        "texts": len(texts),
        "captions_sha256": content_hash(texts),
        "uncaptioned": int(np.sum(~kept)),
    }


def paired(
    captions: Sequence[Sequence[str]], protocol: ScoreProtocol
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts, the (I, A) texts of each image and the (P, R) images of each, padded with -1."""
    if protocol.equal_captions == "one":
        return pair_captions(captions)
    texts = [text for own in captions for text in own]
    ends = np.cumsum([len(own) for own in captions])
    texts_of = [list(range(end - len(own), end)) for own, end in zip(captions, ends, strict=True)]
    images_of = [[image] for image, own in enumerate(captions) for _ in own]
    return texts, padded(texts_of), padded(images_of)


def _recall(
    queries: np.ndarray, gallery: np.ndarray, right: np.ndarray, protocol: ScoreProtocol
) -> dict[str, Any]:
    ks = tuple(k for k in _KS if k <= len(gallery))
    state = TopK.empty(ks)
    for part, scores in score_chunks(queries, gallery, _ROWS):
        state += TopK.from_ranks(ranks_of(scores, right[part], protocol.ties), ks)
    return {**state.fractions("r"), "n": state.count, "candidates": len(gallery)}


def _chance(right: np.ndarray, candidates: int) -> dict[str, float]:
    ks = tuple(k for k in _KS if k <= candidates)
    return chance_top_k(candidates, ks, np.sum(right >= 0, axis=1).tolist(), "r")
