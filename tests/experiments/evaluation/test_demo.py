"""The emoji-art protocol on a world of six concepts with fake towers."""

import dataclasses
import json

import numpy as np
import pytest
from byways.experiments.evaluation import Templates
from byways.experiments.evaluation.demo import object_candidates
from byways.experiments.evaluation.protocol import DemoData, evaluate_model

NAMES = Templates("label", 1, "lower", ("{}",))


@dataclasses.dataclass(frozen=True)
class Row:
    label: str
    keywords: tuple[str, ...] = ()
    is_object: bool = True
    held_out: bool = False


CONCEPTS = (
    Row("cat", ("pet", "animal")),
    Row("smile", is_object=False),
    Row("tree", held_out=True),
    Row("Dog", ("pet", "animal")),
    Row("house", held_out=True),
    Row("dog"),  # the same name as "Dog" once canonical
)


def drawing(concept, style=0):
    """A picture that says which concept it shows: one bright pixel, and a style."""
    image = np.full((4, 4, 3), 10 * style, np.uint8)
    image[concept // 4, concept % 4] = 250
    return image


def batches(artist):
    """Five drawings in ragged batches of four; the last is padded with concept 0."""
    shown = [(0, 1, 2, 3), (4, 0, 0, 0)]
    for number, concepts in enumerate(shown):
        yield {
            "image": np.stack([drawing(c, 1) for c in concepts]),
            "concept": np.array(concepts, np.int32),
            "mask": np.array([True] * 4 if number == 0 else [True, False, False, False]),
            "id": np.arange(4, dtype=np.int64) + 100 + 4 * number,
        }


def data():
    seen = np.array([0, 1, 3, 5])
    held = np.array([2, 4])
    return DemoData(
        CONCEPTS,
        batches,
        (np.stack([drawing(c) for c in seen]), seen),
        (np.stack([drawing(c) for c in held]), held),
    )


# The fake model knows every concept but takes the house for a tree.
WORDS = {"cat": 0, "tree": 2, "dog": 3, "house": 4}


def embed_texts(texts):
    out = np.full((len(texts), 16), 1e-3, np.float32)
    for row, text in enumerate(texts):
        if text in WORDS:
            out[row, WORDS[text]] = 1.0
    return out


def embed_images(images):
    bright = (images[..., 0] == 250).reshape(len(images), -1).argmax(axis=1)
    out = np.eye(16, dtype=np.float32)[bright]
    out[bright == 4, 2] = 2.0
    return out


def test_candidates_are_distinct_object_names():
    candidates = object_candidates(CONCEPTS, NAMES)
    assert candidates.names == ("cat", "tree", "dog", "house")
    np.testing.assert_array_equal(candidates.of_concept, [0, -1, 1, 2, 3, 2])
    np.testing.assert_array_equal(candidates.held_out, [False, True, False, True])


def test_the_protocol_by_hand():
    results, predicted = evaluate_model(embed_images, embed_texts, data(), NAMES, ("noto",))
    # Images: cat, tree, dog, house (the smile is no object, padding no image). The house is
    # named tree first and house second, on the list of all and on that of the held-out.
    assert results["noto"] == {
        "all": {"top1": 0.75, "top5": 1.0, "n": 4, "candidates": 4},
        "seen": {"top1": 1.0, "top5": 1.0, "n": 2, "candidates": 4},
        "held_out": {"top1": 0.5, "top5": 1.0, "n": 2, "candidates": 4},
        "held_out_among_held_out": {"top1": 0.5, "top5": 1.0, "n": 2, "candidates": 2},
    }
    baselines = results["baselines"]
    assert baselines["chance"]["noto"]["all"]["top1"] == 0.25
    assert baselines["chance"]["noto"]["held_out_among_held_out"]["top1"] == 0.5
    # The matcher finds every seen concept and no held-out one, not even among the five best
    # of four: both tie at -inf, and ties count against it.
    pixels = baselines["pixel_nearest_neighbour"]["noto"]
    assert (pixels["seen"]["top1"], pixels["held_out"]["top1"]) == (1.0, 0.0)
    shown = baselines["pixel_nearest_neighbour_with_held_out"]["noto"]
    assert shown["held_out"]["top1"] == 1.0

    answers = predicted["artists"]["noto"]
    assert predicted["names"] == ["cat", "tree", "dog", "house"]
    assert answers["id"] == [100, 102, 103, 104]
    assert answers["target"] == [0, 1, 2, 3]
    assert answers["rank"] == [0, 0, 0, 1]
    assert answers["held_out"] == [False, True, False, True]
    assert answers["top"][3][:2] == [1, 3]
    json.dumps([results, predicted])  # plain data throughout


def test_retrieval_of_the_protocol_by_hand():
    results, _ = evaluate_model(embed_images, embed_texts, data(), NAMES, ("noto",))
    found = results["retrieval"]["noto"]
    # Texts: "cat", "pet animal" (of cat and dog both), "tree", "dog", "house".
    assert found["image_to_text"]["candidates"] == 5
    assert found["image_to_text"]["n"] == 4
    assert found["image_to_text"]["r1"] == 0.75
    assert found["text_to_image"]["n"] == 5
    # "house" finds the house first (its embedding has a share of it, the others none) and
    # "tree" the tree; "pet animal" is near everything: the house, of two bright
    # directions, is nearest, then three that tie, two of them right.
    assert found["text_to_image"]["r1"] == pytest.approx(4 / 5)
    chance = results["baselines"]["chance"]["retrieval"]["noto"]["text_to_image"]
    assert chance["r1"] == pytest.approx((4 * 1 / 4 + 2 / 4) / 5)


def test_the_text_is_hashed_into_the_result():
    def hashes(concepts, templates):
        world = dataclasses.replace(data(), concepts=concepts)
        results, _ = evaluate_model(embed_images, embed_texts, world, templates, ("noto",))
        return results["templates"]["sha256"], results["class_names_sha256"]

    base = hashes(CONCEPTS, NAMES)
    assert hashes(CONCEPTS, dataclasses.replace(NAMES, version=2))[0] != base[0]
    renamed = (dataclasses.replace(CONCEPTS[0], label="kitten"), *CONCEPTS[1:])
    other = hashes(renamed, NAMES)
    assert other[0] == base[0]
    assert other[1] != base[1]
