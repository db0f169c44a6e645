"""What an expert of a LIMoE tells about a token's modality, and about what is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....datasets import load_data
from ...evaluation.evaluate import emoji_art
from ...evaluation.protocol import TEST_ARTISTS, VALIDATION_ARTIST
from ...library import load
from ...report.tokens import route_images, route_texts
from .shuffles import beside_shuffled

# Drawings that are looked at; the concepts' labels are the texts.
_DRAWINGS = 1500


def probe(folder: Path) -> dict[str, float]:
    """Of each sparse layer `LABEL.LAYER` and `LABEL.LAYER.shuffled`, in nats, with LABEL one of
    `modality`, `group`, `concept`; and `LABEL.most`, `LABEL.most_shuffled` of the layer with the
    largest. Dropless, over drawings by artists that training never saw, and their labels.
    """
    run = load(folder)
    config = run.config.model
    examples = load_data(emoji_art(run.config.data), config.image_size)
    rows = np.concatenate([examples.rows(artist=a) for a in (VALIDATION_ARTIST, *TEST_ARTISTS)])
    objects = np.array([concept.is_object for concept in examples.concepts])
    rows = rows[objects[examples.concept[rows]]]
    rows = np.random.default_rng(0).permutation(rows)[:_DRAWINGS]
    concepts = examples.concept[rows]
    names = sorted({concept.group for concept in examples.concepts})
    groups = np.array([names.index(examples.concepts[c].group) for c in concepts])
    ids, real = run.tokenizer.encode(
        [examples.concepts[c].label for c in concepts], config.text_length
    )
    seen, read = route_images(run, examples.images(rows)), route_texts(run, ids, real)
    found: dict[str, float] = {}
    for layer in seen:
        drawn, written = seen[layer], read[layer]
        experts = np.concatenate([drawn.expert, written.expert])
        modality = np.repeat([0, 1], [len(drawn.expert), len(written.expert)])
        number = layer.rsplit("_", 1)[-1]
        pairs = {
            "modality": (experts, np.arange(len(experts)), modality),
            "group": (drawn.expert, drawn.row, groups),
            "concept": (drawn.expert, drawn.row, np.asarray(concepts)),
        }
        for label, (expert, unit, labels) in pairs.items():
            value, chance = beside_shuffled(expert, unit, labels)
            found[f"{label}.{number}"], found[f"{label}.{number}.shuffled"] = value, chance
    for label in ("modality", "group", "concept"):
        layers = [key for key in found if key.startswith(f"{label}.") and key.count(".") == 1]
        best = max(layers, key=lambda key: found[key])
        found[f"{label}.most"], found[f"{label}.most_shuffled"] = (
            found[best],
            found[f"{best}.shuffled"],
        )
    return found
