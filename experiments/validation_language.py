"""How well a decoder foretells the captions of concepts that training left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from ..datasets import text_batches, text_concepts
from ..models import Palm, row_losses
from .config import LanguageConfig
from .train_data import with_tokenizer
from .validation import on_one_device

_ROWS = 32


class LanguageValidation:
    """Scores a decoder on the captions of a split; nothing where no concept is in it."""

    headline = "nats_saved"

    def __init__(self, config: LanguageConfig, tokenizer: Path, split: str = "validation"):
        pieces = config.data.vocabulary == "pieces"
        self._data = with_tokenizer(config.data, tokenizer) if pieces else config.data
        self._length, self._split = config.model.max_length, split
        self._there = bool(text_concepts(self._data, split))
        model = Palm(config.model)

        @jax.jit
        def losses(params: Any, tokens: jax.Array, segments: jax.Array):
            out = model.apply({"params": params}, tokens, segments)
            found = row_losses(out.logits, tokens, segments)  # pyright: ignore
            return found.entropy.sum(), found.targets.sum()

        self._losses = losses

    def scores(self, params: Any) -> dict[str, float]:
        """`entropy`, mean nats a token (bytes: divide by ln 2 for bits); and `nats_saved`, minus
        that, of which more is better."""
        if not self._there:
            return {}
        params = on_one_device(params)
        total = targets = 0.0
        for batch in text_batches(self._data, self._split, _ROWS, self._length):
            entropy, many = self._losses(params, batch["tokens"], batch["segments"])
            total, targets = total + float(entropy), targets + float(many)
        return {"entropy": total / targets, "nats_saved": -total / targets}
