"""`byways score`: imported models embed as their libraries do, and what cannot be is said first."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from byways.datasets import open_split
from byways.experiments import cli
from byways.experiments.evaluation.embedder import Embedder, open_tokenizer
from byways.experiments.sources import find_source
from byways.models import (
    ImageTowerConfig,
    TextTowerConfig,
    TwoTowerConfig,
    load_model,
    parameter_shapes,
    save_model,
)

PARITY = Path(__file__).parents[2] / "parity" / "clip"


@dataclasses.dataclass
class Given:
    """A tokenizer of texts that are numbers of rows that are known."""

    ids: np.ndarray
    mask: np.ndarray
    vocab_size: int = 40
    fingerprint: str = "given"
    cut: int = 0

    def encode(self, texts, length):
        rows = [int(text) for text in texts]
        assert self.ids.shape[1] == length
        return self.ids[rows].astype(np.int32), self.mask[rows]


@pytest.mark.parametrize("name", ["hf_clip_quick", "hf_siglip"])
def test_imported_models_embed_as_theirs(name, tmp_path):
    assert cli.main(["import", "clip", str(PARITY / name), str(tmp_path / "ours")]) == 0
    with np.load(PARITY / name / "expected.npz") as expected:
        embedder = Embedder(
            load_model(tmp_path / "ours"), Given(expected["ids"], expected["mask"].astype(bool))
        )
        images = expected["pixels"]
        batch = {"image": images, "mask": np.array([True, False, True])}
        (found,) = embedder.images([batch])
        np.testing.assert_allclose(found, expected["image"][[0, 2]], atol=1e-5)
        texts = embedder.texts(["2", "0"])
        np.testing.assert_allclose(texts, expected["text"][[2, 0]], atol=1e-5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A small CLIP of random weights, with a vocabulary of its own."""
    sizes = {"width": 8, "hidden": 16, "depth": 1, "heads": 2}
    config = TwoTowerConfig(
        image=ImageTowerConfig(image_size=16, patch_size=8, pool="token", pre_norm=True, **sizes),
        text=TextTowerConfig(text_length=16, vocab_size=544, causal=True, pool="end", **sizes),
        embed_dim=8,
    )
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in parameter_shapes("two_tower", config).items()
    }
    folder = tmp_path_factory.mktemp("clip") / "clip"
    beside = {name: PARITY / "tokenizer" / name for name in ("vocab.json", "merges.txt")}
    save_model(folder, "two_tower", config, arrays, beside=beside)
    return folder


