"""Classifiers, decoders and two towers after training: evaluated, reported, put to use."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import types

import jax
import numpy as np
import pytest
from byways.datasets import Concept, packed_text, text_concepts
from byways.experiments import cli
from byways.experiments.checkpoints import Checkpoints
from byways.experiments.config import ClassificationConfig, kind_of
from byways.experiments.config_files import to_dict
from byways.experiments.evaluation import (
    evaluate_classes,
    evaluate_language,
    evaluate_run,
    measure_routing,
)
from byways.experiments.evaluation.evaluate_classes import usual_settings
from byways.experiments.export import export_run
from byways.experiments.report import write_report
from byways.experiments.report.blocks import layer_title
from byways.experiments.run_folder import RunFolder
from byways.experiments.train_state import initial_params
from byways.models import MoeConfig
from rich.console import Console

from . import kinds
from .report.pages import Page


def fill(config):
    """Parameters of the right shapes, without compiling what draws them."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: initial_params(config))
    return jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(s.dtype), shapes)


def untrained(folder, config):
    with RunFolder(folder).start(config, "untrained") as run:
        checkpoints = Checkpoints(run.checkpoints, config.checkpoint, to_dict(config))
        checkpoints.save(0, {"params": fill(config)})
        checkpoints.close()
        run.mark_finished(0)
    prefix = {"classification": "encoderblock", "language": "block"}[kind_of(config)]
    modality = {"classification": "image", "language": "text"}[kind_of(config)]
    values = {"loss/cross_entropy": 1.0, "lr": 0.1, "loss/auxiliary": 0.5, "loss/z": 0.2}
    values |= {"accuracy": 0.5, "loss/normaliser": 3.0, "grad_norm": 1.0}
    values |= {f"routing/{prefix}_0/success/{modality}": 0.9, f"routing/{prefix}_0/max_load": 1.5}
    line = {"step": 2, "kind": "train", "metrics": values, "times": {"seconds": 1.0}}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    fashion = kinds.write_fashion(tmp_path_factory.mktemp("fashion"))
    config = kinds.classification(fashion)
    return untrained(tmp_path_factory.mktemp("runs") / "classes", config)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    # Two hundred captions in place of the shipped ones, whose drawings take seconds to decode.
    table = [
        Concept(f"{colour} {thing}", ("größer", thing, "word"), held_out=number % 5 == 0)
        for number, colour in enumerate(("red", "blue", "green", "pink", "grey"))
        for thing in ("fox", "apple", "tram", "house", "car", "boat", "owl", "tree")
    ]
    with pytest.MonkeyPatch.context() as patch:
        found = types.SimpleNamespace(concepts=tuple(table))
        patch.setattr(packed_text, "load_data", lambda config: found)
        yield untrained(tmp_path_factory.mktemp("runs") / "words", kinds.LANGUAGE)


@pytest.fixture(scope="module")
def judged(classifier):
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        few = [(1, None, True), (1, 0.5, True)]  # each is a program to compile
        patch.setattr(evaluate_classes, "usual_settings", lambda moe: few)
        results = evaluate_run(classifier, console=Console(file=shown, width=80))
    return results, shown.getvalue()


@pytest.fixture(scope="module")
def foretold(decoder):
    with pytest.MonkeyPatch.context() as patch:
        # (Generation is compiled, and tested, by the command below.)
        patch.setattr(evaluate_language, "continue_texts", continued)
        return evaluate_run(decoder, console=Console(file=io.StringIO(), width=80))


def continued(config, params, codes, prompts, **draw):
    return [f"{prompt} \x1b[2J<b>" for prompt in prompts]


def held_out():
    return text_concepts(kinds.LANGUAGE.data, "held_out")


def words_of(run):
    page = Page(write_report(run).read_text("utf-8"))
    assert page.count("script") == 0
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {a["href"][1:] for tag, a in page.elements if tag == "a"} <= ids
    return page, " ".join(" ".join(page.words).split())


def test_a_classifier_is_scored_on_the_test_split(classifier, judged):
    results, shown = judged
    assert json.loads((classifier / "results.json").read_text()) == results
    head = {key: results[key] for key in ("format", "kind", "run", "step", "dropless", "split")}
    assert head == {
        "format": 1, "kind": "classification", "run": "classes", "step": 0, "dropless": True,
        "split": "test",
    }  # fmt: skip
    assert results["scores"]["count"] == 60 == sum(row[2] for row in results["confusion"])
    hits = sum(many for true, taken, many in results["confusion"] if true == taken)
    assert results["scores"]["top1"] == pytest.approx(hits / 60)
    right = np.dot(results["of_class"], results["count_of_class"])
    assert right == pytest.approx(hits)
    assert sum(one["count"] for one in results["calibration"]) == 60
    assert results["baselines"]["chance"] == {"top1": 0.1, "top5": 0.5}
    assert 0 <= results["baselines"]["nearest_mean"]["top1"] <= 1
    assert "nearest class mean" in shown
    assert "the surest" in shown


