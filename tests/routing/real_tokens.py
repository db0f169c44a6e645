"""Real tokens for tests that train a gate: patches of the shipped drawings, words of captions."""

from __future__ import annotations

import functools

import numpy as np
from byways.datasets import DataConfig, Tokenizer, load_data

WIDTH = 16


@functools.cache
def patches(number):
    """(number, D) float32: 8x8 patches with ink, of random drawings, on their main axes.

    A quarter of the mean patch is left in: what all share is what skews a gate.
    """
    examples = load_data(DataConfig())
    rng = np.random.default_rng(0)
    images = examples.images(rng.choice(len(examples), number // 4, replace=False)) / 255.0
    cut = images.reshape(-1, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 192)
    cut = cut[cut.std(axis=1) > 0.05]
    return _on_axes(cut[rng.permutation(len(cut))[:number]])


@functools.cache
def words(number):
    """(number, D) float32: one random vector for each piece of the captions' vocabulary, all
    leaning the same way, as the embeddings of one modality do."""
    examples = load_data(DataConfig())
    rng = np.random.default_rng(1)
    texts = [concept.label for concept in examples.concepts]
    ids, real = Tokenizer().encode([texts[i] for i in rng.permutation(len(texts))], 12)
    ids = ids[real.astype(bool)][:number]
    table = rng.standard_normal((int(ids.max()) + 1, WIDTH))
    lean = rng.standard_normal(WIDTH)
    return np.asarray(table[ids] * 0.5 + 1.5 * lean, np.float32)


def _on_axes(rows):
    axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:WIDTH]
    found = (rows - 0.75 * rows.mean(0)) @ axes.T
    return np.asarray(found / np.sqrt(np.mean((found - found.mean(0)) ** 2)), np.float32)
