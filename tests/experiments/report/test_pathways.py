"""The way of an example: what is collected, what is drawn, and what a notebook gets."""

import dataclasses

import numpy as np
import pytest
from byways.experiments import load
from byways.experiments.config import ExperimentConfig
from byways.experiments.library import untrained_run
from byways.experiments.report import pathway_of
from byways.experiments.report.pathway import LayerRoutes, Pathway, Route, collect, readable
from byways.experiments.report.pathway_drawing import draw_layer
from byways.experiments.report.pathway_examples import some_of_each
from byways.experiments.report.tokens import Pairs
from byways.models.config import ModelConfig, MoeConfig

MODEL = ModelConfig(
    patch_size=16, width=8, hidden=8, depth=2, heads=2, text_length=4, embed_dim=8,
    moe=MoeConfig(num_experts=4, selected=2),
)  # fmt: skip
WHITE = np.full((4, 4, 3), 255, np.uint8)


def pairs(rows, places, experts, gates):
    return Pairs(np.array(rows), np.array(places), np.array(experts), np.array(gates, np.float32))


def test_pairs_are_sorted_into_examples_by_place_and_then_by_gate():
    seen = {"one": pairs([1, 0, 1, 1], [3, 0, 0, 0], [2, 1, 0, 1], [0.5, 0.25, 0.25, 0.75])}
    read = {"two": pairs([1], [0], [3], [1.0])}
    ways = collect(np.stack([WHITE] * 2), 2, [("a",), ("b",)], seen, read, {"one": 4, "two": 4})
    assert [layer.name for layer in ways[1].layers] == ["one", "two"]
    assert ways[1].layers[0].routes == (
        Route("image", 0, 1, 0.75),
        Route("image", 0, 0, 0.25),
        Route("image", 3, 2, 0.5),
    )
    assert ways[1].layers[0].awake == (0, 1, 2)
    assert ways[0].layers[0].routes == (Route("image", 0, 1, 0.25),)
    assert ways[0].layers[1].routes == ()
    assert ways[1].pieces == ("b",)


def test_lines_are_as_thick_as_the_router_is_sure_and_sleepers_are_named():
    routes = (
        Route("image", 0, 1, 1.0),
        Route("image", 1, 1, 0.5),
        Route("image", 1, 11, 0.25),
        Route("text", 0, 2, 0.0),
    )
    way = Pathway(WHITE, 2, ("<b>", "two"), (LayerRoutes("x", 12, routes),))
    drawn = draw_layer("Layer 1 of 1", way.layers[0], way, "p")
    svg = str(drawn.svg)
    assert svg.count('class="route ') == 4
    assert [f'stroke-width="{w}"' in svg for w in ("6.0", "3.4", "2.1", "0.8")] == [True] * 4
    # Experts 1 and 11 share a colour, not a name.
    assert 'class="expert e1"' in svg
    assert ">Expert 11<" in svg
    assert svg.count('<text class="asleep"') == 12 - 3
    # Two squares and a word that nobody took.
    assert drawn.unserved == 3
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg
    assert drawn.summary == (
        "4 squares go to experts 1 and 11; 2 word pieces go to expert 2; 9 of 12 experts sleep."
    )


def test_of_many_squares_some_are_drawn_and_all_are_on_the_map():
    picture = np.zeros((32, 32, 3), np.uint8)
    routes = tuple(Route("image", place, place % 3, 0.5) for place in range(256))
    way = Pathway(picture, 2, (), (LayerRoutes("x", 3, routes),))
    drawn = draw_layer("x", way.layers[0], way, "p")
    svg = str(drawn.svg)
    assert drawn.left_out == 256 - svg.count('class="route ')
    assert svg.count('class="frame ') == 256 + 20
    assert "no expert sleeps" in drawn.summary
    assert svg == str(draw_layer("x", way.layers[0], way, "p").svg)


def test_a_class_token_and_a_word_tower_have_no_place_on_a_map():
    way = Pathway(WHITE, 2, ("word",), ())
    layer = LayerRoutes("text/x", 2, (Route("text", 0, 0, 1.0),))
    svg = str(draw_layer("x", layer, way, "p").svg)
    assert "<use" not in svg
    assert "squares" not in svg
    layer = LayerRoutes("image/x", 2, (Route("image", -1, 0, 1.0),))
    assert ">whole picture<" in str(draw_layer("x", layer, way, "p").svg)


def test_a_rare_kind_is_filled_up_from_the_other():
    assert some_of_each([True] * 5 + [False] * 5, range(10), 2) == [0, 1, 5, 6]
    assert some_of_each([True] + [False] * 5, range(6), 2) == [0, 1, 2, 3]
    assert some_of_each([True] * 3, [2, 1, 0], 2) == [2, 1, 0]
    assert some_of_each([], [], 2) == []


def test_pieces_read_as_people_write_them():
    assert [readable(p) for p in ("▁cat", "s", "▁")] == ["cat", "…s", "␣"]


def test_a_notebook_asks_for_the_way_of_a_picture_and_a_text(tmp_path):
    run = load(
        untrained_run(tmp_path / "run", dataclasses.replace(ExperimentConfig(), model=MODEL))
    )
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    both = pathway_of(run, picture, "red apple")
    (layer,) = both.layers
    assert layer.experts == 4
    # Two experts a token; patches first.
    patches = [r for r in layer.routes if r.sense == "image"]
    assert [r.place for r in patches] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(a.gate >= b.gate for a, b in zip(patches[::2], patches[1::2], strict=True))
    assert len(layer.routes) == 8 + 2 * len(both.pieces)
    # Neither sees the other, so each goes its own way alone.
    assert pathway_of(run, picture).layers[0].routes == tuple(patches)
    alone = pathway_of(run, text="red apple")
    assert alone.image is None
    assert alone.layers[0].routes == layer.routes[8:]
    with pytest.raises(ValueError, match="neither an image nor a text"):
        pathway_of(run)
    with pytest.raises(ValueError, match="no pieces"):
        pathway_of(run, text="")
