"""A folder of images to a file of embeddings, over islands; goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ...models import LoadedModel
from ..config_files import to_dict
from ..errors import Interrupted, RunError, UsageError
from ..files import canonical_json, remove_tree
from ..library import read_run
from ..sources import Source, unfit
from .embedding import Embeddings
from .image_folder import ImageFile, Resize, list_images, listing_sha256, load_batch
from .islands import open_slices
from .shards import Shards, fits, parts_of, read_result, table_of

# As `byways score` embeds by.
BATCH = 128


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be embedded, and how.

    Attributes:
        folder: of images.
        out: a `.safetensors` file.
        islands: processes to start; 0 is this one alone.
        address: of a Ray that runs already.
        batch: images that go through the model at once.
        resize: how pictures become the model's size, as of `byways score`.
        step: which checkpoint of a run; None is the newest whole one.
        threads: that read and decode images.
    """

    folder: Path
    out: Path
    islands: int = 0
    address: str | None = None
    batch: int = BATCH
    resize: Resize = "crop"
    step: int | None = None
    threads: int = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What came of it.

    Attributes:
        images: files that were found.
        rows: of them, those that are embedded.
        unreadable: paths of the others.
        before: images that were done by an earlier process.
        seconds: from the first batch to the last, of this one.
    """

    images: int
    rows: int
    unreadable: tuple[str, ...]
    before: int
    seconds: float


class Watcher:
    """Is told how it goes; this one does nothing with it."""

    def begins(self, images: int, done: int) -> None:
        """So many images, of which some are done already."""

    def went(self, images: int) -> None:
        """So many more are done."""

    def says(self, sentence: str) -> None:
        """What was lost."""


def embed_folder(
    source: Source, wish: Wish, watcher: Watcher, stopping: Callable[[], bool] = lambda: False
) -> Embedded:
    """Embeds all images of a folder.

    The result holds `embeddings` (N, F) float32, of the images that could be read, in the order of
    their paths; beside it a table says which file each row is of. Both are the same bytes however
    many islands there were, and however often it was stopped.

    Args:
        source: of a model of images and texts, or of its images' part.
        wish: what, and how.
        watcher: is told.
        stopping: true to stop after what is there now.

    Raises:
        UsageError: a model that embeds no images, no images, or a result that is no file of ours.
        RunError: the result is there already and is of something else; it was begun with another
            model, folder or settings; Ray or its islands are missing or lost.
        Interrupted: it was stopped; the same call goes on.
    """
    _check(source, wish)
    files = list_images(wish.folder)
    model, step = _load(source, wish.step)
    size = model.config.image_size
    identity = {
        "model": {"kind": model.kind, "step": step, "sha256": model_sha256(model)},
        "images": {"count": len(files), "sha256": listing_sha256(files)},
        "settings": {"image_size": size, "resize": wish.resize, "batch": wish.batch},
    }
    if wish.out.exists():
        return _there(wish.out, identity, files)
    many = -(-len(files) // wish.batch)
    with Shards(wish.out, identity, many) as shards:
        todo = [number for number in range(many) if number not in shards.done]
        before = sum(_size(number, files, wish.batch) for number in shards.done)
        watcher.begins(len(files), before)
        began = time.perf_counter()
        if todo:
            _embed(model, files, todo, shards, wish, watcher, stopping)
        if len(shards.done) < many:
            raise Interrupted(
                f"stopped with {len(shards.done)} of {many} batches done, which are kept in "
                f"{shards.folder}: the same command goes on"
            )
        table = shards.join()
        ill = tuple(one["path"] for one in table if "error" in one)
        seconds = time.perf_counter() - began
        return Embedded(len(table), len(table) - len(ill), ill, before, seconds)


def model_sha256(model: LoadedModel) -> str:
    """Of a model's kind, config and parameters."""
    digest = hashlib.sha256(canonical_json([model.kind, to_dict(model.config)]))
    leaves, _ = jax.tree_util.tree_flatten_with_path(model.params)
    for path, leaf in leaves:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _check(source: Source, wish: Wish) -> None:
    if source.kind.removesuffix("_image") not in ("limoe", "two_tower"):
        raise unfit(
            source,
            "embeds no images",
            "embed takes a contrastive run, or the folder of a limoe or a two_tower (all of it, or "
            "its images' part)",
        )
    if wish.step is not None and source.experiment is None:
        raise UsageError(f"--step {wish.step}: {source.folder} is no run, and has no checkpoints")
    if wish.batch < 1 or wish.threads < 1:
        raise UsageError(f"--batch {wish.batch}, --threads {wish.threads}: one or more of each")
    if not fits(wish.out):
        raise UsageError(f"--out {wish.out}: name a file that ends in .safetensors")


def _load(source: Source, step: int | None) -> tuple[LoadedModel, int | None]:
    if source.experiment is None:
        return source.load(), None
    read = read_run(source.folder, step)
    return LoadedModel(source.kind, source.config, read.params), read.step


def _embed(
    model: LoadedModel,
    files: list[ImageFile],
    todo: list[int],
    shards: Shards,
    wish: Wish,
    watcher: Watcher,
    stopping: Callable[[], bool],
) -> None:
    how: dict[str, Any] = {
        "batch_size": wish.batch,
        "image_size": model.config.image_size,
        "resize": wish.resize,
    }
    with open_slices(min(wish.islands, len(todo)), wish.address) as slices:
        work = Embeddings(model.config, model.params, slices, on_event=watcher.says)
        found = work.run(
            todo,
            lambda number: load_batch(wish.folder, files, number, **how),
            threads=wish.threads,
            stopping=stopping,
        )
        for batch, rows in found:
            shards.add(batch.number, rows, batch.table)
            watcher.went(len(batch.table))


def _size(number: int, files: list[ImageFile], batch: int) -> int:
    return min(batch, len(files) - number * batch)


def _there(out: Path, identity: dict[str, Any], files: list[ImageFile]) -> Embedded:
    """The result that is there, if it is the one that is asked for."""
    about, table = read_result(out)
    for key, what in (("model", "of another model"), ("settings", "by other settings")):
        if about[key] != identity[key]:
            raise RunError(f"{out} exists, and was made {what}: name another --out, or remove it")
    if [(one["path"], one["bytes"]) for one in table] != [(f.path, f.size) for f in files]:
        raise RunError(
            f"{out} exists, and is of another folder, or the folder has changed since: name "
            f"another --out, or remove {out.name} and {table_of(out).name} to embed all of it again"
        )
    remove_tree(parts_of(out))  # of a process that was killed when all was done
    ill = tuple(one["path"] for one in table if "error" in one)
    return Embedded(len(table), len(table) - len(ill), ill, len(table), 0.0)
