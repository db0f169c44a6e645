"""The emoji-art protocol: name the drawings of an artist that was never seen in training.

Every image is ranked against the *same full list* of object names, whether its concept was
seen in training (drawn by other artists) or held out of it altogether; the two shares are
reported apart. Concepts whose canonical names are equal are one candidate: text cannot
tell them apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, UInt8

from .baselines import chance_top_k
from .confidence import top_probabilities
from .metrics import TopK, label_ranks, top_candidates
from .retrieval import pair_captions, retrieval_recall
from .text import Templates
from .zero_shot import normalised

KS = (1, 5)
RETRIEVAL_KS = (1, 5, 10)


@runtime_checkable
class ConceptRow(Protocol):
    """What the protocol needs to know of a concept (a row of the data set's table)."""

    @property
    def label(self) -> str: ...
    @property
    def keywords(self) -> Sequence[str]: ...
    @property
    def is_object(self) -> bool: ...
    @property
    def held_out(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The full list that every image is ranked against.

    Attributes:
        names: N distinct canonical names of the object concepts.
        of_concept: candidate of each concept of the table, -1 for those not on the list.
        held_out: whether all concepts of the name are held out of training.
    """

    names: tuple[str, ...]
    of_concept: Int64[np.ndarray, "concepts"]
    held_out: Bool[np.ndarray, "N"]


def object_candidates(concepts: Sequence[ConceptRow], templates: Templates) -> Candidates:
    """The names of all object concepts, equal ones joined, in the table's order."""
    canonical = templates.canonical_names([concept.label for concept in concepts])
    index: dict[str, int] = {}
    of_concept = np.full(len(concepts), -1, np.int64)
    held_out: list[bool] = []
    for row, (concept, name) in enumerate(zip(concepts, canonical, strict=True)):
        if not concept.is_object:
            continue
        if name not in index:
            index[name] = len(index)
            held_out.append(True)
        of_concept[row] = index[name]
        held_out[index[name]] &= concept.held_out
    return Candidates(tuple(index), of_concept, np.array(held_out, bool))


@dataclasses.dataclass(frozen=True)
class Drawings:
    """Embedded images of one artist, padding already left out.

    Attributes:
        images: as the data set holds them.
        embeddings: rows of length one.
        concepts: rows of the concept table.
        ids: the data set's identifiers.
    """

    images: UInt8[np.ndarray, "I S S 3"]
    embeddings: Float[np.ndarray, "I F"]
    concepts: Int64[np.ndarray, "I"]
    ids: Int64[np.ndarray, "I"]


def embed_drawings(
    batches: Iterable[dict[str, np.ndarray]],
    embed_images: Callable[[np.ndarray], np.ndarray],
    wanted: Callable[[Int64[np.ndarray, "B"]], Bool[np.ndarray, "B"]],
) -> Drawings:
    """Embeds the batches' valid images whose concepts are `wanted`.

    Args:
        batches: of the data contract: `image`, `mask`, `concept`, `id`.
        embed_images: (B,S,S,3) uint8 -> (B, F); gets whole batches, so one shape compiles.
        wanted: concepts -> which of them to keep.
    """
    images, embeddings, concepts, ids = [], [], [], []
    for batch in batches:
        concept = np.asarray(batch["concept"], np.int64)
        keep = np.array(batch["mask"], bool)  # A copy: it is narrowed below.
        keep[keep] = wanted(concept[keep])
        if not keep.any():
            continue
        images.append(np.asarray(batch["image"])[keep])
        embeddings.append(normalised(np.asarray(embed_images(batch["image"]))[keep], "image"))
        concepts.append(concept[keep])
        ids.append(np.asarray(batch["id"], np.int64)[keep])
    if not embeddings:
        raise ValueError("no image of the split shows a wanted concept; is the data whole?")
    return Drawings(*(np.concatenate(part) for part in (images, embeddings, concepts, ids)))


def scores_by_share(
    scores: Float[np.ndarray, "I N"],
    concepts: Int64[np.ndarray, "I"],
    candidates: Candidates,
    concept_held_out: Bool[np.ndarray, "concepts"],
) -> dict[str, dict[str, Any]]:
    """Top-1 and top-5 over all images, over seen and over held-out concepts.

    The fourth row, `held_out_among_held_out`, ranks held-out concepts against one another
    only: an easier list, for comparison, whose chance is accordingly higher.

    Returns:
        share -> {"top1", "top5" (fractions), "n" (images), "candidates"}; a share without
        images is left out.
    """
    target = candidates.of_concept[concepts]
    ranks = label_ranks(scores, target[:, None])
    held_out = concept_held_out[concepts]
    rows = {"all": np.ones(len(ranks), bool), "seen": ~held_out, "held_out": held_out}
    result = {}
    for share, rows_of in rows.items():
        if rows_of.any():
            state = TopK.from_ranks(ranks, KS, rows_of)
            result[share] = _entry(state, len(candidates.names))
    among = held_out & candidates.held_out[target]
    if among.any():
        position = np.cumsum(candidates.held_out) - 1
        few = label_ranks(scores[among][:, candidates.held_out], position[target[among]][:, None])
        count = int(candidates.held_out.sum())
        result["held_out_among_held_out"] = _entry(TopK.from_ranks(few, KS), count)
    return result


def _entry(state: TopK, candidates: int, name: str = "top") -> dict[str, Any]:
    return {**state.fractions(name), "n": state.count, "candidates": candidates}


def chance_by_share(shares: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a random ranking gets on the same images and lists."""
    return {
        share: {
            **chance_top_k(entry["candidates"], KS),
            "n": entry["n"],
            "candidates": entry["candidates"],
        }
        for share, entry in shares.items()
    }


def predictions(
    scores: Float[np.ndarray, "I N"],
    drawings: Drawings,
    candidates: Candidates,
    concept_held_out: Bool[np.ndarray, "concepts"],
    k: int = 5,
    scale: float | None = None,
) -> dict[str, list]:
    """Per image, what the report draws: the k nearest names with their scores.

    Args:
        scores: cosines with all candidates.
        drawings: the images.
        candidates: the names.
        concept_held_out: of each concept.
        k: names to keep.
        scale: inverse temperature; None where the model has none.

    Returns:
        Parallel lists over images: `id`, `concept`, `target` (candidate), `held_out`,
        `rank` (0 is right), `top` (k candidates, best first), `score` (their cosines) and, with
        a scale, `probability` (their softmax over all candidates).
    """
    target = candidates.of_concept[drawings.concepts]
    top = top_candidates(scores, k)
    cosine = np.take_along_axis(scores, top, axis=1)
    found = {
        "id": drawings.ids.tolist(),
        "concept": drawings.concepts.tolist(),
        "target": target.tolist(),
        "held_out": concept_held_out[drawings.concepts].tolist(),
        "rank": label_ranks(scores, target[:, None]).tolist(),
        "top": top.tolist(),
        "score": [[round(float(c), 4) for c in row] for row in cosine],
    }
    if scale is not None:
        sure = top_probabilities(scores, top, scale)
        found["probability"] = [[round(float(p), 4) for p in row] for row in sure]
    return found


def concept_captions(
    concepts: Sequence[ConceptRow], rows: Int64[np.ndarray, "I"], rule: Callable[[str], str]
) -> list[list[str]]:
    """Each image's captions for retrieval: its label, and its first four keywords.

    Both are of the form that training captions have (`draw_caption` of the data sets).
    """
    captions = []
    for row in rows:
        concept = concepts[int(row)]
        texts = [concept.label]
        if concept.keywords:
            texts.append(" ".join(concept.keywords[:4]))
        captions.append([rule(text) for text in texts])
    return captions


def retrieval_scores(
    drawings: Drawings,
    captions: Sequence[Sequence[str]],
    embed_texts: Callable[[list[str]], np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recall at 1, 5 and 10 both ways, and the same of a random ranking.

    Returns:
        (scores, chance), each {"image_to_text", "text_to_image"} of
        {"r1", "r5", "r10" (fractions), "n" (queries), "candidates"}.
    """
    texts, texts_of, images_of = pair_captions(captions)
    embedded = normalised(np.asarray(embed_texts(texts)), "caption")
    states = retrieval_recall(drawings.embeddings, embedded, texts_of, images_of, RETRIEVAL_KS)
    galleries = (len(texts), len(drawings.ids))
    scores, chance = {}, {}
    for way, state, size, right in zip(
        ("image_to_text", "text_to_image"), states, galleries, (texts_of, images_of), strict=True
    ):
        scores[way] = _entry(state, size, "r")
        counts: Int[np.ndarray, "queries"] = (right >= 0).sum(axis=1)
        chance[way] = {
            **chance_top_k(size, RETRIEVAL_KS, counts.tolist(), "r"),
            "n": state.count,
            "candidates": size,
        }
    return scores, chance
