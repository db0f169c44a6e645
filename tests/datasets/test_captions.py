"""Captions say what is there, and images are mirrored only where that keeps them true."""

import numpy as np
import pytest
from byways.datasets import Concept, draw_caption
from byways.datasets.captions import may_mirror, names_a_side

FOX = Concept("fox", ("animal", "face", "forest"), code="1f98a", subgroup="animal-mammal")


def draws(concept: Concept, share: float, count: int = 400) -> list[str]:
    rng = np.random.default_rng(0)
    return [draw_caption(concept, rng, share) for _ in range(count)]


def test_captions_are_of_the_concepts_words():
    words = {"fox", *FOX.keywords}
    captions = draws(FOX, 0.5)
    assert all(set(c.split()) <= words and len(set(c.split())) == len(c.split()) for c in captions)
    # Half the label alone, a quarter with keywords, a quarter keywords alone: 5 sigma is 0.125.
    assert captions.count("fox") / 400 == pytest.approx(0.5, abs=0.125)
    assert sum("fox" not in c for c in captions) / 400 == pytest.approx(0.25, abs=0.125)


def test_the_share_of_labels_is_the_configs():
    assert set(draws(FOX, 1.0)) == {"fox"}
    assert "fox" not in draws(FOX, 0.0, 200)


def test_the_same_state_gives_the_same_captions():
    assert draws(FOX, 0.3) == draws(FOX, 0.3)


def test_without_keywords_the_label_is_the_caption():
    assert set(draws(Concept("fox"), 0.0)) == {"fox"}


def test_further_captions_stand_alone():
    several = Concept("a dog runs fast", ("the brown dog is running", "a dog on a lawn"))
    assert set(draws(several, 0.0)) == set(several.keywords)


@pytest.mark.parametrize(
    "text", ["a cat left of a dog", "Right arrow", "clockwise", "the letter B", "page 3", "12"]
)
def test_sides_turns_letters_and_digits_are_noticed(text):
    assert names_a_side(text)


@pytest.mark.parametrize("text", ["a bright cat", "leftover soup", "fox", "two trees"])
def test_other_words_are_not(text):
    assert not names_a_side(text)


def test_what_may_be_mirrored(examples):
    by_label = {c.label: c for c in examples.concepts}
    for label in ("fox", "red apple", "sailboat", "guitar"):
        assert may_mirror(by_label[label])
    for label in (
        "waxing crescent moon",
        "magnifying glass tilted left",
        "right arrow",
        "keycap: 5",
        "B button (blood type)",
        "percent sign" if "percent sign" in by_label else "plus",
        "globe showing Americas",
        "three o’clock",
        "clockwise vertical arrows",
    ):
        assert not may_mirror(by_label[label]), label
