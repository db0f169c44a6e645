"""PaLM at the paper's three sizes (arXiv 2204.02311, table 1), and one for a laptop."""

from __future__ import annotations

from .palm_config import PalmConfig


def _model(width: int, depth: int, heads: int) -> PalmConfig:
    return PalmConfig(width=width, hidden=4 * width, depth=depth, heads=heads, dtype="bfloat16")


PALM: dict[str, PalmConfig] = {
    "palm_8b": _model(4096, 32, 16),
    "palm_62b": _model(8192, 64, 32),
    "palm_540b": _model(18_432, 118, 48),
    # Bytes, rather than pieces.
    "palm_tiny": PalmConfig(
        vocab_size=256, width=64, hidden=256, depth=4, heads=4, head_size=32, max_length=128
    ),
}
