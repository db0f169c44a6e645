"""What `byways bench serving` measures. Imports no JAX, so that the command line starts fast."""

from __future__ import annotations

import dataclasses

from ..errors import UsageError
from ..suggest import unknown

NAMES = ("throughput", "step")


@dataclasses.dataclass(frozen=True)
class BenchServing:
    """Continuous batching beside single texts and fixed batches, and what a step costs besides.

    A decoder with random weights, of `palm_tiny`'s form, that reads prompts of random bytes.

    Attributes:
        width: D; the hidden width is 4 D.
        depth: L.
        experts: E of a mixture in every other block, of which each token meets two; 0 is dense.
        rows: texts at once.
        requests: of a round.
        prompt: tokens of the longest prompt; others have fewer, half at least.
        steps: tokens that are made of a text; each of these as often.
        long: steps of the second measurement, with every row in use.
        repeats: rounds; in each, every way is timed once, in turns.
        islands: measure over one island for prompts and one for tokens too, started by Ray.
        address: of a running Ray; by default one is started.
    """

    width: int = 64
    depth: int = 4
    experts: int = 0
    rows: int = 8
    requests: int = 48
    prompt: int = 32
    steps: tuple[int, ...] = (8, 16, 32, 64)
    long: int = 200
    repeats: int = 5
    islands: bool = True
    address: str | None = None


def check_serving(settings: BenchServing, only: tuple[str, ...] = ()) -> BenchServing:
    """The settings, if they can be measured.

    Raises:
        UsageError: which value is wrong, and what it must be.
    """
    for name in only:
        if name not in NAMES:
            raise UsageError(unknown("benchmark", name, NAMES))
    for field in ("width", "depth", "rows", "requests", "prompt", "long", "repeats"):
        if getattr(settings, field) < 1:
            raise UsageError(f"--{field} {getattr(settings, field)}: it must be 1 or more")
    if settings.experts and settings.experts < 2:
        raise UsageError(f"--experts {settings.experts}: 2 or more, or 0 for a dense model")
    if not settings.steps or min(settings.steps) < 2:
        said = " ".join(map(str, settings.steps)) or "nothing"
        raise UsageError(f"--steps {said}: give numbers of 2 or more")
    return settings
