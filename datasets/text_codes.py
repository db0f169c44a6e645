"""Text as numbers without a fixed length: bytes, or a tokenizer's pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import SupportsInt

from .text_config import TextDataConfig
from .tokenizer import Tokenizer


class TextCodes:
    """Encodes texts, each between two marks; what is between two marks is one text.

    Args:
        config: says which vocabulary.

    Attributes:
        vocab_size: V.
        mark: the number that begins and ends a text: the newline of bytes, 0 of pieces.
        tokenizer: of pieces; None of bytes.

    Raises:
        FileNotFoundError, ValueError: the tokenizer's file, as `Tokenizer`.

    Examples:
        >>> codes = TextCodes(TextDataConfig())
        >>> codes.encode("a fox")
        [10, 97, 32, 102, 111, 120, 10]
        >>> codes.decode(codes.encode("größer")), codes.start("a")
        ('größer', [10, 97])
    """

    def __init__(self, config: TextDataConfig):
        pieces = config.vocabulary == "pieces"
        self.tokenizer = Tokenizer(config.tokenizer) if pieces else None
        self.vocab_size = self.tokenizer.vocab_size if self.tokenizer else 256
        self.mark = 0 if pieces else ord("\n")

    def start(self, text: str) -> list[int]:
        """A text that is still to be continued."""
        if self.tokenizer is not None:
            return [self.mark, *self.tokenizer.numbers(text)]
        return [self.mark, *text.replace("\n", " ").encode()]

    def encode(self, text: str) -> list[int]:
        """A whole text."""
        return [*self.start(text), self.mark]

    def decode(self, numbers: Iterable[SupportsInt]) -> str:
        """The text up to the mark that ends it; a mark that begins it is passed over."""
        kept = [int(number) for number in numbers]
        if kept[:1] == [self.mark]:
            kept = kept[1:]
        if self.mark in kept:
            kept = kept[: kept.index(self.mark)]
        if self.tokenizer is not None:
            return self.tokenizer.decode(kept)
        return bytes(kept).decode("utf-8", "replace")


def packed(texts: Iterable[Sequence[int]], length: int) -> Iterable[tuple[list[int], list[int]]]:
    """Rows of whole texts, in their order; a text that does not fit begins the next row.

    Args:
        texts: numbers of each; what is longer than a row is cut.
        length: N.

    Yields:
        Tokens and segments (1, 2, …; 0 where a row's end is padded), N of each.
    """
    tokens: list[int] = []
    segments: list[int] = []
    for text in texts:
        text = list(text)[:length]
        if len(tokens) + len(text) > length:
            yield _filled(tokens, segments, length)
            tokens, segments = [], []
        segments += [segments[-1] + 1 if segments else 1] * len(text)
        tokens += text
    if tokens:
        yield _filled(tokens, segments, length)


def _filled(tokens: list[int], segments: list[int], length: int) -> tuple[list[int], list[int]]:
    missing = [0] * (length - len(tokens))
    return tokens + missing, segments + missing
