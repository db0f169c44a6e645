"""What `byways bench auto` sweeps over. Imports no JAX."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError
from .pathways_settings import BenchPathways


@dataclasses.dataclass(frozen=True)
class BenchAuto:
    """Sparse layers of many sizes, K = 1, dropless, H = 4*D.

    Attributes:
        tokens: of a layer.
        widths: D.
        experts: E.
        awake: experts that the tokens choose among; 0 is all.
        repeats: rounds of each size.
        tolerance: how much slower than the better way `auto` may be.
        seed: of tokens and parameters.
    """

    tokens: tuple[int, ...] = (8, 128, 2048)
    widths: tuple[int, ...] = (64, 256, 512)
    experts: tuple[int, ...] = (4, 16, 64)
    awake: tuple[int, ...] = (2, 0)
    repeats: int = 10
    tolerance: float = 0.05
    seed: int = 0

    @property
    def layers(self) -> list[BenchPathways]:
        """All sizes; with all experts awake `awake` is E."""
        return [
            BenchPathways(
                tokens=tokens,
                width=width,
                hidden=4 * width,
                experts=experts,
                awake=min(awake, experts) or experts,
                seed=self.seed,
            )
            for tokens in self.tokens
            for width in self.widths
            for experts in self.experts
            for awake in self.awake
        ]


def check_auto(settings: BenchAuto) -> BenchAuto:
    """The settings, if there is something to sweep over.

    Raises:
        UsageError: which value is wrong, and what it must be.
    """
    for field, least in (("tokens", 1), ("widths", 1), ("experts", 1), ("awake", 0)):
        values = getattr(settings, field)
        if not values or min(values) < least:
            said = " ".join(map(str, values)) or "nothing"
            raise UsageError(f"--{field} {said}: give numbers of {least} or more")
    if settings.repeats < 1 or settings.tolerance < 0:
        raise UsageError("--repeats must be at least 1, and --tolerance 0 or more")
    return settings
