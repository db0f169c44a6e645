"""How many slots an expert has, and how many tokens compete for them."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Literal

from jaxtyping import Array, Shaped

Rounding = Literal["ceil", "round"]


def expert_capacity(
    num_tokens: int,
    num_experts: int,
    selected: int,
    factor: float,
    *,
    rounding: Rounding = "ceil",
    multiple_of: int = 1,
) -> int:
    """C, slots of each expert in each group: T*K*factor/E, rounded.

    V-MoE's paper (arXiv 2106.05974, section 2.2) rounds to the nearest and its code
    takes the ceiling, then rounds up to a multiple of 4: `multiple_of=4` gives that. The
    quotient is exact (the factor is read as the decimal it is written as), so 1.1 * 10
    is 11 and its ceiling is no 12. More than T slots would stay empty, since a
    token takes at most one slot of an expert: C is at most T, rounded up to the multiple.
    Rounding that adds more than a quarter to what the factor asks for is warned of.

    Args:
        num_tokens: T, tokens in a group.
        num_experts: E.
        selected: K, experts per token.
        factor: capacity over its even share T*K/E; 1.0 is exactly the even share.
        rounding: `ceil`, or `round` to the nearest (a half to the even number).
        multiple_of: then up to a multiple of this.

    Raises:
        ValueError: a number is not positive, K > E, or C comes out below one.

    >>> expert_capacity(256, 8, 2, 1.05)
    68
    >>> expert_capacity(34, 4, 2, 1.05), expert_capacity(34, 4, 2, 1.05, multiple_of=4)
    (18, 20)
    """
    for name, value in [
        ("num_tokens", num_tokens),
        ("num_experts", num_experts),
        ("selected", selected),
        ("factor", factor),
        ("multiple_of", multiple_of),
    ]:
        if not value > 0 or not math.isfinite(value):
            raise ValueError(f"{name}={value}: it must be finite and above zero")
    check_selected(selected, num_experts)
    share = Fraction(num_tokens * selected, num_experts) * Fraction(str(factor))
    if rounding == "ceil":
        capacity = math.ceil(share)
    elif rounding == "round":
        capacity = round(share)
    else:
        raise ValueError(f"rounding={rounding!r}: expected 'ceil' or 'round'")
    if capacity < 1:
        raise ValueError(
            f"capacity {float(share):.3g} rounds to {capacity} slots per expert "
            f"(T={num_tokens}, E={num_experts}, K={selected}, factor={factor}): "
            "take larger groups, fewer experts or a larger factor"
        )
    capacity = _round_up(min(capacity, num_tokens), multiple_of)
    if capacity > Fraction(5, 4) * share:
        warnings.warn(
            f"rounding turns {float(share):.3g} slots per expert into {capacity}, "
            f"{float(capacity / share) - 1:.0%} more than the factor {factor} asks for "
            f"(T={num_tokens}, E={num_experts}, K={selected}, multiple_of={multiple_of}): "
            "take larger groups, or a smaller multiple",
            stacklevel=2,
        )
    return capacity


def check_selected(selected: int, num_experts: int) -> None:
    """Raise ValueError unless 1 <= K <= E."""
    if not 1 <= selected <= num_experts:
        raise ValueError(
            f"selected={selected} of num_experts={num_experts}: a token chooses at least one "
            "expert and each at most once, so 1 <= K <= E"
        )


def group_size(num_tokens: int, wish: int) -> int:
    """T: the largest divisor of `num_tokens` that is at most `wish`.

    Groups must divide the tokens exactly, since padding them would take capacity away.

    Args:
        num_tokens: all tokens of the batch (or of the part that a device or a chunk has).
        wish: the wanted size.

    Raises:
        ValueError: either is below one.

    >>> group_size(3584, 4096), group_size(3584, 1000), group_size(7, 4)
    (3584, 896, 1)
    """
    if num_tokens < 1 or wish < 1:
        raise ValueError(f"num_tokens={num_tokens}, wish={wish}: both must be at least 1")
    return max(d for d in _divisors(num_tokens) if d <= wish)


def split_groups(tokens: Shaped[Array, "N ..."], size: int) -> Shaped[Array, "G T ..."]:
    """Tokens (or their masks, modalities, ids) in groups of `size`, in order.

    Raises:
        ValueError: `size` does not divide them.
    """
    number = tokens.shape[0]
    if size < 1 or number % size:
        raise ValueError(
            f"groups of {size} do not divide {number} tokens: "
            + (f"take {group_size(number, size)} (`group_size`), " if size > 0 else "")
            + "or pad the tokens and mask the padding"
        )
    return tokens.reshape(number // size, size, *tokens.shape[1:])


def _divisors(n: int) -> set[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return {*small, *(n // d for d in small)}


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
