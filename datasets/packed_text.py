"""Captions for a decoder: packed training batches by number, and a split once through."""

from __future__ import annotations

import itertools
import sys
import zlib
from collections.abc import Iterator

import numpy as np

from .batches import Batch
from .captions import draw_caption, training_concepts
from .config import DataConfig
from .examples import Concept
from .streams import TrainStream, load_data
from .text_codes import TextCodes, packed
from .text_config import TextDataConfig

SPLITS = ("train", "validation", "held_out")


def text_concepts(config: TextDataConfig, split: str) -> tuple[Concept, ...]:
    """The concepts whose captions make a split: no concept is in two.

    A label of `validation` may be a keyword of `train` (of emoji_art 16 of 159 are), and one of
    `held_out` may not.

    Raises:
        ValueError: no such split.
        RecordError: the data set is missing or corrupt.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r} of captions; there are {', '.join(SPLITS)}")
    table = load_data(DataConfig(name=config.name, data_dir=config.data_dir)).concepts
    if split == "held_out":
        return tuple(concept for concept in table if concept.held_out)
    seen = [concept for concept in training_concepts(table) if concept is not None]
    wanted = split == "validation"
    return tuple(c for c in seen if _for_validation(c, config.validation_share) == wanted)


class PackedText:
    """Batch number i of an endless stream of packed captions is `batches[i]`.

    Args:
        concepts: whose captions; drawn with replacement.
        codes: the vocabulary.
        label_share: as `TextDataConfig`.
        batch_size, length: B and N.
        seed: of the stream.

    Raises:
        ValueError: nothing to draw from.
    """

    def __init__(
        self,
        concepts: tuple[Concept, ...],
        codes: TextCodes,
        label_share: float,
        batch_size: int,
        length: int,
        seed: int = 0,
    ):
        if not concepts:
            raise ValueError("There is no concept to take captions from.")
        self._concepts, self._codes, self._label_share = concepts, codes, label_share
        self._rows, self._length, self._seed = batch_size, length, seed

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`: `tokens` and `segments` (B, N) int32, `id` (B,) int64, the numbers of the
        rows in the stream, and `cut` () int64, the number of captions longer than a row."""
        rng = np.random.default_rng([self._seed, 3, index])
        cut = 0

        def texts() -> Iterator[list[int]]:
            nonlocal cut
            while True:
                concept = self._concepts[int(rng.integers(len(self._concepts)))]
                numbers = self._codes.encode(draw_caption(concept, rng, self._label_share))
                cut += len(numbers) > self._length
                yield numbers

        rows = list(itertools.islice(packed(texts(), self._length), self._rows))
        return {
            "tokens": np.array([tokens for tokens, _ in rows], np.int32),
            "segments": np.array([segments for _, segments in rows], np.int32),
            "id": index * self._rows + np.arange(self._rows),
            "cut": np.array(cut, np.int64),
        }


def make_text_stream(
    config: TextDataConfig, batch_size: int, length: int, seed: int = 0
) -> TrainStream:
    """The training stream that `config` describes; batches as `PackedText`, without `cut`.

    Raises:
        RecordError: the data set is missing or corrupt.
        FileNotFoundError, ValueError: the tokenizer, or a value out of range.
    """
    concepts = text_concepts(config, "train")
    codes = TextCodes(config)
    batches = PackedText(concepts, codes, config.label_share, batch_size, length, seed)
    return TrainStream(batches, config.workers)


def text_batches(
    config: TextDataConfig, split: str, batch_size: int, length: int, each: int = 4
) -> Iterator[Batch]:
    """A split's captions once through, `each` of every concept, drawn the same each time.

    Yields:
        `tokens` and `segments` (B, N) int32; the last batch is filled with rows of padding.
    """
    codes = TextCodes(config)
    rng = np.random.default_rng(0)
    texts = [
        codes.encode(draw_caption(concept, rng, config.label_share))
        for concept in text_concepts(config, split)
        for _ in range(each)
    ]
    rows = list(packed(texts, length))
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        blank = [([0] * length, [0] * length)] * (batch_size - len(part))
        tokens, segments = zip(*part, *blank, strict=True)
        yield {"tokens": np.array(tokens, np.int32), "segments": np.array(segments, np.int32)}


def _for_validation(concept: Concept, share: float) -> bool:
    return zlib.crc32(concept.label.lower().encode()) < share * 2**32
