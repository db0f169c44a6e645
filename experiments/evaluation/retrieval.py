"""Image-text retrieval, both ways, with any-caption-hit semantics.

Image to text: the share of images for which *any* of their captions is among the k
nearest texts. Text to image: the share of texts for which an image they describe is among
the k nearest images. So reported for COCO and Flickr30k (Karpathy splits), k = 1, 5, 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from .metrics import TopK, distinct_rows, label_ranks


def pair_captions(
    captions: Sequence[Sequence[str]],
) -> tuple[list[str], Int[np.ndarray, "I A"], Int[np.ndarray, "P R"]]:
    """Distinct texts and who owns them.

    Equal captions of different images become one text that describes all of them: it is a
    hit for each, and finding any of its images is right. Kept apart, they would tie and
    punish a model for text that cannot be told apart.

    Args:
        captions: for each of I images its captions (at least one).

    Returns:
        P distinct texts in order of first appearance; (I, A) int64 texts of each image and
        (P, R) int64 images of each text, both padded with -1.

    Raises:
        ValueError: for an image without captions.
    """
    index: dict[str, int] = {}
    texts_of: list[list[int]] = []
    for image, own in enumerate(captions):
        if not own:
            raise ValueError(f"image {image} has no caption; leave it out or caption it")
        texts_of.append(sorted({index.setdefault(text, len(index)) for text in own}))
    images_of: list[list[int]] = [[] for _ in index]
    for image, texts in enumerate(texts_of):
        for text in texts:
            images_of[text].append(image)
    return list(index), _padded(texts_of), _padded(images_of)


def _padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "rows A"]:
    table = np.full((len(rows), max(len(row) for row in rows)), -1, np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def retrieval_recall(
    images: Float[np.ndarray, "I F"],
    texts: Float[np.ndarray, "P F"],
    texts_of: Int[np.ndarray, "I A"],
    images_of: Int[np.ndarray, "P R"],
    ks: Sequence[int] = (1, 5, 10),
    rows: int = 1024,
) -> tuple[TopK, TopK]:
    """Recall states of (image to text, text to image).

    Args:
        images, texts: (I, F) and (P, F) embeddings, normalised.
        texts_of, images_of: right answers, from `pair_captions`.
        ks: the k's.
        rows: queries compared at a time, which bounds memory and changes nothing else.
    """
    return (
        _recall(images, texts, texts_of, ks, rows),
        _recall(texts, images, images_of, ks, rows),
    )


def _recall(queries, gallery, right, ks, rows) -> TopK:
    state = TopK.empty(ks)
    for part, scores in score_chunks(queries, gallery, rows):
        state += TopK.from_ranks(label_ranks(scores, right[part]), ks)
    return state


def score_chunks(
    queries: Float[np.ndarray, "Q F"], gallery: Float[np.ndarray, "N F"], rows: int
) -> Iterator[tuple[slice, Float[np.ndarray, "n N"]]]:
    """As `similarities`, so many queries at a time; the gallery is looked through once."""
    distinct, of = distinct_rows(gallery)
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        scores = queries[part] @ distinct.T
        yield part, scores[:, of] if len(distinct) < len(gallery) else scores
