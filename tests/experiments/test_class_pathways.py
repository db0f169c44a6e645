"""What some classes use of a classifier, as a model of its own."""

import jax
import numpy as np
import pytest
from byways.experiments import Checkpoints, RunFolder, cli, to_dict
from byways.experiments.class_pathways import class_numbers
from byways.experiments.errors import UsageError
from byways.models import load_model, parameter_shapes
from flax.traverse_util import unflatten_dict

from .kinds import classification, write_fashion


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Random weights of a tiny classifier."""
    folder = tmp_path_factory.mktemp("classes")
    config = classification(write_fashion(folder, 240))
    draw = np.random.default_rng(0)
    shapes = parameter_shapes("vmoe", config.model)
    flat = {name: draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    with RunFolder(folder / "run").start(config, "untrained") as made:
        checkpoints = Checkpoints(made.checkpoints, config.checkpoint, to_dict(config))
        checkpoints.save(0, {"params": unflatten_dict(flat, sep="/")})
        checkpoints.close()
        made.mark_finished(0)
    return made.path


@pytest.mark.slow
def test_the_classes_of_a_task(run, tmp_path, capsys):
    out = tmp_path / "few"
    options = ["--classes", "Trouser", "8", "--experts", "3", "--min-share", "0"]
    assert cli.main(["export", str(run), str(out), *options]) == 0
    said = capsys.readouterr().out
    assert "validation images of 2 of 10 classes" in said
    loaded = load_model(out)
    assert loaded.kind == "vmoe"
    kept = loaded.config.moe.kept_experts
    assert f"experts of 4: {len(kept)} in encoderblock_0" in said
    assert 1 <= len(kept) <= 3
    assert not (out / "tokenizer.model").exists()
    model = loaded.module
    run_model = jax.jit(lambda p, x: model.apply({"params": p}, x).logits)
    assert run_model(loaded.params, np.zeros((2, 28, 28, 3), np.float32)).shape == (2, 10)


def test_classes_by_name_or_number():
    assert class_numbers(["bag", "0"], ["coat", "shirt", "bag"]) == [0, 2]
    with pytest.raises(UsageError, match="did you mean 'shirt'"):
        class_numbers(["shirtt"], ["coat", "shirt"])
    with pytest.raises(UsageError, match="'7'"):
        class_numbers(["7"], ["coat", "shirt"])


def test_options_that_do_not_fit(run, tmp_path, capsys):
    export = ["export", str(run), str(tmp_path / "x")]
    assert cli.main([*export, "--classes", "1", "--modality", "image"]) == 2
    assert "name one" in capsys.readouterr().err
    assert cli.main([*export, "--modality", "image"]) == 1
    assert "is a run of classification" in capsys.readouterr().err
