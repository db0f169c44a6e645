"""Packed text, as data: a frozen dataclass that imports neither JAX nor Grain."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class TextDataConfig:
    """An endless stream of a data set's captions, packed into rows.

    Attributes:
        name: `emoji_art`, or any TFDS data set with captions prepared as ArrayRecord.
        data_dir: where prepared data sets are; None is the copy shipped in the package.
        vocabulary: `bytes` of UTF-8 (256 tokens), or the tokenizer's `pieces`.
        tokenizer: a SentencePiece `.model` file for pieces; None is the one shipped.
        label_share: share of captions that are the label alone, without keywords.
        validation_share: share of the concepts that training leaves out, by a hash of their label;
            held-out concepts are left out besides, for the final figure.
        workers: Grain worker processes; 0 reads in this process (with a prefetching thread).
    """

    name: str = "emoji_art"
    data_dir: str | None = None
    vocabulary: Literal["bytes", "pieces"] = "bytes"
    tokenizer: str | None = None
    label_share: float = 0.25
    validation_share: float = 0.1
    workers: int = 0
