"""The page as a whole, of a small untrained run with made-up scores."""

import dataclasses
import itertools
import json
import re
import shutil

import numpy as np
import pytest
from byways.datasets import attribution, load_data
from byways.datasets.config import DataConfig
from byways.experiments import ExperimentConfig, RunError
from byways.experiments.library import untrained_run
from byways.experiments.report import write_report
from byways.models.config import ModelConfig, MoeConfig

from .pages import Page

EVIL = "<script>alert('x')</script>"
MODEL = ModelConfig(
    patch_size=16, width=8, hidden=8, depth=2, heads=2, text_length=4, embed_dim=8,
    moe=MoeConfig(num_experts=4),
)  # fmt: skip


def config(model=MODEL):
    return dataclasses.replace(ExperimentConfig(), model=model, steps=200)


def scores(top1):
    shares = {"all": (6, 8), "seen": (4, 8), "held_out": (2, 8)}
    return {s: {"top1": top1, "top5": 0.5, "n": n, "candidates": c} for s, (n, c) in shares.items()}


def recall(r1):
    one = {"r1": r1, "r5": 0.2, "r10": 0.3, "n": 6, "candidates": 12}
    return {"noto": {"image_to_text": one, "text_to_image": one}}


def results():
    layer = {
        "load": [0.4, 0.3, 0.3, 0.0],
        "dead_experts": [3],
        "max_load": 1.6,
        "success_random": 0.97,
        "modalities": {
            "image": {"success": 0.99, "share": [1.0, 0.5, 0.2, 0.0]},
            "text": {"success": 0.98, "share": [0.0, 0.5, 0.8, 0.0]},
        },
    }
    return {
        "format": 1,
        "step": 0,
        "noto": scores(0.4375),
        "retrieval": recall(0.1),
        "baselines": {
            "chance": {"noto": scores(0.125), "retrieval": recall(0.01)},
            "pixel_nearest_neighbour": {"noto": scores(0.25)},
            "dense_twin": {"scores": {"noto": scores(0.3125), "retrieval": recall(0.05)}},
        },
        "routing": {"capacity_factor": 1.25, "layers": {"encoderblock_1": layer}},
    }


def predictions():
    examples = load_data(DataConfig())
    rows = examples.rows(artist="noto")[:6]
    return {
        "names": [EVIL, "b", "c", "d", "e", "f"],
        "artists": {
            "noto": {
                "id": rows.tolist(),
                "concept": examples.concept[rows].tolist(),
                "target": [0, 1, 2, 3, 4, 5],
                "held_out": [False, False, False, False, True, True],
                "rank": [0, 0, 2, 7, 0, 1],
                "top": [[0, 1, 2, 3, 4]] * 6,
                "score": [[0.5, 0.4, 0.3, 0.2, -0.1]] * 6,
            }
        },
    }


