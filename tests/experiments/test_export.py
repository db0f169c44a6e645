"""A run's weights as a folder: bit for bit; and a modality's share of them, which runs alone."""

import re

import jax
import numpy as np
import pytest
from byways.experiments import cli, load, pathways
from byways.experiments.library import read_run, untrained_run
from byways.models import MODALITIES, load_model

from .tiny import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("export") / "run", TINY)


def test_the_whole_run_comes_back_bit_for_bit(run, tmp_path, capsys):
    out = tmp_path / "whole"
    assert cli.main(["export", str(run), str(out)]) == 0
    read, loaded = read_run(run), load_model(out)
    count = sum(leaf.size for leaf in jax.tree.leaves(read.params))
    assert f"limoe, {count / 1e6:.2f} M parameters" in capsys.readouterr().out
    assert (loaded.kind, loaded.config) == ("limoe", read.config.model)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, read.params)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(read.params)
    tokenizer = (out / "tokenizer.model").read_bytes()
    assert tokenizer == (run / "tokenizer.model").read_bytes()
    assert cli.main(["export", str(run), str(out)]) == 1
    assert "exists: name another folder" in capsys.readouterr().err


def test_a_modality_alone(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pathways, "_COUNTED", 64)
    out = tmp_path / "image"
    options = ["--modality", "image", "--experts", "2", "--min-share", "0"]
    assert cli.main(["export", str(run), str(out), *options]) == 0
    said = capsys.readouterr().out
    assert re.search(r"experts of 4: [12] in encoderblock_0\n", said)
    assert re.search(r"top-1 .*: \d+\.\d+%, of the whole model \d+\.\d+%\n", said)
    # The folder needs nothing of the run.
    loaded, whole = load_model(out), load(run)
    assert loaded.kind == "limoe_image"
    assert not any(name.startswith(MODALITIES[1]) for name in loaded.params)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    embed = jax.jit(lambda p, x: loaded.module.apply({"params": p}, x, None, None).image)
    cosine = np.sum(np.asarray(embed(loaded.params, images)) * whole.embed_images(images), axis=1)
    assert cosine.mean() > 0.5
    kept = sum(leaf.size for leaf in jax.tree.leaves(loaded.params))
    every = sum(leaf.size for leaf in jax.tree.leaves(whole.params))
    assert f"({kept / every:.1%})" in said


def test_options_that_do_not_fit(run, tmp_path, capsys):
    assert cli.main(["export", str(run), str(tmp_path / "x"), "--experts", "2"]) == 2
    assert "name its --modality or --classes too" in capsys.readouterr().err
    options = ["--modality", "text", "--min-share", "3"]
    assert cli.main(["export", str(run), str(tmp_path / "x"), *options]) == 2
    assert "--min-share 3.0 --experts None: expected a share" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
