"""The Grain pipelines: an endless training stream that resumes exactly, and evaluation batches."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .batches import Batch, TrainBatches
from .config import DataConfig
from .examples import Examples, load_examples
from .records import open_data
from .tokenizer import Tokenizer

_AHEAD = 4


@functools.lru_cache(maxsize=4)
def _load(name: str, data_dir: str | None, image_size: int, policy: Any) -> Examples:
    name = "emoji_art" if name == "emoji_scenes" else name
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    return load_examples(open_data(name, folder), image_size, policy)


def load_data(config: DataConfig, image_size: int = 32) -> Examples:
    """The whole data set that `config` names, decoded; the same object if asked again.

    Raises:
        RecordError: it is missing, corrupt or has a row that cannot be used.
    """
    return _load(config.name, config.data_dir, image_size, config.on_bad_image)


@runtime_checkable
class Batches(Protocol):
    """An endless sequence of training batches, each a function of its number alone."""

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`; may hold `cut` (), the number of texts that were cut."""
        ...


class TrainStream:
    """An endless iterator of training batches, read ahead by a thread or by processes.

    Attributes:
        cut: texts cut to the limit in the batches that were handed out so far.
        skipped: rows of the data set left out by policy.
    """

    def __init__(self, batches: Batches, workers: int = 0, skipped: int = 0):
        import grain

        if workers < 0:
            raise ValueError(f"workers is {workers}, and must be at least 0.")
        threads = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)
        data = grain.MapDataset.source(_Source(batches)).to_iter_dataset(threads)
        if workers:
            # A worker starts in the current folder, whose `datasets` might not be its own.
            os.environ.setdefault("PYTHONSAFEPATH", "1")
            # Grain's processes read absl's flags, which only absl's own `app.run` parses.
            flags = importlib.import_module("absl.flags").FLAGS
            if not flags.is_parsed():
                flags.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
            data = data.mp_prefetch(options, _begin_worker)
        self._iterator = iter(data)
        self.cut = 0
        self.skipped = skipped

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = dict(next(self._iterator))
        self.cut += int(batch.pop("cut", 0))
        return batch

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on with the next batch; plain JSON."""
        return {"grain": self._iterator.get_state(), "cut": self.cut}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called, in this or an earlier process.

        The stream must have the same data, config, batch size, seed and workers.
        """
        self._iterator.set_state(state["grain"])
        self.cut = int(state["cut"])

    def close(self) -> None:
        """Stops reading ahead."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def _begin_worker(number: int, count: int) -> None:
    """What a process that reads ahead does first; all of them do the same."""
    del number, count
    # A terminal's Ctrl-C reaches it too, while the trainer still wants batches for a last step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # Grain starts it by multiprocessing
    threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()


def _end_after(parent_ends: Callable[[], None]) -> None:
    # Nobody else would end it: Grain's own loop waits for room in a queue that nobody reads.
    parent_ends()
    os._exit(1)


class _Source:
    """Batches with a length that Grain can do arithmetic on."""

    def __init__(self, batches: Batches):
        self._batches = batches

    def __len__(self) -> int:
        return 1 << 48

    def __getitem__(self, index: int) -> Batch:
        return self._batches[int(index)]


def make_train_stream(
    config: DataConfig, batch_size: int, seed: int = 0, image_size: int = 32
) -> TrainStream:
    """The training stream that `config` describes.

    Args:
        config: the data.
        batch_size: B.
        seed: of the order, the captions, the augmentation and the scenes.
        image_size: S.

    Returns:
        Batches of `image` (B,S,S,3) uint8, `text` (B,N_t) int32, `text_mask` (B,N_t) bool,
        `mask` (B,) bool, `id` (B,) int64 and `concept` (B,) int32 (scenes: -1).

    Raises:
        RecordError: the data set is missing, corrupt or has a row that cannot be used.
        ValueError: a value out of range.
    """
    examples = load_data(config, image_size)
    tokenizer = Tokenizer(config.tokenizer)
    batches = TrainBatches(examples, tokenizer, config, batch_size, seed)
    return TrainStream(batches, config.workers, examples.skipped)


def evaluation_batches(
    config: DataConfig,
    split: str,
    batch_size: int,
    image_size: int = 32,
    artist: str | None = None,
    objects_only: bool = False,
    tokenizer: Tokenizer | None = None,
) -> Iterator[Batch]:
    """A split once through, in order, unaugmented on white, each row with its label.

    Args:
        config: the data.
        split: such as `validation`.
        batch_size: B of every batch. The last one is filled with rows of zeros whose `mask`
            is False, whose `id` and `concept` are -1, and which have no real piece.
        image_size: S.
        artist: only this artist's rows.
        objects_only: only rows of object concepts.
        tokenizer: what counts cut texts; None makes one from `config`.

    Returns:
        Batches as those of `make_train_stream`.

    Raises:
        ValueError: no such split or artist.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, and must be at least 1.")
    examples = load_data(config, image_size)
    rows = examples.rows(split, artist)
    if objects_only:
        kept = np.array([c.is_object for c in examples.concepts])
        rows = rows[kept[examples.concept[rows]]]
    encoder = tokenizer or Tokenizer(config.tokenizer)
    return _evaluation(examples, rows, batch_size, encoder, config.text_length)


def _evaluation(
    examples: Examples, rows: np.ndarray, batch_size: int, tokenizer: Tokenizer, length: int
) -> Iterator[Batch]:
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        concept = examples.concept[part]
        text, text_mask = tokenizer.encode([examples.concepts[c].label for c in concept], length)
        columns = {
            "image": (examples.images(part), 0),
            "text": (text, 0),
            "text_mask": (text_mask, False),
            "mask": (np.ones(len(part), bool), False),
            "id": (part.astype(np.int64), -1),
            "concept": (concept.astype(np.int32), -1),
        }
        missing = batch_size - len(part)
        yield {
            key: np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1), constant_values=fill)
            for key, (value, fill) in columns.items()
        }