def run(arguments, capsys) -> tuple[int, str]:
    code = cli.main(["score", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.err + said.out


def test_retrieval_and_zero_shot_of_a_folder(clip, tmp_path, capsys):
    pytest.importorskip("tokenizers")
    about = [clip, "--data.name", "emoji_art", "--data.split", "validation", "--limit", "12"]
    out = tmp_path / "found.json"
    code, said = run([*about, "--task", "retrieval", "--out", out], capsys)
    assert code == 0, said
    assert "Retrieval on emoji_art (validation)" in said
    found = json.loads(out.read_text())
    assert (found["task"], found["kind"], found["step"]) == ("retrieval", "two_tower", None)
    assert found["images"] == 12
    rows = open_split("emoji_art", split="validation").count
    about_data = {"name": "emoji_art", "split": "validation", "rows": rows}
    assert found["data"] == {**about_data, "limit": 12, "rows_read": 12}
    assert f"12 of {rows} rows, drawn by seed 0" in said
    assert found["scores"]["text_to_image"]["candidates"] == 12
    assert found["protocol"]["ties"] == "against"
    assert len(found["captions_sha256"]) == len(found["tokenizer_sha256"]) == 64

    split = open_split("emoji_art", split="validation")
    labels = sorted({row.captions[0] for row in split.read()}, key=str.lower)
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(labels) + "\n")
    zero = [*about, "--task", "zero-shot", "--json", "--protocol"]
    ours = json.loads(run([*zero, "byways"], capsys)[1])
    assert ours["scores"]["n"] == 12
    assert ours["scores"]["candidates"] == len(ours["of_class"])
    named = json.loads(run([*zero, "byways", "--classes", classes], capsys)[1])
    assert named["prompts_sha256"] == ours["prompts_sha256"]
    assert named["scores"] == ours["scores"]
    theirs = json.loads(run([*zero, "clip_benchmark", "--classes", classes], capsys)[1])
    assert theirs["prompts_sha256"] != ours["prompts_sha256"]
    assert theirs["templates"]["templates"] == ["a photo of a {}."]
    assert theirs["protocol"]["resize"] == "short_side"


def bare(folder: Path, clip: Path, kind: str) -> Path:
    """A folder that has a config, and no parameters that one could read."""
    folder.mkdir()
    config = json.loads((clip / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model": kind}))
    (folder / "model.safetensors").touch()
    return folder


def test_what_cannot_be_is_said_before_a_model_is_read(clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BYWAYS_CACHE", str(tmp_path / "cache"))
    whole = bare(tmp_path / "whole", clip, "two_tower")
    images = bare(tmp_path / "images", clip, "two_tower_image")
    texts = bare(tmp_path / "texts", clip, "two_tower_text")
    twice = tmp_path / "twice.txt"
    twice.write_text("cat\nCat\n")
    emoji = ["--data.name", "emoji_art"]
    zero, pairs = ["--task", "zero-shot"], ["--task", "retrieval"]
    probe = ["--task", "linear-probe", "--data.name", "fashion_mnist"]
    for arguments, code, match in [
        ([whole, *zero], 2, "name the data: --data.name"),
        ([whole, *zero, "--data.name", "emojiart"], 1, "Did you mean 'emoji_art'?"),
        ([whole, *pairs, "--data.name", "openclipart"], 1, "apt install openclipart-svg"),
        ([whole, *pairs, *emoji, "--data.split", "tset"], 1, "no split 'tset'"),
        ([whole, *zero, *emoji, "--classes", twice], 2, "lines 1 and 2, 'cat' and 'Cat'"),
        ([whole, *zero, *emoji, "--templates", "phot"], 2, "did you mean 'photo'"),
        ([whole, *pairs, *emoji, "--templates", "photo"], 2, "--templates: of no use to --task"),
        ([whole, *pairs, *emoji, "--limit", "0"], 2, "--limit 0: expected 1 or more"),
        ([whole, *pairs, *emoji], 1, "has no tokenizer (tokenizer.json, vocab.json"),
        ([whole, *pairs, *emoji, "--tokenizer", twice], 1, "is no byte-pair tokenizer"),
        ([images, *pairs, *emoji], 2, "reads no texts: zero-shot and retrieval take"),
        ([texts, *pairs, *emoji], 2, "reads no images"),
        ([texts, "--task", "linear-probe", *emoji], 2, "reads no images"),
        ([tmp_path / "no", *pairs, *emoji], 1, "does not exist: it is neither a run's folder"),
        ([whole, *probe, "--protocol", "big_vision"], 2, "linear-probe knows byways only"),
        ([images, *probe, "--data.data-dir", tmp_path], 1, "Fashion-MNIST is not in"),
    ]:
        found, said = run(arguments, capsys)
        assert found == code, said
        assert match in said


def test_whose_tokenizer(clip, tmp_path):
    pytest.importorskip("tokenizers")
    assert open_tokenizer(find_source(clip)).vocab_size == 544
    own = bare(tmp_path / "own", clip, "two_tower")
    shutil.copy(PARITY / "tokenizer" / "tokenizer.json", own)
    made = open_tokenizer(find_source(own))
    assert made.encode(["a"], 16)[0].tolist() == open_tokenizer(find_source(clip)).encode(
        ["a"], 16)[0].tolist()  # fmt: skip


def test_an_output_that_cannot_be_is_said_first(tmp_path, capsys):
    (tmp_path / "file").touch()
    about = ["nowhere", "--task", "zero-shot", "--data.name", "emoji_art", "--out"]
    code, said = run([*about, tmp_path / "file" / "x.json"], capsys)
    assert (code, "is a file; name another file" in said) == (2, True)
    code, said = run([*about, tmp_path], capsys)
    assert (code, "is a folder; name a file in it" in said) == (2, True)
