"""What is held out, by artist and by concept, is seen nowhere in training."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import byways.datasets as data
import numpy as np
import pytest
from byways.datasets.emoji_art import catalogue
from byways.datasets.emoji_art.sources import artists
from byways.datasets.tokenizer import emoji_art_texts, train_tokenizer

CONFIG = data.DataConfig(scenes_share=0.25)


@pytest.fixture(scope="module")
def hidden(examples) -> dict[str, int]:
    """Lower-case labels of the held-out concepts, and their numbers."""
    return {c.label.lower(): i for i, c in enumerate(examples.concepts) if c.held_out}


def test_the_committed_list_is_the_rule(examples):
    lines = Path(catalogue.__file__).with_name("held_out.txt").read_text().splitlines()
    listed = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    assert listed == [c.code for c in examples.concepts if c.held_out]
    for concept in examples.concepts:
        digits = str(int(concept.code.split("-")[0], 16)).encode()
        rest = int.from_bytes(hashlib.sha256(digits).digest(), "big") % 10
        assert concept.held_out == (rest == 0)


def test_splits_part_artists_and_concepts(examples):
    held = np.array([c.held_out for c in examples.concepts])[examples.concept]
    for split, role in (("train", "train"), ("held_out", "train"), ("validation", "validation")):
        rows = examples.rows(split)
        assert set(examples.artist[rows]) == set(artists(role))
    assert not held[examples.rows("train")].any()
    assert held[examples.rows("held_out")].all()
    assert set(examples.artist[examples.rows("test")]) == {"noto", "noto-v1"}


def test_no_drawing_stands_on_two_sides(examples):
    train = {p.tobytes() for p in examples.rgba[examples.rows("train")]}
    for split in ("held_out", "validation", "test"):
        assert not train & {p.tobytes() for p in examples.rgba[examples.rows(split)]}


def test_batches_hold_training_rows_and_words_alone(examples, hidden):
    config = dataclasses.replace(CONFIG, scenes_share=0.0)
    batches = data.TrainBatches(examples, data.Tokenizer(), config, 128, seed=3)
    train = set(examples.rows("train").tolist())
    for index in range(5):
        assert set(batches[index]["id"].tolist()) <= train
    for index in range(60):
        assert not {caption.lower() for caption in batches.captions(index)} & hidden.keys()


def test_training_words_never_name_a_held_out_concept(examples, hidden):
    table = data.training_concepts(examples.concepts)
    for number, concept in enumerate(table):
        if number in hidden.values():
            assert concept is None
        else:
            assert concept is not None
            assert not {w.lower() for w in (concept.label, *concept.keywords)} & hidden.keys()


def test_a_held_out_name_is_within_longer_labels_and_no_keyword(examples, hidden):
    seen = [c for c in data.training_concepts(examples.concepts) if c is not None]
    names = re.compile(r"\b(" + "|".join(map(re.escape, hidden)) + r")\b")
    within = [found for c in seen if (found := names.search(c.label.lower()))]
    assert (len(within), len({found[0] for found in within}), len(hidden)) == (53, 19, 149)
    assert not any(names.search(word.lower()) for c in seen for word in c.keywords)


def test_some_labels_of_textual_validation_are_keywords_of_training():
    config = data.TextDataConfig()
    words = {w.lower() for c in data.text_concepts(config, "train") for w in c.keywords}
    labels = {c.label.lower() for c in data.text_concepts(config, "validation")}
    assert (len(labels & words), len(labels)) == (16, 159)
    assert not words & {c.label.lower() for c in data.text_concepts(config, "held_out")}


def test_scenes_are_made_of_training_drawings(examples, hidden):
    scenes = data.Scenes(examples, seed=1)
    train = set(examples.rows("train").tolist())
    for index in range(100):
        scene = scenes[index]
        assert set(scene.rows) <= train
        assert not {int(examples.concept[r]) for r in scene.rows} & set(hidden.values())


def test_the_tokenizer_is_trained_on_these_texts(hidden, tmp_path):
    texts = emoji_art_texts()
    assert not {t.lower() for t in texts} & hidden.keys()
    again = data.Tokenizer(train_tokenizer(texts, tmp_path / "again.model"))
    shipped = data.Tokenizer()
    assert again.pieces(range(2048)) == shipped.pieces(range(2048))


def test_the_first_epoch_is_every_seen_concept_once(examples):
    config = dataclasses.replace(CONFIG, scenes_share=0.0)
    seen = sum(not c.held_out for c in examples.concepts)
    batches = data.TrainBatches(examples, data.Tokenizer(), config, 299, seed=0)
    concepts = np.concatenate([batches[i]["concept"] for i in range(seen // 299)])
    assert len(set(concepts.tolist())) == len(concepts)


def test_the_list_of_sources_names_no_address():
    # Packages are named; where they come from is npm's affair.
    raw = json.loads(Path(catalogue.__file__).with_name("packages.json").read_text("utf-8"))
    assert all("registry" not in str(p) for p in (raw["captions"], *raw["artists"]))
