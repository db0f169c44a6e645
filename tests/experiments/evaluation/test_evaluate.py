"""evaluate_run on the shipped drawings, with a fake dense run that sees only colours."""

import dataclasses
import io
import json
import types

import numpy as np
import pytest
from byways.datasets import Tokenizer
from byways.experiments import library
from byways.experiments.config import ExperimentConfig
from byways.experiments.config_files import to_dict
from byways.experiments.evaluation import content_hash, evaluate_run, load_templates
from byways.experiments.files import write_json
from rich.console import Console

ARTISTS = ("noto", "noto-v1", "emojione-v1")


def dense_config():
    config = ExperimentConfig()
    moe = dataclasses.replace(config.model.moe, placement="none")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, moe=moe))


def colours(images):
    return images.mean(axis=(1, 2)).astype(np.float32) + 1.0


def lengths(texts):
    return np.array([[len(t), t.count("e") + 1, t.count(" ") + 1] for t in texts], np.float32)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "colours"
    folder.mkdir()
    written = {"format": 1, "kind": "contrastive", "config": to_dict(dense_config())}
    write_json(folder / "config.json", written)
    run = types.SimpleNamespace(
        folder=folder,
        config=dense_config(),
        params={"log_scale": np.float32(2.0)},
        step=7,
        tokenizer=Tokenizer(),
        embed_images=colours,
        embed_texts=lengths,
    )
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load", lambda path, **_: run)
        results = evaluate_run(folder, console=Console(file=shown, width=80))
    return folder, results, shown.getvalue()


def test_the_files_are_whole(evaluated):
    folder, results, shown = evaluated
    assert json.loads((folder / "results.json").read_text()) == results
    made = {p.name for p in folder.iterdir()} - {"config.json"}
    assert made == {"predictions.json", "results.json"}
    assert results["kind"] == "contrastive"
    assert (results["format"], results["run"], results["step"]) == (1, "colours", 7)
    assert results["dropless"] is True
    assert results["templates"] == {"name": "label", "sha256": load_templates("label").sha256}
    assert results["routing"]["layers"] == {}
    assert "Zero-shot" in shown
    assert "Routing" not in shown  # a dense run has none


def test_every_share_ranks_the_same_full_list(evaluated):
    _, results, _ = evaluated
    sizes = {results[a][s]["candidates"] for a in ARTISTS for s in ("all", "seen", "held_out")}
    assert len(sizes) == 1
    for artist in ARTISTS:
        shares = results[artist]
        assert shares["all"]["n"] == shares["seen"]["n"] + shares["held_out"]["n"]
        hits = sum(shares[s]["top5"] * shares[s]["n"] for s in ("seen", "held_out"))
        assert shares["all"]["top5"] * shares["all"]["n"] == pytest.approx(hits)


def test_the_pixel_matcher_names_no_held_out_concept(evaluated):
    _, results, _ = evaluated
    for artist in ARTISTS:
        shares = results["baselines"]["pixel_nearest_neighbour"][artist]
        assert shares["held_out"]["top5"] == 0.0
        # It is no straw man: far above chance on what it was shown.
        chance = results["baselines"]["chance"][artist]["seen"]["top1"]
        assert shares["seen"]["top1"] > 50 * chance


def test_predictions_agree_with_the_scores(evaluated):
    folder, results, _ = evaluated
    predicted = json.loads((folder / "predictions.json").read_text())
    assert content_hash(predicted["names"]) == results["class_names_sha256"]
    for artist in ARTISTS:
        answers, scores = predicted["artists"][artist], results[artist]["all"]
        assert len(set(answers["id"])) == scores["n"]
        assert len(predicted["names"]) == scores["candidates"]
        assert np.mean(np.array(answers["rank"]) < 5) == pytest.approx(scores["top5"])
        ordered = np.array(answers["score"])
        assert (np.diff(ordered, axis=1) <= 0).all()
