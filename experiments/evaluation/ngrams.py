"""What a decoder has to beat: guessing by how often a token comes, or comes after the last one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from ...datasets import Batch


def targets_of(batch: Batch) -> Bool[np.ndarray, "B n"]:
    """(B, N-1), whether the token at n+1 is foretold from that at n, as `row_losses` counts."""
    segments = np.asarray(batch["segments"])
    return (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)


def segments_of(batch: Batch) -> Iterator[list[int]]:
    """The tokens of each packed text."""
    for tokens, segments in zip(batch["tokens"], batch["segments"], strict=True):
        for number in range(1, int(np.max(segments)) + 1):
            yield np.asarray(tokens)[np.asarray(segments) == number].tolist()


@dataclasses.dataclass(frozen=True)
class NGrams:
    """Probabilities out of counts of training texts.

    Attributes:
        one: (V,), (count + 1) / (all + V).
        two: (V, V), by the last token: (count of both + one) / (count of the last + 1), so that
            a pair that never came is as likely as its second token is.
    """

    one: Float[np.ndarray, "V"]
    two: Float[np.ndarray, "V V"]

    @classmethod
    def of(cls, batches: Iterable[Batch], vocab_size: int) -> NGrams:
        """Counts the targets of packed texts."""
        pairs = np.zeros(vocab_size**2, np.float64)
        for batch in batches:
            last, token = _pairs(batch)
            pairs += np.bincount(last * vocab_size + token, minlength=len(pairs))
        both = pairs.reshape(vocab_size, vocab_size)
        one = (both.sum(axis=0) + 1) / (both.sum() + vocab_size)
        return cls(one, (both + one) / (both.sum(axis=1, keepdims=True) + 1))

    def entropies(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`unigram` and `bigram`: mean of -log p(target), nats a token.

        Raises:
            ValueError: there is no target.
        """
        one = two = 0.0
        many = 0
        for batch in batches:
            last, token = _pairs(batch)
            one -= float(np.log(self.one[token]).sum())
            two -= float(np.log(self.two[last, token]).sum())
            many += len(token)
        if not many:
            raise ValueError("there are no tokens to foretell")
        return {"unigram": one / many, "bigram": two / many}


def _pairs(batch: Batch) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    wanted, tokens = targets_of(batch), np.asarray(batch["tokens"], np.int64)
    return tokens[:, :-1][wanted], tokens[:, 1:][wanted]
