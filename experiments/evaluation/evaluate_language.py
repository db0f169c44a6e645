"""A decoder's run evaluated: entropy of captions never trained on, samples, the routers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ...datasets import Batch, TextCodes, text_batches, text_concepts
from ...models import Palm, PalmConfig, row_losses
from ..config import Execution, LanguageConfig
from ..continuation import continue_texts
from ..errors import RunError
from ..forward import Forward, in_flight
from ..train_data import with_tokenizer
from .ngrams import NGrams, segments_of, targets_of
from .routing_stats import measure_routing

if TYPE_CHECKING:
    from ..library import Trained

SPLITS = ("validation", "held_out")
_ROWS = 32
_FREE, _LABELS = 6, 4
_DRAW = {"temperature": 0.8, "top_k": 40, "seed": 0}


def evaluate_decoder(
    run: Trained, tokenizer: Path, execution: Execution = "fused"
) -> dict[str, Any]:
    """The contents of `results.json` of a run of language.

    Args:
        run: what was trained.
        tokenizer: the run's own, which is read where its vocabulary is of pieces.
        execution: how the captions are read; samples are fused, being one compiled loop.

    Raises:
        RecordError: the data set is missing or corrupt.
        RunError: there is no such tokenizer, and the vocabulary is of pieces.
    """
    config = run.config
    assert isinstance(config, LanguageConfig)
    data, length = config.data, config.model.max_length
    if data.vocabulary == "pieces":
        if not tokenizer.is_file():
            raise RunError(f"{tokenizer} is missing; copy the run's tokenizer back there")
        data = with_tokenizer(data, tokenizer)
    config = dataclasses.replace(config, data=data)
    codes = TextCodes(data)
    results: dict[str, Any] = {"vocabulary": data.vocabulary, "vocab_size": codes.vocab_size}
    grams = NGrams.of(text_batches(data, "train", _ROWS, length), codes.vocab_size)
    baselines: dict[str, Any] = {name: {} for name in ("uniform", "unigram", "bigram")}
    losses = _losses(config, run.params, execution)
    for split in SPLITS:
        if not text_concepts(data, split):
            continue
        rows = list(text_batches(data, split, _ROWS, length))
        size = _sizes(rows, codes)
        entropy = sum(float(x) for _, x in in_flight(losses, rows)) / size["tokens"]
        results[split] = {**_scores(entropy, size), **size}
        chances = {"uniform": math.log(codes.vocab_size), **grams.entropies(rows)}
        for name, value in chances.items():
            baselines[name][split] = _scores(value, size)
    results["baselines"] = baselines
    results["samples"] = _samples(config, run.params, codes)
    batches = packed_batches(config)
    results["routing"] = measure_routing(config, run.params, batches)
    return results


def _losses(config: LanguageConfig, params: Any, execution: Execution) -> Callable[[Batch], Any]:
    """A function from a batch to the sum of its targets' -log p, in nats; dropless."""
    moe = dataclasses.replace(config.model.moe, eval_capacity_factor=None)
    run = Forward(_entropy, dataclasses.replace(config.model, moe=moe), params, execution)
    return lambda batch: run(batch["tokens"], batch["segments"])


def _entropy(config: PalmConfig) -> Callable[..., jax.Array]:
    model = Palm(config)

    def run(params: Any, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        out = model.apply({"params": params}, tokens, segments)
        return row_losses(out.logits, tokens, segments).entropy.sum()  # pyright: ignore

    return run


def packed_batches(config: LanguageConfig) -> Iterator[Batch]:
    """Whole batches of the training's size of validation captions, as training packs them.

    Rows are shuffled (seed 0), since those of one concept stand together; a last ragged batch is
    left out, and fewer rows than one batch are repeated.
    """
    size, length = config.batch_size, config.model.max_length
    found = list(text_batches(config.data, "validation", size, length))
    if not found:
        return
    arrays = {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}
    real = np.flatnonzero((arrays["segments"] > 0).any(axis=1))
    order = np.random.default_rng(0).permutation(real)
    if len(order) < size:
        order = np.resize(order, size)
    for start in range(0, len(order) - size + 1, size):
        part = order[start : start + size]
        yield {key: value[part] for key, value in arrays.items()}


def _sizes(rows: list[Batch], codes: TextCodes) -> dict[str, int]:
    """Texts, tokens foretold, and the bytes that they stand for: those of UTF-8, and one for the
    mark that ends a text."""
    texts = tokens = written = 0
    for batch in rows:
        tokens += int(targets_of(batch).sum())
        for numbers in segments_of(batch):
            texts += 1
            if codes.tokenizer is None:  # what is cut within a letter decodes to another
                written += len(numbers) - 1
                continue
            ended = len(numbers) > 1 and numbers[-1] == codes.mark
            written += len(codes.decode(numbers).encode()) + ended
    return {"texts": texts, "tokens": tokens, "bytes": written}


def _scores(entropy: float, size: dict[str, int]) -> dict[str, float]:
    """`entropy`, nats a token, and what that is in bits a byte."""
    bits = entropy / math.log(2) * size["tokens"] / size["bytes"]
    return {"entropy": float(entropy), "bits_per_byte": bits}


def _samples(config: LanguageConfig, params: Any, codes: TextCodes) -> dict[str, Any]:
    """Texts begun by the model itself, and by names of things that it never saw."""
    rng = np.random.default_rng(0)
    labels = [concept.label for concept in text_concepts(config.data, "held_out")]
    chosen = [labels[i] for i in rng.permutation(len(labels))[:_LABELS]]
    # What is longer than a row cannot be gone on with.
    room = config.model.max_length // 2
    prompts = [""] * _FREE + [label for label in chosen if len(codes.start(label)) <= room]
    top_k = min(_DRAW["top_k"], codes.vocab_size)
    draw = {**_DRAW, "top_k": top_k}
    try:
        texts = continue_texts(config.model, params, codes, prompts, **draw)
    except ValueError as error:  # a mixture that cannot go step by step
        return {**draw, "texts": [], "why_none": str(error)}
    found = [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]
    return {**draw, "texts": found}
