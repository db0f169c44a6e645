"""Templates, canonical text and hashes."""

import dataclasses

import pytest
from byways.experiments.evaluation import CANONICAL, Templates, content_hash, load_templates


def test_the_hash_changes_with_every_part_of_the_text():
    base = Templates("t", 1, "lower", ("{}", "a drawing of {}"))
    changes = [
        {"version": 2},
        {"canonical": "none"},
        {"templates": ("{}", "a drawing of a {}")},
        {"templates": ("a drawing of {}", "{}")},
        {"templates": ("{}",)},
    ]
    hashes = {dataclasses.replace(base, **change).sha256 for change in changes}
    assert len(hashes | {base.sha256}) == len(changes) + 1
    # The name is a label of the set, not text that a model reads.
    assert dataclasses.replace(base, name="other").sha256 == base.sha256


def test_hash_by_hand():
    # printf '{"a":"é","b":[1,2]}' | sha256sum
    assert content_hash({"b": [1, 2], "a": "é"}) == (
        "9cfb1f938a87f2b8f3b8cc429c7a09116d54f048322742d4c23d4767b85f85da"
    )


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("none", " Red_Apple! ", " Red_Apple! "),
        ("lower", " Red_Apple!  (ripe) ", "red apple! (ripe)"),
        ("bare", " Red_Apple!  (ripe) ", "red apple ripe"),
        ("bare", "Piñata", "piñata"),
    ],
)
def test_canonical_text(rule, text, expected):
    assert CANONICAL[rule](text) == expected
    assert CANONICAL[rule](expected) == expected


def test_prompts_keep_braces_of_a_name():
    assert Templates("t", 1, "lower", ("a {}.", "{}")).prompts("Set {0}") == [
        "a set {0}.",
        "set {0}",
    ]


def test_shipped_sets_load_and_unknown_ones_are_listed():
    assert load_templates("label").templates == ("{}",)
    with pytest.raises(KeyError, match="label"):
        load_templates("nmae_only")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"canonical": "upper"}, "choose one of"),
        ({"templates": ()}, "are empty"),
        ({"templates": ("a drawing",)}, "exactly once"),
    ],
)
def test_bad_templates_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Templates("t", 1, "lower", ("{}",)), **fields)
