"""Zero-shot scores on the validation artist, during training: what settings are chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..datasets import Tokenizer, evaluation_batches, load_data
from .config import ContrastiveConfig
from .contrastive import pair_model
from .evaluation import class_embeddings, load_templates
from .evaluation.demo import embed_drawings, object_candidates, scores_by_share
from .train_data import run_data_config
from .validation import on_one_device

_ROWS = 128


class ContrastiveValidation:
    """Scores parameters on the data set's `validation` split; nothing without such a split.

    Embedding functions are compiled once and serve every call.
    """

    headline = "top1"

    def __init__(self, config: ContrastiveConfig, tokenizer: Path):
        self._data = run_data_config(config, tokenizer)
        self._size = config.model.image_size
        self._tokenizer = Tokenizer(tokenizer)
        model = pair_model(config.model)
        self._image = jax.jit(lambda p, x: model.apply({"params": p}, x, None, None).image)  # pyright: ignore
        self._text = jax.jit(lambda p, t, m: model.apply({"params": p}, None, t, m).text)  # pyright: ignore
        examples = load_data(self._data, self._size)
        self._concepts = examples.concepts
        self._there = "validation" in set(examples.split.tolist())

    def scores(self, params: Any) -> dict[str, float]:
        """`top1` and `top5` over the object concepts, ranked among all of them, and the shares
        of seen and held-out concepts; dropless."""
        if not self._there:
            return {}
        params = on_one_device(params)
        templates = load_templates("label")
        candidates = object_candidates(self._concepts, templates)
        names = class_embeddings(
            lambda texts: self._embed_texts(params, texts), candidates.names, templates
        )
        drawings = embed_drawings(
            evaluation_batches(self._data, "validation", _ROWS, self._size),
            lambda images: np.asarray(self._image(params, images)),
            lambda concept: candidates.of_concept[concept] >= 0,
        )
        held_out = np.array([concept.held_out for concept in self._concepts], bool)
        shares = scores_by_share(
            drawings.embeddings @ names.T, drawings.concepts, candidates, held_out
        )
        flat = {"top1": shares["all"]["top1"], "top5": shares["all"]["top5"]}
        for share in ("seen", "held_out"):
            if share in shares:
                flat |= {f"{share}/{k}": shares[share][k] for k in ("top1", "top5")}
        return flat

    def _embed_texts(self, params: Any, texts: Any) -> np.ndarray:
        text, mask = self._tokenizer.encode(list(texts), self._data.text_length)
        rows = []
        for start in range(0, len(text), _ROWS):
            part = slice(start, start + _ROWS)
            missing = _ROWS - len(text[part])
            pad = [(0, missing), (0, 0)]
            out = self._text(params, np.pad(text[part], pad), np.pad(mask[part], pad))
            rows.append(np.asarray(out)[: _ROWS - missing])
        return np.concatenate(rows)
