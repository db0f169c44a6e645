"""How many islands, and what each is for, by a command's options. Imports no JAX."""

from __future__ import annotations

from ..errors import UsageError
from ..ray_there import check_ray


def check_islands(islands: int, address: str | None) -> None:
    """What can be said before anything is started.

    Raises:
        UsageError: a number below 0, or an address with no islands to start there.
        RunError: Ray is not installed.
    """
    if islands < 0:
        raise UsageError(f"--islands {islands}: 1 or more, or 0 for this process alone")
    if address is not None and not islands:
        raise UsageError(f"--ray-address {address}: say how many islands to start there")
    if islands:
        check_ray("leave the islands out, and this process does it alone")


def split_sides(islands: int, prefill: int | None, decode: int | None) -> tuple[int, slice, slice]:
    """How many islands to start, and which of them read prompts and make tokens.

    Args:
        islands: `--islands`: of two or more, the first reads prompts; one does both.
        prefill, decode: `--prefill` and `--decode`, which say both numbers instead.

    Raises:
        UsageError: they contradict each other, or a side has none.

    Examples:
        >>> split_sides(0, None, None), split_sides(3, None, None)
        ((0, slice(0, 1, None), slice(0, 1, None)), (3, slice(0, 1, None), slice(1, 3, None)))
        >>> split_sides(0, 2, 1)
        (3, slice(0, 2, None), slice(2, 3, None))
    """
    if prefill is None and decode is None:
        first = slice(0, 1)
        return islands, first, first if islands < 2 else slice(1, islands)
    if prefill is None or decode is None or prefill < 1 or decode < 1:
        raise UsageError(
            f"--prefill {prefill} --decode {decode}: prompts are read on one island or more, and "
            "tokens made on one or more; name both, or neither"
        )
    if islands not in (0, prefill + decode):
        raise UsageError(
            f"--islands {islands}, of which {prefill} for prompts and {decode} for tokens: leave "
            "--islands out"
        )
    return prefill + decode, slice(0, prefill), slice(prefill, prefill + decode)