def test_predictions_agree_with_the_scores(classifier, judged):
    results, _ = judged
    found = json.loads((classifier / "predictions.json").read_text())
    top, label = np.array(found["top"]), np.array(found["label"])
    assert np.mean(top[:, 0] == label) == pytest.approx(results["scores"]["top1"])
    assert found["id"] == sorted(found["id"])
    assert (np.diff(np.array(found["score"]), axis=1) <= 0).all()


def test_the_same_setting_gives_the_same_score_and_routing_has_one_modality(judged):
    results, _ = judged
    same, less = results["settings"]
    assert same["top1"] == results["scores"]["top1"]
    assert (same["batch_priority"], less["batch_priority"]) == (None, True)
    # Five validation images are repeated to a batch of eight; five tokens each.
    assert results["routing"]["tokens"] == {"image": 40}
    (layer,) = results["routing"]["layers"].values()
    assert list(layer["modalities"]) == ["image"]


def test_usual_settings_are_those_that_a_router_can_have():
    moe = MoeConfig(num_experts=4, selected=2)
    ks = [(k, c) for k, c, _ in usual_settings(moe)]
    assert ks == [(1, None), (2, None), (2, 1.0), (2, 0.5), (2, 0.5)]
    assert usual_settings(dataclasses.replace(moe, router="soft")) == []
    for router in ("switch", "expert_choice", "hash"):
        found = usual_settings(dataclasses.replace(moe, router=router))
        assert {k for k, _, _ in found} == {2}
        assert not any(first for _, _, first in found)


def test_the_page_of_a_classifier(classifier, judged):
    page, words = words_of(classifier)
    assert "sorts pictures into 10 classes" in words
    for wanted in ("Ankle boot", "taken for", "Fashion-MNIST", "Expert 3", "nats about its expert"):
        assert wanted in words
    assert "Noto drawings" not in words
    # Cross-entropy, rate, accuracy; success and load; gradient, auxiliary, z.
    assert len(page.curves()) == 8
    # One sparse layer of six pictures: four patches and the class token each.
    assert len(page.ways()) == 6
    for way in page.ways():
        assert "4 squares go to expert" in way
        assert "the token of the whole picture goes to expert" in way
    assert "Most often confused" in words
    cells = [a for tag, a in page.elements if tag == "td" and "style" in a]
    # The confusions, and four experts for each class among five validation pictures.
    assert len(cells) in [10 * 10 + rows * 4 for rows in range(1, 6)]


def test_a_dense_classifier_has_fewer_parts(classifier, tmp_path):
    config, _ = RunFolder(classifier).read()
    assert isinstance(config, ClassificationConfig)
    dense = dataclasses.replace(config.model, moe=MoeConfig(placement="none"))
    run = untrained(tmp_path / "dense", dataclasses.replace(config, model=dense))
    results = evaluate_run(run, console=Console(file=io.StringIO()))
    assert results["settings"] == []
    assert results["routing"] == {"layers": {}}
    _, words = words_of(run)
    assert "ordinary dense model" in words
    assert "Who goes to which expert" not in words
    assert "other experts per token" not in words


def test_a_decoder_is_scored_in_nats_and_bits(decoder, foretold):
    assert json.loads((decoder / "results.json").read_text()) == foretold
    assert (foretold["kind"], foretold["dropless"]) == ("language", True)
    for split in ("validation", "held_out"):
        found = foretold[split]
        # Every byte is a token that is foretold, and so is the end of a text that fits.
        assert found["tokens"] == found["bytes"]
        assert found["bits_per_byte"] == pytest.approx(found["entropy"] / math.log(2))
        uniform = foretold["baselines"]["uniform"][split]
        assert uniform["bits_per_byte"] == pytest.approx(8)
        pairs, single = (foretold["baselines"][k][split]["entropy"] for k in ("bigram", "unigram"))
        assert pairs < single < uniform["entropy"] < found["entropy"]
    samples = foretold["samples"]["texts"]
    assert [s["prompt"] for s in samples[:6]] == [""] * 6
    assert {s["prompt"] for s in samples[6:]} < {concept.label for concept in held_out()}
    assert list(foretold["routing"]["tokens"]) == ["text"]


def test_the_page_of_a_decoder(decoder, foretold):
    page, words = words_of(decoder)
    assert "foretells what comes next" in words
    for wanted in ("bits a byte", "What it writes", "pair counts", "Expert 3", "of all tokens"):
        assert wanted in words
    # Cross-entropy, rate, normaliser; success and load; gradient, auxiliary, z.
    assert len(page.curves()) == 8
    assert page.count("img") == 0
    assert page.ways()
    assert all("tokens go to expert" in way and "square" not in way for way in page.ways())
    # What a model writes is neither markup nor a terminal's command.
    assert "�[2J<b>" in words


