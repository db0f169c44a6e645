"""Top-k as a mergeable state: hits and counts are summed, averages are never averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


def distinct_rows(
    rows: Float[np.ndarray, "N F"],
) -> tuple[Float[np.ndarray, "D F"], Int[np.ndarray, "N"]]:
    """The distinct ones of N rows, and which of them each is."""
    # 0.0 + -0.0 is 0.0: equal numbers have equal bytes. As bytes, rows are sorted fast.
    whole = np.ascontiguousarray(rows + np.zeros((), rows.dtype))
    keys = whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1])))[:, 0]
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(rows):
        return rows, np.arange(len(rows))
    return rows[first], of


def similarities(
    queries: Float[np.ndarray, "B F"], candidates: Float[np.ndarray, "N F"]
) -> Float[np.ndarray, "B N"]:
    """Inner products, the same to the last bit for equal rows, so that ties are ties.

    A matrix product alone may round a column by where it stands, and of candidates that are all
    the same vector one would then come first.

    Examples:
        >>> queries = np.random.default_rng(0).normal(size=(3, 96)).astype(np.float32)
        >>> scores = similarities(queries, np.repeat(queries[:1], 37, axis=0))
        >>> bool((scores == scores[:, :1]).all())
        True
    """
    left, row = distinct_rows(queries)
    right, column = distinct_rows(candidates)
    scores = left @ right.T
    if len(left) < len(queries):
        scores = scores[row]
    return scores[:, column] if len(right) < len(candidates) else scores


def label_ranks(
    scores: Float[np.ndarray, "B N"],
    labels: Int[np.ndarray, "B A"],
    mask: Bool[np.ndarray, "B"] | None = None,
) -> Int[np.ndarray, "B"]:
    """Where each row's best right candidate stands, 0 being first.

    The rank is the number of *wrong* candidates that score at least as much as the best
    right one. A tie therefore counts against the model: one that gives every candidate the
    same score has rank N - 1 everywhere, not a perfect 0. A right candidate is in the top
    k exactly where the rank is below k.

    Args:
        scores: (B, N) float; -inf is a candidate that can never be named.
        labels: (B, A) int indices of right candidates, padded with -1.
        mask: (B,) False for padding rows; their rank is N and means nothing.

    Returns:
        (B,) int64 ranks in [0, N).

    Raises:
        ValueError: for a NaN or +inf score (every comparison with NaN is False, which would
            read as a perfect rank), a label not below N, or a valid row without any label.
    """
    rows, candidates = scores.shape
    keep = np.ones(rows, bool) if mask is None else mask
    valid = scores[keep]
    if np.isnan(valid).any() or np.isposinf(valid).any():
        bad = np.flatnonzero(keep)[np.isnan(valid).any(1) | np.isposinf(valid).any(1)]
        raise ValueError(
            f"scores must not be NaN or +inf; rows {bad[:5].tolist()} are. "
            "Check the embeddings: a diverged model or an image of zeros divides by 0."
        )
    if labels.size and labels.max() >= candidates:
        raise ValueError(
            f"label {int(labels.max())} names no candidate: there are {candidates}; "
            "labels are indices into the candidates, padded with -1."
        )
    right = np.zeros((rows, candidates), bool)
    row, column = np.nonzero(labels >= 0)
    right[row, labels[row, column]] = True
    if not right[keep].any(axis=1).all():
        bad = np.flatnonzero(keep & ~right.any(axis=1))
        raise ValueError(
            f"rows {bad[:5].tolist()} have no label; give one, or mask the rows out as padding."
        )
    best = np.where(right, scores, -np.inf).max(axis=1, initial=-np.inf)
    ranks = np.sum(~right & (scores >= best[:, None]), axis=1)
    return np.where(keep, ranks, candidates).astype(np.int64)


def top_candidates(scores: Float[np.ndarray, "B N"], k: int) -> Int[np.ndarray, "B k"]:
    """The k best candidates of each row, best first, equal scores by lower index."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return order[:, :k].astype(np.int64)


@dataclasses.dataclass(frozen=True)
class TopK:
    """Hits among the best k of N candidates, summed over examples: a mergeable state.

    Attributes:
        ks: the k's, ascending.
        hits: for each k, the number of examples with a right candidate among the best k.
        count: examples seen, padding not counted.
    """

    ks: tuple[int, ...]
    hits: tuple[int, ...]
    count: int

    @classmethod
    def empty(cls, ks: Sequence[int]) -> TopK:
        """The state of no examples, neutral in `+`."""
        return cls(tuple(ks), (0,) * len(ks), 0)

    @classmethod
    def from_ranks(
        cls,
        ranks: Int[np.ndarray, "B"],
        ks: Sequence[int],
        mask: Bool[np.ndarray, "B"] | None = None,
    ) -> TopK:
        """The state of one batch, from `label_ranks`."""
        kept = ranks if mask is None else ranks[mask]
        return cls(tuple(ks), tuple(int(np.sum(kept < k)) for k in ks), len(kept))

    def __add__(self, other: TopK) -> TopK:
        if self.ks != other.ks:
            raise ValueError(f"states of different k do not merge: {self.ks} and {other.ks}")
        hits = tuple(a + b for a, b in zip(self.hits, other.hits, strict=True))
        return TopK(self.ks, hits, self.count + other.count)

    def fractions(self, name: str = "top") -> dict[str, float]:
        """`{"top1": …, "top5": …}`, as fractions of `count`.

        Raises:
            ValueError: where nothing was counted; there is no accuracy of no examples.
        """
        if self.count == 0:
            raise ValueError("no examples were counted, so there is no accuracy to give")
        return {f"{name}{k}": h / self.count for k, h in zip(self.ks, self.hits, strict=True)}
