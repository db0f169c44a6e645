"""Scenes depend on (seed, index) alone, and their captions are true."""

import re

import numpy as np
import pytest
from byways.datasets import Scenes
from byways.datasets.scenes import _RELATIONS, _plural, _several

COUNTS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}


def test_the_same_seed_and_index_give_the_same_scene(examples):
    ours, theirs = Scenes(examples, seed=5), Scenes(examples, seed=5)
    theirs[3]  # what was asked before does not matter
    for index in (7, 0, 10**9):
        a, b = ours[index], theirs[index]
        assert np.array_equal(a.image, b.image)
        assert (a.caption, a.rows, a.counts) == (b.caption, b.rows, b.counts)


def test_other_seeds_and_indices_give_others(examples):
    scenes, others = Scenes(examples, seed=0), Scenes(examples, seed=1)
    captions = {scenes[i].caption for i in range(20)} | {others[i].caption for i in range(20)}
    assert len(captions) > 35


def test_captions_say_the_counts_and_the_things(examples):
    scenes = Scenes(examples, seed=2)
    for index in range(120):
        scene = scenes[index]
        assert scene.image.shape == (32, 32, 3)
        assert scene.image.dtype == np.uint8
        assert 1 <= sum(scene.counts) <= 4
        labels = [examples.concepts[examples.concept[r]].label for r in scene.rows]
        relation = "|".join((*_RELATIONS, "and"))
        parts = re.split(rf" (?:{relation}) ", scene.caption, maxsplit=len(labels) - 1)
        for part, label, count in zip(parts, labels, scene.counts, strict=True):
            assert COUNTS[part.split()[0]] == count
            assert (label if count == 1 else _plural(label)) in part


@pytest.mark.parametrize("counts", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_sides_are_where_the_caption_says(counts):
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes, word = _several(rng, 32, counts, np.array([False, True]))
        middles = [[], []]
        for kind, (x, y, side) in boxes:
            assert min(x, y) >= 0
            assert max(x, y) + side <= 32
            middles[kind].append((x + side / 2, y + side / 2))
        axis = 0 if word.endswith("of") else 1
        first, second = ([m[axis] for m in kind] for kind in middles)
        if word in ("left of", "above"):
            assert max(first) < min(second)
        else:
            assert min(first) > max(second)


def test_plurals():
    words = {"fox": "foxes", "red apple": "red apples", "mouse": "mice", "cherry": "cherries"}
    assert {one: _plural(one) for one in words} == words


def test_negative_numbers_are_none(examples):
    with pytest.raises(IndexError, match="numbered from 0"):
        Scenes(examples)[-1]
