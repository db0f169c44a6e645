"""Commands whose islands start on a Ray that was there before, and stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from byways.experiments.library import untrained_run

from byways import runtime as rt

from ..runtime.ray_started import a_ray_that_runs, without_token
from .kinds import LANGUAGE
from .test_kinds_used import untrained
from .tiny import TINY

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own

SMALL = "--model.depth 1 --model.width 16 --model.hidden 16 --model.heads 2 --model.head-size 8"
SHORT = "--batch-size 8 --steps 3 --log-every 1 --model.max-length 16"


@pytest.fixture(scope="module")
def ray():
    """Its address, and what the commands have in their environment."""
    pytest.importorskip("ray")
    with a_ray_that_runs() as found:
        yield found


def byways(*words, expect=0, **environment):
    """The command, as a shell runs it; what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "byways", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**without_token(os.environ), **environment},
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def losses(run):
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["metrics"]["loss"] for row in rows if row["kind"] == "train"]


def test_training_learns_what_it_does_here(ray, tmp_path):
    address, key = ray
    command = ["train", "palm_tiny", *SMALL.split(), *SHORT.split(), "--islands", 2]
    there, here = tmp_path / "there", tmp_path / "here"
    assert f"trained: {there}" in byways(*command, "--run", there, "--cluster", address, **key)
    assert not (there / "islands.jsonl").exists()  # nothing was lost
    byways(*command, "--run", here, "--cluster", "local")  # which has devices enough
    np.testing.assert_allclose(losses(there), losses(here), rtol=1e-5)


def test_serving_makes_what_it_makes_here(ray, tmp_path):
    address, key = ray
    run, prompts = untrained(tmp_path / "run", LANGUAGE), tmp_path / "prompts"
    prompts.write_text('a red\n{"prompt": "a fox", "temperature": 1.0}\n')
    made = []
    for where in (["--islands", 2, "--ray-address", address], []):
        out = tmp_path / f"texts{len(made)}"
        byways("generate", run, "--prompts", prompts, "--out", out, "--steps", 4, *where, **key)
        lines = map(json.loads, out.read_text().splitlines())
        made.append(sorted((line["index"], line["tokens"], line["text"]) for line in lines))
    assert made[0] == made[1]


def test_embedding_gives_the_same_bytes(ray, tmp_path):
    from PIL import Image

    address, key = ray
    run, photos = untrained_run(tmp_path / "run", TINY), tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for n in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(photos / f"{n}.png")
    made = []
    for where in (["--islands", 2, "--ray-address", address], []):
        folder = tmp_path / f"made{len(made)}"
        folder.mkdir()
        out = folder / "photos.safetensors"
        byways("embed", run, photos, "--out", out, "--batch", 2, *where, **key)
        made.append(out.read_bytes())
    assert made[0] == made[1]


def test_a_cluster_joins_it_and_leaves_it(ray, tmp_path, monkeypatch):
    address, key = ray
    monkeypatch.setenv("BYWAYS_STATE", str(tmp_path))
    for _ in range(2):
        assert "is up: 2 islands" in byways("cluster", "up", "--ray-address", address, **key)
        assert f"Ray at {address}" in byways("cluster", "status", "--once")
        with rt.attach() as client:
            parts = [client.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]
            double, more = (rt.computation(lambda x, n=n: x * 2 + n, parts[n]) for n in range(2))
            found = more(double(np.ones(3, np.float32)))
            np.testing.assert_array_equal(found.result(), [5, 5, 5])
        assert f"(left as it is: the Ray at {address})" in byways("cluster", "down")


def test_what_does_not_fit_ends_soon_and_leaves_nothing(ray, tmp_path):
    address, key = ray
    state = {"BYWAYS_STATE": str(tmp_path)}
    said = byways("cluster", "up", "--ray-address", address, expect=1, **state, HOME=str(tmp_path))
    assert "does not start" in said
    assert "wants a token, and this process has none" in said
    many = ["cluster", "up", "--ray-address", address, "--islands", 9, "--patience", 15]
    said = byways(*many, expect=1, **state, **key)
    assert "islands want a core each, and the Ray at" in said
    assert not list(tmp_path.glob("*.json"))
