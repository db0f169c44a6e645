"""The emoji-art protocol as a whole: two embedding functions in, scores and baselines out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from .baselines import dense_twin, pixel_scores
from .confidence import calibration_by_share
from .demo import (
    ConceptRow,
    chance_by_share,
    concept_captions,
    embed_drawings,
    object_candidates,
    predictions,
    retrieval_scores,
    scores_by_share,
)
from .metrics import similarities
from .text import CANONICAL, Templates, content_hash
from .zero_shot import EmbedImages, EmbedTexts, class_embeddings

# The artists that training never saw: two for the score, one to tune on.
TEST_ARTISTS = ("noto", "noto-v1")
VALIDATION_ARTIST = "emojione-v1"


@dataclasses.dataclass(frozen=True)
class DemoData:
    """What the emoji-art protocol reads.

    Attributes:
        concepts: the concept table.
        batches: artist -> its batches, in the data contract's form.
        training: drawings that training saw, (J,S,S,3) uint8, and their concepts (J,).
        held_out: the training artists' drawings of held-out concepts, which training did
            not see; for the harder pixel matcher only.
    """

    concepts: Sequence[ConceptRow]
    batches: Callable[[str], Iterable[dict[str, np.ndarray]]]
    training: tuple[UInt8[np.ndarray, "J S S 3"], Int[np.ndarray, "J"]]
    held_out: tuple[UInt8[np.ndarray, "H S S 3"], Int[np.ndarray, "H"]]


def evaluate_model(
    embed_images: EmbedImages,
    embed_texts: EmbedTexts,
    data: DemoData,
    templates: Templates,
    artists: Sequence[str] = (*TEST_ARTISTS, VALIDATION_ARTIST),
    scale: float | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs the whole protocol on two embedding functions.

    Args:
        embed_images: (n,S,S,3) uint8 -> (n,F).
        embed_texts: n texts -> (n,F).
        data: the drawings and the concept table.
        templates: prompts for the class names.
        artists: whose drawings to score.
        scale: the model's inverse temperature, for how sure it is of its names; None leaves
            that out. It changes no other score.

    Returns:
        The parts of `results.json` and `predictions.json` that a model decides.
    """
    candidates = object_candidates(data.concepts, templates)
    concept_held_out = np.array([concept.held_out for concept in data.concepts], bool)
    classes = class_embeddings(embed_texts, candidates.names, templates)
    rule = CANONICAL[templates.canonical]

    results: dict[str, Any] = {"retrieval": {}}
    baselines: dict[str, Any] = {
        "chance": {"retrieval": {}},
        "pixel_nearest_neighbour": {},
        "pixel_nearest_neighbour_with_held_out": {},
    }
    predicted: dict[str, Any] = {"names": list(candidates.names), "artists": {}}
    for artist in artists:
        drawings = embed_drawings(
            data.batches(artist), embed_images, lambda c: candidates.of_concept[c] >= 0
        )

        def share(scores, drawings=drawings):
            return scores_by_share(scores, drawings.concepts, candidates, concept_held_out)

        scores = similarities(drawings.embeddings, classes)
        results[artist] = share(scores)
        baselines["chance"][artist] = chance_by_share(results[artist])
        seen, more = (
            pixel_scores(
                drawings.images, images, candidates.of_concept[shown], len(candidates.names)
            )
            for images, shown in (data.training, data.held_out)
        )
        baselines["pixel_nearest_neighbour"][artist] = share(seen)
        with_more = share(np.maximum(seen, more))
        baselines["pixel_nearest_neighbour_with_held_out"][artist] = with_more
        captions = concept_captions(data.concepts, drawings.concepts, rule)
        found, chance = retrieval_scores(drawings, captions, embed_texts)
        results["retrieval"][artist] = found
        baselines["chance"]["retrieval"][artist] = chance
        if scale is not None:
            target = candidates.of_concept[drawings.concepts]
            held_out = concept_held_out[drawings.concepts]
            sure = calibration_by_share(scores, target, held_out, scale)
            results.setdefault("calibration", {})[artist] = sure
        predicted["artists"][artist] = predictions(
            scores, drawings, candidates, concept_held_out, scale=scale
        )

    twin = dense_twin()
    if twin is not None:
        baselines["dense_twin"] = twin
    results["baselines"] = baselines
    results["templates"] = {"name": templates.name, "sha256": templates.sha256}
    results["class_names_sha256"] = content_hash(list(candidates.names))
    return results, predicted