def metrics():
    rng = np.random.default_rng(0)
    for step in range(10, 130, 10):
        values = {"loss/contrastive": 5.0 / step, "lr": 0.01, "loss/auxiliary": 1.0, "loss/z": 2.0}
        for key in ("success", "local_entropy", "global_entropy"):
            for m in ("image", "text"):
                values[f"routing/encoderblock_1/{key}/{m}"] = float(rng.uniform())
        # Logged as null where it was not finite.
        values |= {"routing/encoderblock_1/max_load": 1.5, "grad_norm": None if step > 50 else 1.0}
        yield {"step": step, "kind": "train", "metrics": values, "times": {"seconds": 2.0}}
    yield {"step": 120, "kind": "validation", "metrics": {"top1": 0.3, "top5": 0.6}, "times": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = untrained_run(tmp_path_factory.mktemp("runs") / "a<script>alert(1)", config())
    (path / "results.json").write_text(json.dumps(results()))
    (path / "predictions.json").write_text(json.dumps(predictions()))
    lines = [json.dumps(line) for line in metrics()]
    # A line that a kill tore off ends the file.
    (path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 13')
    return path


@pytest.fixture(scope="module")
def html(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def text_of(page):
    return re.sub(r"\s+", " ", " ".join(page.words))


def test_the_page_shows_scores_beside_their_baselines(page):
    words = text_of(page)
    for wanted in ("43.8", "12.5", "25.0", "31.2", "Noto", "dense twin", "pixel matcher"):
        assert wanted in words
    assert "the right one first 43.8 % of the time" in words
    assert "dead: expert 3" in words
    assert "Layer 2 of 2" in words


def test_right_and_wrong_are_marked_by_more_than_colour(page):
    words = text_of(page)
    # Once in the answers, once to choose the way by.
    assert words.count("✓ right") == 6
    assert words.count("✗ wrong") == 6
    assert "the right name is no. 8" in words
    assert words.count("held out") == 4


def test_every_expert_shows_its_patches(page):
    pictures = [a for tag, a in page.elements if tag == "img"]
    assert all(a["src"].startswith("data:image/png;base64,") and a["alt"] for a in pictures)
    assert len(pictures) > 6
    assert all(f"Expert {e}" in page.words for e in range(4))


def test_curves_are_drawn(page):
    # Contrastive loss, validation, rate, gradient norm; four of the layer; auxiliary, z.
    labels = page.curves()
    assert len(labels) == 10
    assert any(label.startswith("Gradient norm") and "step 50" in label for label in labels)


def test_a_way_can_be_chosen_without_a_script(page):
    radios = [a for tag, a in page.elements if tag == "input"]
    assert [a["id"] for a in radios] == [f"way-{n}" for n in range(1, 7)]
    assert {a["name"] for a in radios} == {"way"}
    assert ["checked" in a for a in radios] == [True] + [False] * 5
    labels = [a["for"] for tag, a in page.elements if tag == "label"]
    assert labels == [a["id"] for a in radios]
    # One sparse layer; each drawing says in words what it shows.
    assert len(page.ways()) == 6
    assert all("4 squares go to expert" in words for words in page.ways())
    pictures = {a["id"] for tag, a in page.elements if tag == "image"}
    assert {a["href"][1:] for tag, a in page.elements if tag == "use"} == pictures


def test_what_is_confused_is_shown_with_its_share(page):
    words = text_of(page)
    assert "Most often confused" in words
    # The first is what every drawing was taken for; those that are right are no confusion.
    assert sum("1× →" in word for word in page.words) == 3


def test_how_sure_it_is_has_a_diagram_once_measured(folder, tmp_path):
    path = tmp_path / "sure"
    shutil.copytree(folder, path)
    one = {"from": 0.4, "to": 0.6, "count": 6, "confidence": 0.5, "accuracy": 0.25}
    share = {"error": 0.25, "bins": [one]}
    sure = {"calibration": {"noto": {"all": share, "seen": share}}}
    (path / "results.json").write_text(json.dumps(results() | sure))
    page = Page(write_report(path).read_text("utf-8"))
    words = text_of(page)
    assert "It boasts: on average it is 50.0 % sure, and it is right 25.0 % of the time." in words
    assert "Calibration error 25.0 %, 6 answers." in words


def test_results_of_another_shape_are_left_out_and_named(folder, tmp_path):
    path = tmp_path / "odd"
    shutil.copytree(folder, path)
    (path / "results.json").write_text('{"noto": 5}')
    words = text_of(Page(write_report(path).read_text("utf-8")))
    assert "results.json does not hold what this page shows" in words
    assert "writes it again" in words


def test_what_comes_from_outside_is_escaped(page, html):
    assert page.count("script") == 0
    assert EVIL not in html
    assert "alert(" in text_of(page)


def test_the_page_loads_nothing(page, html):
    assert "http" not in re.sub(r"http-equiv", "", html)
    for tag, attrs in page.elements:
        assert tag not in ("link", "script", "iframe", "object", "base")
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:"))
    assert "url(" not in html
    assert "@import" not in html
    assert len(html) < 3_000_000


def test_the_artists_are_credited(page):
    assert attribution() in text_of(page)


def test_headings_go_down_one_step_at_a_time_and_links_lead_somewhere(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    links = {attrs["href"][1:] for tag, attrs in page.elements if tag == "a"}
    assert links <= ids


def test_a_bare_dense_run_says_what_is_missing(tmp_path):
    moe = dataclasses.replace(MODEL.moe, placement="none")
    path = untrained_run(tmp_path / "dense", config(dataclasses.replace(MODEL, moe=moe)))
    (path / "status.json").unlink()
    (path / "predictions.json").write_text("not json")
    page = Page(write_report(path).read_text("utf-8"))
    words = text_of(page)
    assert "ordinary dense model" in words
    assert "the last line is of step 0 of 200" in words
    assert f"byways evaluate {path}" in words
    assert "predictions.json cannot be read" in words
    assert "No step has been logged yet" in words
    assert "Who goes to which expert" not in words


def test_a_soft_mixture_has_no_choices_to_show(tmp_path):
    moe = dataclasses.replace(MODEL.moe, router="soft")
    path = untrained_run(tmp_path / "soft", config(dataclasses.replace(MODEL, moe=moe)))
    words = text_of(Page(write_report(path).read_text("utf-8")))
    assert "soft mixture of experts" in words
    assert "Who goes to which expert" not in words


def test_a_run_without_a_checkpoint_still_has_its_curves(folder, tmp_path):
    path = tmp_path / "young"
    path.mkdir()
    for name in ("config.json", "tokenizer.model", "metrics.jsonl"):
        (path / name).write_bytes((folder / name).read_bytes())
    page = Page(write_report(path).read_text("utf-8"))
    assert "There are no parameters to look into" in text_of(page)
    assert len(page.curves()) == 10


def test_not_a_run_folder_is_a_clean_error(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
