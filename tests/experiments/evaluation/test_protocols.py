"""Whose class names, templates and ties: the protocols, and what they ask."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from byways.datasets import EvaluationSplit
from byways.datasets.evaluation_split import SplitRow
from byways.experiments.errors import UsageError
from byways.experiments.evaluation.questions import (
    check_captions,
    class_list,
    classes_of,
    read_class_file,
    read_templates,
)
from byways.experiments.evaluation.retrieval_scores import paired
from byways.experiments.evaluation.score_protocol import PROTOCOLS, ranks_of
from byways.experiments.evaluation.zero_shot_scores import class_scores, mean_average_precision

BYWAYS, BIG_VISION, BENCHMARK = (PROTOCOLS[n] for n in ("byways", "big_vision", "clip_benchmark"))
LINE = "T-shirt_top, Tee's"


def split_of(classes=None, captions=("x",), labels=(0,), count=3):
    row = SplitRow(None, labels if classes else (), captions, "test/0")
    # No text label: a caption is none.
    return EvaluationSplit("things", "test", classes, classes is None, count, lambda: iter([row]))


@pytest.mark.parametrize(
    ("protocol", "names", "expected"),
    [
        (BYWAYS, None, ["t-shirt top, tee's"]),
        (BYWAYS, "all", ["t-shirt top", "tee's"]),
        # big_vision: "_" is a space, no punctuation but commas, lower case, the first name.
        (BIG_VISION, None, ["tshirt top"]),
        (BIG_VISION, "whole", ["tshirt top, tees"]),
        (BENCHMARK, None, [LINE]),
        (BENCHMARK, "first", ["T-shirt_top"]),
    ],
)
def test_class_names(protocol, names, expected):
    protocol = dataclasses.replace(protocol, names=names or protocol.names)
    assert protocol.class_names(LINE) == expected


def test_templates_are_canonical_too(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("A photo of a {}.\n\n{}\nart of the {}, LARGE\n")
    asked = class_list(["Fox, Reynard", "{odd}"], BIG_VISION, str(file), "list")
    assert asked.templates == ("a photo of a {}", "{}", "art of the {} large")
    assert asked.prompts == [
        ["a photo of a fox", "fox", "art of the fox large"],
        ["a photo of a odd", "odd", "art of the odd large"],
    ]
    assert asked.origin == "mine.txt"
    plain = class_list(["Fox, Reynard", "{odd}"], BENCHMARK, str(file), "list")
    assert plain.prompts[0][0] == "A photo of a Fox, Reynard."
    assert plain.prompts[1][1] == "{odd}"  # braces of a name are no place for one
    assert plain.prompts_sha256 != asked.prompts_sha256
    same = class_list(["fox", "odd"], BIG_VISION, str(file), "list")
    assert (same.prompts_sha256, same.names_sha256) == (asked.prompts_sha256, asked.names_sha256)
    every = dataclasses.replace(BYWAYS, names="all")
    assert class_list(["Fox, Reynard"], every, None, "list").prompts == [["fox", "reynard"]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("no place\n", r"line 1: 'no place' must hold '\{\}'"),
        ("{}\n{} and {}\n", "line 2: .* exactly once"),
        ("\n\n", "holds no template"),
    ],
)
def test_bad_templates(tmp_path, text, match):
    file = tmp_path / "t.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=match):
        read_templates(str(file))
    with pytest.raises(UsageError, match="unknown set 'phot'; did you mean 'photo'"):
        read_templates("phot")


def test_bad_class_lists(tmp_path):
    file = tmp_path / "c.txt"
    for text, match in [
        ("", "holds no class name"),
        (" \n\n", "holds no class name"),
        ("fox\n\ncat\n", "line 2 is empty"),
    ]:
        file.write_text(text)
        with pytest.raises(UsageError, match=match):
            read_class_file(file)
    with pytest.raises(UsageError, match="cannot be read as text"):
        read_class_file(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="lines 1 and 3, 'Fox' and '_fox', are both the class"):
        class_list(["Fox", "cat", "_fox"], BYWAYS, None, "c.txt")
    with pytest.raises(UsageError, match=r"'crane'.*or take --names whole"):
        class_list(["crane, bird", "crane, machine"], BIG_VISION, None, "c.txt")
    with pytest.raises(UsageError, match=r"line 2: of '\?!' no name is left"):
        class_list(["fox", "?!"], BIG_VISION, None, "c.txt")
    file.write_text("fox\ncat\n")
    with pytest.raises(UsageError, match="has 2 classes, and the labels of things are of 3"):
        classes_of(split_of(("a", "b", "c")), file, BYWAYS, None)


def test_classes_of_the_data(tmp_path):
    assert classes_of(split_of(("A", "b_c")), None, BYWAYS, None).names == (("a",), ("b c",))
    rows = [SplitRow(None, (), ("a", "b"), "r", text) for text in ("Fox", "fox", "bear", None)]
    texts = EvaluationSplit("things", "test", None, True, 4, lambda: iter(rows), True)
    assert classes_of(texts, None, BYWAYS, None).names == (("bear",), ("fox",))
    bare = dataclasses.replace(split_of(captions=()), text_labelled=True)
    file = tmp_path / "c.txt"
    file.write_text("x\n")
    # Captions are no classes, whoever lists them.
    for split, named in [(split_of(), None), (split_of(), file), (bare, None)]:
        with pytest.raises(UsageError, match=r"has no labels: .*--task retrieval"):
            classes_of(split, named, BYWAYS, None)
    with pytest.raises(UsageError, match="has no captions"):
        check_captions(split_of(("a",)))


def test_ties():
    scores = np.array([[0.5, 0.5, 0.5, 0.1], [0.5, 0.5, 0.5, 0.9]])
    labels = np.array([[1, -1], [1, 2]])
    # Two wrong ones are as good as class 1; of them, one comes first. Then 3 beats all, and the
    # equal one before 1.
    assert ranks_of(scores, labels, "against").tolist() == [2, 2]
    assert ranks_of(scores, labels, "index").tolist() == [1, 2]


def test_class_scores_by_hand():
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.1], [0.1, 0.7, 0.2], [0.3, 0.4, 0.1]])
    found = class_scores(scores, np.array([[0], [1], [1], [1]]), BYWAYS)
    # Right: image 0, 2 and 3. Of class 0 all, of class 1 two of three; class 2 has no image.
    assert found["scores"]["top1"] == 0.75
    assert found["scores"]["mean_of_classes"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["of_class"] == [1.0, 0.666667, None]
    assert found["count_of_class"] == [1, 3, 0]
    assert "top5" not in found["scores"]
    several = class_scores(scores, np.array([[0, 1], [1, -1], [0, 2], [2, -1]]), BYWAYS)
    assert several["scores"]["top1"] == 0.25  # any of the right ones will do
    assert several["chance"]["top1"] == pytest.approx((2 / 3 + 1 / 3 + 2 / 3 + 1 / 3) / 4)
    # Class 0: ranks images 0, 1, 3, 2, right 0 and 2: (1 + 2/4) / 2. Class 1 ranks 2, 3, 1, 0,
    # right 0 and 1: (1/3 + 2/4) / 2. Class 2 ranks 2, then 1 and 3 as one step, then 0;
    # right 2 and 3: (1 + 2/3) / 2.
    assert several["scores"]["mean_average_precision"] == pytest.approx(
        ((1 + 1 / 2) / 2 + (1 / 3 + 1 / 2) / 2 + (1 + 2 / 3) / 2) / 3
    )
    assert mean_average_precision(np.eye(2), np.array([[0], [1]])) == 1.0


def test_equal_captions_are_one_text_or_apart():
    captions = [["a", "b"], ["a"]]
    texts, texts_of, images_of = paired(captions, BYWAYS)
    assert (texts, texts_of.tolist(), images_of.tolist()) == (
        ["a", "b"],
        [[0, 1], [0, -1]],
        [[0, 1], [0, -1]],
    )
    texts, texts_of, images_of = paired(captions, BENCHMARK)
    assert (texts, texts_of.tolist(), images_of.tolist()) == (
        ["a", "b", "a"],
        [[0, 1], [2, -1]],
        [[0], [0], [1]],
    )