def test_generate_goes_on_up_to_the_end_of_the_text(decoder, foretold, tmp_path, capsys):
    options = ["--steps", "8", "--temperature", "2", "--seed", "1"]
    assert cli.main(["generate", str(decoder), "a red", *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith("a red")
    assert said.removesuffix("\n").isprintable()
    # The same model as a folder says the same; a vocabulary of 256 without a tokenizer is bytes.
    export_run(decoder, tmp_path / "folder")
    assert cli.main(["generate", str(tmp_path / "folder"), "a red", *options]) == 0
    assert capsys.readouterr().out == said


def test_generate_refuses_what_cannot_be(decoder, classifier, tmp_path, capsys):
    def fails(*arguments):
        code = cli.main(["generate", *map(str, arguments)])
        return code, capsys.readouterr().err

    code, said = fails(decoder, "x" * 24)
    assert code == 2
    assert "a prompt of 25 tokens" in said
    assert "max_length=24: at most 0 can be made" in said
    code, said = fails(decoder, "x", "--steps", 30)
    assert (code, "at most 22 can be made" in said) == (2, True)
    assert "steps 0: at least one" in fails(decoder, "x", "--steps", 0)[1]
    assert "temperature=-1.0" in fails(decoder, "x", "--temperature", -1)[1]
    code, said = fails(classifier, "x")
    assert code == 2
    assert "is a run of classification (vmoe), which makes no text" in said
    code, said = fails(tmp_path / "none", "x")
    assert (code, "does not exist" in said) == (1, True)


def test_few_shot_of_a_run_and_of_its_folder(classifier, tmp_path, capsys):
    config, _ = RunFolder(classifier).read()
    options = ["--shots", "1", "3", "--json"]
    assert cli.main(["few-shot", str(classifier), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["shots"] for row in found["rows"]] == [1, 3]
    assert {row["chosen_on"] for row in found["rows"]} == {"validation"}
    assert {row["count"] for row in found["rows"]} == {60}
    export_run(classifier, tmp_path / "folder")
    options += ["--data.data-dir", config.data.data_dir, "--protocol", "big_vision"]
    assert cli.main(["few-shot", str(tmp_path / "folder"), *options]) == 0
    fixed = json.loads(capsys.readouterr().out)
    assert (fixed["kind"], fixed["seeds"]) == ("vmoe", [0, 1, 2])
    assert {row["chosen_on"] for row in fixed["rows"]} == {"fixed"}


def test_few_shot_refuses_what_cannot_be(classifier, decoder, tmp_path, capsys):
    assert cli.main(["few-shot", str(decoder)]) == 2
    said = capsys.readouterr().err
    assert "is a run of language (palm), which reads no images" in said
    assert "byways generate" in said
    assert cli.main(["few-shot", str(classifier), "--shots", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert cli.main(["few-shot", str(classifier), "--shots", "50"]) == 2
    assert "fewer than the 50 shots" in capsys.readouterr().err
    assert cli.main(["few-shot", str(classifier), "--data.data-dir", str(tmp_path)]) == 1
    assert "apt install dataset-fashion-mnist" in capsys.readouterr().err
    export_run(classifier, tmp_path / "folder")
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"x" * 99)
    assert cli.main(["few-shot", str(tmp_path / "folder")]) == 1
    # Of the weights, not of the data.
    assert capsys.readouterr().err.startswith(f"byways: {tmp_path}/folder/model.safetensors: ")


def test_towers_are_measured_each_with_its_own_capacity():
    sparse = MoeConfig(n=1, num_experts=4, group_size=48, capacity_factor=None)
    text = dataclasses.replace(kinds.TOWERS.model.text, moe=sparse)
    config = dataclasses.replace(
        kinds.TOWERS, model=dataclasses.replace(kinds.TOWERS.model, text=text)
    )
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, (8, 1))
    batch = {
        "image": rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        "text": rng.integers(1, 99, (8, 12)).astype(np.int32),
        "text_mask": np.arange(12) < lengths,
    }
    found = measure_routing(config, fill(config), [batch])
    # Four patches an image; padding is no token.
    assert found["tokens"] == {"image": 32, "text": int(lengths.sum())}
    assert "capacity_factor" not in found
    image, words = found["layers"].values()
    assert list(found["layers"]) == ["image/encoderblock_0", "text/encoderblock_0"]
    assert (list(image["modalities"]), list(words["modalities"])) == (["image"], ["text"])
    assert (image["capacity_factor"], words["capacity_factor"]) == (1.25, None)
    # A capacity of so many slots for two groups of 16 tokens, and none that lacks one without.
    assert image["capacity_over_real_tokens"] == 2 * 4 * 5 / 32
    assert (words["capacity_over_real_tokens"], words["success_random"]) == (1.0, 1.0)
    assert words["modalities"]["text"]["success"] == 1.0
    assert layer_title("text/encoderblock_0", config) == "Word tower, layer 1 of 1"
