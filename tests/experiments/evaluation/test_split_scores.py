"""Zero-shot and retrieval of a split, by a model whose embeddings are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from byways.datasets import EvaluationSplit
from byways.datasets.evaluation_split import SplitRow
from byways.experiments.errors import UsageError
from byways.experiments.evaluation.embedder import Embedder
from byways.experiments.evaluation.questions import classes_of
from byways.experiments.evaluation.retrieval_scores import score_retrieval
from byways.experiments.evaluation.score_protocol import PROTOCOLS
from byways.experiments.evaluation.zero_shot_scores import score_zero_shot

BYWAYS, BENCHMARK = PROTOCOLS["byways"], PROTOCOLS["clip_benchmark"]


class Given(Embedder):
    """Pictures of one grey, by which the image's vector is looked up; texts by themselves."""

    def __init__(self, images: np.ndarray, texts: Any):
        # No model, so that the scores can be told by hand.
        self.image_size = 4
        self._vectors = images
        self._text_vector = texts

    def images(self, batches):
        for batch in batches:
            yield self._vectors[batch["image"][batch["mask"], 0, 0, 0]]

    def texts(self, texts):
        return np.stack([self._text_vector(text) for text in texts])


def split_of(*rows, **about) -> EvaluationSplit:
    """Rows as (labels, captions, label text)."""
    read = [
        SplitRow(np.full((4, 4), n, np.uint8), labels, captions, f"test/{n}", text)
        for n, (labels, captions, text) in enumerate(rows)
    ]
    settings = {"classes": None, "captioned": True, "text_labelled": False, **about}
    return EvaluationSplit(
        name="things", split="test", count=len(read), read=lambda: iter(read), **settings
    )


def test_the_label_is_told_from_the_captions():
    rows = [((), ("a cat",), "fox"), ((), ("a fox",), "cat"), ((), ("fox",), None)]
    split = split_of(*rows, text_labelled=True)
    vectors = {"cat": np.eye(2)[0], "fox": np.eye(2)[1]}
    given = Given(np.eye(2)[[1, 0, 0]], vectors.__getitem__)
    classes = classes_of(split, None, BYWAYS, None)
    assert classes.names == (("cat",), ("fox",))
    found = score_zero_shot(given, split, classes, BYWAYS)
    assert (found["scores"]["top1"], found["scores"]["n"], found["unlabelled"]) == (1.0, 2, 1)
    odd = split_of(((), ("fox",), "wolf"), text_labelled=True)
    with pytest.raises(UsageError, match="test/0 of things is labelled 'wolf', which is none"):
        score_zero_shot(given, odd, classes, BYWAYS)


def test_names_that_are_one_to_the_model_get_nothing():
    rng = np.random.default_rng(0)
    one = rng.normal(size=96)
    names = tuple(f"n{n}" for n in range(37))
    split = split_of(((0,), (), None), ((17,), (), None), ((36,), (), None), classes=names)
    given = Given(rng.normal(size=(3, 96)), lambda _: one)
    classes = classes_of(split, None, BYWAYS, None)
    found = score_zero_shot(given, split, classes, BYWAYS)
    assert (found["scores"]["top1"], found["scores"]["top5"]) == (0, 0)


def test_equal_captions_of_one_image():
    split = split_of(((), ("a", "A", "b"), None), ((), ("c",), None))
    vectors = {"a": [0.0, 1.0], "A": [0.0, 1.0], "b": [1.0, 0.1], "c": [0.1, 1.0]}
    given = Given(np.eye(2), lambda text: np.array(vectors[text]))
    ours = score_retrieval(given, split, BYWAYS)
    # "a" is one text, and of three texts those two are right: "b" and "c".
    assert ours["texts"] == 3
    assert ours["scores"]["text_to_image"]["r1"] == pytest.approx(2 / 3)
    same = split_of(((), ("a", "a", "b"), None), ((), ("c",), None))
    theirs = score_retrieval(given, same, BENCHMARK)
    assert theirs["texts"] == 4
    assert theirs["scores"]["text_to_image"] == {"r1": 0.5, "n": 4, "candidates": 2}
