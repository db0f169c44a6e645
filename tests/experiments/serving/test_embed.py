"""`byways embed` makes what `byways score` embeds, wherever, and however often it is stopped."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy
from byways.datasets import picture
from byways.experiments import cli
from byways.experiments.errors import Interrupted, RunError
from byways.experiments.evaluation.embedder import Embedder
from byways.experiments.library import untrained_run
from byways.experiments.serving import embed_folder as module
from byways.experiments.serving import islands
from byways.experiments.serving.embed_folder import Watcher, Wish, embed_folder
from byways.experiments.sources import find_source
from PIL import Image

from byways import runtime as rt

from ...runtime.ray_in_process import NearIslands
from ..kinds import LANGUAGE
from ..test_kinds_used import untrained
from ..tiny import TINY

BATCH = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("embed") / "run", TINY)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eighteen images of some sizes and kinds, two that are none, and what is no image's."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep" / "er").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(18):
        where = folder / ("deep/er" if n % 3 == 0 else "deep" if n % 3 == 1 else ".")
        mode, channels = ("RGBA", 4) if n % 5 == 0 else ("RGB", 3)
        size = (20 + n, 50 - n, channels)
        image = Image.fromarray(rng.integers(0, 256, size, np.uint8), mode)
        image.save(where / f"{n:02d}.{'png' if channels == 4 else 'jpg'}")
    (folder / "deep" / "broken.png").write_bytes(b"no image at all")
    cut = (folder / "02.jpg").read_bytes()
    (folder / "cut.JPG").write_bytes(cut[: len(cut) // 2])
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(cut)
    return folder


def wish(photos, out, **more):
    return Wish(photos, out, batch=BATCH, threads=2, **more)


@contextlib.contextmanager
def local_slices(count, address=None):
    """Devices of this process as islands."""
    devices = jax.devices()
    with rt.Runtime({f"island{n}": [devices[n]] for n in range(count)}) as system:
        yield [system.virtual_devices(name).add_slice(1) for name in system.islands]


@contextlib.contextmanager
def near_slices(count, address=None):
    """Islands of messages."""
    hosts = NearIslands(count)
    with hosts.runtime() as system:
        yield [system.virtual_devices(name).add_slice(1) for name in system.islands]
    hosts.close()


@pytest.fixture(scope="module")
def plain(run, photos, tmp_path_factory):
    """The result of this process alone."""
    out = tmp_path_factory.mktemp("plain") / "photos.safetensors"
    found = embed_folder(find_source(run), wish(photos, out), Watcher())
    assert (found.images, found.rows, found.before) == (20, 18, 0)
    assert found.unreadable == ("cut.JPG", "deep/broken.png")
    return out


def test_rows_are_the_embedders_to_the_bit(run, photos, plain):
    table = [json.loads(line) for line in plain.with_suffix(".jsonl").read_text().splitlines()]
    paths = [one["path"] for one in table]
    assert paths == sorted(paths)
    assert len(paths) == 20
    assert "UnidentifiedImageError" in next(t["error"] for t in table if "broken" in t["path"])

    def batches():
        for begin in range(0, 20, BATCH):
            image = np.zeros((BATCH, 32, 32, 3), np.uint8)
            mask = np.zeros(BATCH, bool)
            for place, one in enumerate(table[begin : begin + BATCH]):
                if one["row"] is not None:
                    image[place] = picture((photos / one["path"]).read_bytes(), 32)
                    mask[place] = True
            yield {"image": image, "mask": mask}

    wanted = np.concatenate(list(Embedder(find_source(run).load(), None).images(batches())))
    found = safetensors.numpy.load_file(plain)["embeddings"]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert [one["row"] for one in table if one["row"] is not None] == list(range(18))


def same(out, plain):
    assert out.read_bytes() == plain.read_bytes()
    assert out.with_suffix(".jsonl").read_bytes() == plain.with_suffix(".jsonl").read_bytes()
    assert not out.with_name(out.name + ".parts").exists()


@pytest.mark.parametrize(
    "slices", [local_slices, pytest.param(near_slices, marks=pytest.mark.slow)]
)
def test_islands_and_stops_change_no_byte(slices, run, photos, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_slices", slices)
    out, source = tmp_path / "photos.safetensors", find_source(run)

    class Stops(Watcher):
        images = 0

        def went(self, images):
            self.images += images

    watcher = Stops()
    for _ in range(2):  # of five batches two each time
        watcher.images = 0
        with pytest.raises(Interrupted, match="the same command goes on"):
            embed_folder(
                source, wish(photos, out, islands=2), watcher, lambda: watcher.images >= 2 * BATCH
            )
    found = embed_folder(source, wish(photos, out, islands=2), watcher)
    assert found.before == 16
    same(out, plain)
    again = embed_folder(source, wish(photos, out, islands=2), watcher)
    assert (again.before, again.rows, again.seconds) == (20, 18, 0)


def test_a_lost_islands_batches_go_to_others(run, photos, plain, tmp_path, monkeypatch):
    out, source, systems = tmp_path / "photos.safetensors", find_source(run), []

    @contextlib.contextmanager
    def slices(count, address=None):
        with local_slices(count) as found:
            systems.append(found[0].system)
            yield found

    monkeypatch.setattr(module, "open_slices", slices)

    class Loses(Watcher):
        def __init__(self, *names):
            self.names, self.told = list(names), []

        def went(self, images):
            if self.names:
                systems[-1].lose_island(self.names.pop(0))

        def says(self, sentence):
            self.told.append(sentence)

    watcher = Loses("island0", "island1")
    with pytest.raises(RunError, match=r"no island is left .*island0.*island1.* goes on"):
        embed_folder(source, wish(photos, out, islands=2), watcher)
    assert len(watcher.told) == 2
    watcher = Loses("island1")
    found = embed_folder(source, wish(photos, out, islands=3), watcher)
    assert found.before >= BATCH
    assert "island 'island1' is lost" in watcher.told[0]
    same(out, plain)


def test_the_command_says_what_it_did_and_refuses_what_cannot_be(
    run, photos, plain, tmp_path, capsys, monkeypatch
):
    def command(*arguments):
        try:
            code = cli.main(["embed", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    out = tmp_path / "photos.safetensors"
    how = ["--out", out, "--batch", BATCH]
    code, said, _ = command(run, photos, *how)
    assert code == 0
    assert "18 images in" in said
    assert "2 could not be read" in said
    assert "photos.jsonl says why: cut.JPG, deep/broken.png" in said
    same(out, plain)
    code, said, _ = command(run, photos, *how)
    assert (code, "is there already: 18 images" in said) == (0, True)
    # Of something else.
    assert "by other settings" in command(run, photos, "--out", out, "--batch", 5)[2]
    assert "by other settings" in command(run, photos, *how, "--resize", "squash")[2]
    assert "of another folder" in command(run, photos / "deep", *how)[2]
    other = untrained_run(tmp_path / "other", TINY)
    (tmp_path / "empty").mkdir()
    assert "of another model" in _with_other_weights(other, monkeypatch, command, photos, how)
    # What cannot be.
    for arguments, words in [
        ([tmp_path / "none", photos, *how], "does not exist"),
        ([run, tmp_path / "none", *how], "does not exist: name a folder"),
        ([run, tmp_path / "empty", *how], "has no images in it (avif, bmp"),
        ([run, out, *how], "is a file"),
        ([run, photos, "--out", tmp_path / "x.npz"], "ends in .safetensors"),
        ([run, photos, *how, "--islands", -1], "1 or more, or 0"),
        ([run, photos, *how, "--batch", 0], "one or more"),
        ([run, photos, *how, "--ray-address", "auto"], "how many islands"),
        ([run, photos, *how, "--resize", "crup"], "did you mean 'crop'"),
        ([run, photos, "--out", tmp_path / "y.safetensors", "--step", 3], "step"),
    ]:
        code, _, said = command(*arguments)
        assert code
        assert words in said, said
    decoder = untrained(tmp_path / "decoder", LANGUAGE)
    code, _, said = command(decoder, photos, *how)
    assert (code, "embeds no images" in said) == (2, True)

    def missing(*_, **__):
        raise rt.RayMissing("not installed: pip install 'byways[ray]'")

    monkeypatch.setattr(islands.rt, "RayRuntime", missing, raising=False)
    fresh = ["--out", tmp_path / "z.safetensors"]
    code, _, said = command(run, photos, *fresh, "--islands", 2)
    assert (code, "pip install 'byways[ray]'" in said) == (1, True)


def _with_other_weights(other, monkeypatch, command, photos, how):
    real = module._load

    def load(source, step):
        model, step = real(source, step)
        params = jax.tree.map(lambda leaf: leaf + 1, model.params)
        return type(model)(model.kind, model.config, params), step

    with monkeypatch.context() as patch:
        patch.setattr(module, "_load", load)
        return command(other, photos, *how)[2]


@pytest.mark.slow
def test_killed_again_and_again_the_command_ends_with_the_same_bytes(run, photos, plain, tmp_path):
    out = tmp_path / "photos.safetensors"
    parts = out.with_name(out.name + ".parts")
    command = [sys.executable, "-P", "-m", "byways", "embed", str(run), str(photos)]
    command += ["--out", str(out), "--batch", str(BATCH)]
    # The same CPU devices and options as here, since XLA may round otherwise by them.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    for kill in range(3):
        child = subprocess.Popen(command, cwd=tmp_path, env=environment)
        while child.poll() is None and len(list(parts.glob("0*"))) <= kill:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    same(out, plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_processes_of_a_ray_give_the_same_bytes(run, photos, plain, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "photos.safetensors"
    embed_folder(find_source(run), wish(photos, out, islands=2), Watcher())
    same(out, plain)
