"""What one modality uses of a run, cut out as a model of its own, and scored beside the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..datasets import Examples, evaluation_batches, load_data
from ..models import MODALITIES, LoadedModel, cut_pathway, model_kind
from .evaluation import class_embeddings, load_templates
from .evaluation.demo import embed_drawings, object_candidates, scores_by_share
from .evaluation.evaluate import emoji_art
from .evaluation.protocol import VALIDATION_ARTIST
from .evaluation.routing_stats import paired_batches
from .export import save_exported
from .library import Run, load
from .pathway_report import PathwayReport, compare

# Drawings that tell which experts a modality uses; more change nothing but the time.
_COUNTED = 1024
_ROWS = 256


def export_pathway(
    run: str | Path,
    out: str | Path,
    modality: str,
    *,
    step: int | None = None,
    min_share: float = 0.0,
    most: int | None = None,
) -> PathwayReport:
    """Writes what one modality uses of a contrastive run as a model of its own, and scores it.

    Which experts the modality uses is counted, dropless, over drawings and captions of training
    (of `emoji_art`, at most 1,024 pairs); scores are of the validation artist.

    Args:
        run: the run folder, of images and text.
        out: the folder to write; must not exist.
        modality: `image` or `text`.
        step: which checkpoint; None is the newest whole one.
        min_share, most: see `cut_pathway`.

    Raises:
        RunError, CheckpointError: as `load`.
        ValueError: as `cut_pathway`.
        WeightsError: `out` exists.
    """
    whole = load(run, step)
    data, size = emoji_art(whole.config.data), whole.config.model.image_size
    examples = load_data(data, size)
    model = LoadedModel(model_kind(whole.config.model), whole.config.model, whole.params)
    pairs = count_pairs(model, modality, _training_batches(whole, examples))
    cut = cut_pathway(model, modality, pairs, min_share=min_share, most=most)
    config = dataclasses.replace(whole.config, model=cut.config)
    alone = dataclasses.replace(whole, config=config, params=cut.params)
    runs = {name: alone if name == modality else whole for name in MODALITIES}
    before = _Scored.of(whole, whole, examples)
    after = _Scored.of(runs["image"], runs["text"], examples)
    save_exported(cut, out, whole.folder)
    return compare(
        cut,
        model,
        pairs,
        "drawings of the validation artist",
        (after.top1, before.top1),
        (getattr(after, modality), getattr(before, modality)),
    )


def count_pairs(
    model: LoadedModel, modality: str, batches: Iterator[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Pairs of a modality's tokens and experts, (E,) of each sparse block that they meet.

    Args:
        model: of images and text.
        modality: `image` or `text`; the other is not looked at, nor does it compete.
        batches: of `image` (B,S,S,3), `text` (B,N), `text_mask` (B,N).
    """
    number = MODALITIES.index(modality)

    @jax.jit
    def count(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        inputs = (batch["image"], None, None)
        if modality == "text":
            inputs = (None, batch["text"], batch["text_mask"])
        routing = model.module.apply({"params": params}, *inputs).routing
        return {name: sums.assigned[number] for name, sums in routing.items()}

    total: dict[str, np.ndarray] = {}
    for batch in batches:
        wanted = {key: batch[key] for key in ("image", "text", "text_mask")}
        for name, found in count(model.params, wanted).items():
            total[name] = total.get(name, 0) + np.asarray(found, np.float64)
    return total


@dataclasses.dataclass(frozen=True)
class _Scored:
    """Top-1 on the validation artist, and the embeddings of its drawings and of the names."""

    top1: float
    image: np.ndarray
    text: np.ndarray

    @classmethod
    def of(cls, images: Run, texts: Run, examples: Examples) -> _Scored:
        data, size = emoji_art(images.config.data), images.config.model.image_size
        templates = load_templates("label")
        candidates = object_candidates(examples.concepts, templates)
        names = class_embeddings(texts.embed_texts, candidates.names, templates)
        drawings = embed_drawings(
            evaluation_batches(data, "validation", _ROWS, size, artist=VALIDATION_ARTIST),
            images.embed_images,
            lambda concept: candidates.of_concept[concept] >= 0,
        )
        held_out = np.array([concept.held_out for concept in examples.concepts], bool)
        cosines = drawings.embeddings @ names.T
        scores = scores_by_share(cosines, drawings.concepts, candidates, held_out)
        return cls(scores["all"]["top1"], drawings.embeddings, names)


def _training_batches(run: Run, examples: Examples) -> Iterator[dict[str, np.ndarray]]:
    rows = examples.rows("train")
    rows = np.random.default_rng(0).permutation(rows)[: max(_COUNTED, run.config.batch_size)]
    return paired_batches(examples, rows, run.tokenizer, run.config)
