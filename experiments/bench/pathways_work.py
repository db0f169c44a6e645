"""What both roads of `bench pathways` have to do, counted rather than timed."""

from __future__ import annotations

from typing import Any

from ...models import LayerWork
from .pathways_layer import Case
from .programs import What


def work(case: Case, what: What) -> dict[str, Any]:
    """Rows, FLOPs of the experts' products, and bytes of their weights' gradients.

    Counted from the case's own numbers: XLA's count takes the blocks' loops, whose length
    depends on the data, for one turn each.

    Returns:
        {"tokens", "jit", "pathways"}, the latter two {"rows" (multiplied, padding with them),
        "products" (runs of rows that are multiplied at once), "gflop", "gradient_mb"}.
    """
    s = case.settings
    tokens = case.tokens.shape[1]
    layer = LayerWork(tuple(case.counts.tolist()), s.width, s.hidden, tokens)
    passes = 3 if what == "train" else 1

    def side(rows: int, products: int, experts: int) -> dict[str, Any]:
        return {
            "rows": rows,
            "products": products,
            "gflop": passes * 4e-9 * rows * s.width * s.hidden,
            "gradient_mb": experts * layer.expert_bytes / 1e6 if what == "train" else 0.0,
        }

    return {
        "tokens": tokens,
        "jit": side(layer.fused_rows, len(layer.blocks), s.experts),
        "pathways": side(layer.pathways_rows, layer.awake, layer.awake),
    }
