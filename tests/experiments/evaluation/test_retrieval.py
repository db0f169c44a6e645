"""Recall both ways against brute force and by hand."""

import numpy as np
import pytest
from byways.experiments.evaluation import TopK, pair_captions, retrieval_recall


def test_pairs_by_hand():
    texts, texts_of, images_of = pair_captions([["cat", "pet"], ["dog", "pet"], ["tree"]])
    assert texts == ["cat", "pet", "dog", "tree"]
    np.testing.assert_array_equal(texts_of, [[0, 1], [1, 2], [3, -1]])
    np.testing.assert_array_equal(images_of, [[0, -1], [0, 1], [1, -1], [2, -1]])
    # A caption said twice of one image is one caption.
    assert pair_captions([["a", "a"]])[0] == ["a"]
    with pytest.raises(ValueError, match="image 1 has no caption"):
        pair_captions([["cat"], []])


def test_any_caption_hit_by_hand():
    # Two images, two captions each. Image 0's second caption is its nearest text: a hit at
    # 1 although its first caption is far off. Image 1's captions come third and fourth.
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[-1.0, 0.0], [0.9, 0.5], [0.1, 0.1], [0.2, -0.9]], np.float32)
    texts_of = np.array([[0, 1], [2, 3]])
    images_of = np.array([[0], [0], [1], [1]])
    i2t, t2i = retrieval_recall(images, texts, texts_of, images_of, ks=(1, 2))
    # Image 1 against the texts: 0, 0.5, 0.1, -0.9: its own best (0.1) is second.
    assert i2t == TopK((1, 2), (1, 2), 2)
    # Texts to images: text 0 prefers image 1 (wrong), 1 prefers 0 (right), 2 ties (against
    # the model), 3 prefers 0 (wrong).
    assert t2i == TopK((1, 2), (1, 4), 4)


def test_recall_equals_brute_force_whatever_the_chunks():
    rng = np.random.default_rng(0)
    captions = [[f"w{w}" for w in rng.integers(0, 40, rng.integers(1, 4))] for _ in range(30)]
    names, texts_of, images_of = pair_captions(captions)
    images = rng.normal(size=(30, 5)).astype(np.float32)
    texts = rng.normal(size=(len(names), 5)).astype(np.float32)
    scores = images @ texts.T
    i2t, t2i = retrieval_recall(images, texts, texts_of, images_of, rows=7)
    for k, found, back in zip((1, 5, 10), i2t.hits, t2i.hits, strict=True):
        nearest = [{names[j] for j in np.argsort(-row)[:k]} for row in scores]
        assert found == sum(bool(n & set(own)) for n, own in zip(nearest, captions, strict=True))
        nearest = [np.argsort(-column)[:k] for column in scores.T]
        assert back == sum(
            any(name in captions[i] for i in n) for n, name in zip(nearest, names, strict=True)
        )
    assert retrieval_recall(images, texts, texts_of, images_of, rows=1000) == (i2t, t2i)


def test_a_model_that_tells_nothing_apart_finds_nothing():
    # At such shapes a matrix product alone rounds its last columns another way.
    rng = np.random.default_rng(0)
    images, text = rng.normal(size=(3, 96)).astype(np.float32), rng.normal(size=(1, 96))
    texts = np.repeat(text.astype(np.float32), 37, axis=0)
    own = np.array([[0], [17], [36]])
    of_text = np.zeros((37, 1), np.int64)
    for rows in (2, 1024):
        found, _ = retrieval_recall(images, texts, own, of_text, rows=rows)
        assert found.hits == (0, 0, 0)
        _, back = retrieval_recall(texts, images, of_text, own, rows=rows)
        assert back.hits == (0, 0, 0)
