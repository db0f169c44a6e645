"""What every router asks of its arguments, before anything is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import checkify
from jaxtyping import Array, Bool, Float


def checked_inputs(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None,
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> tuple[Float[Array, "G T E"], Float[Array, "G T E"], Bool[Array, "G T"], float]:
    """Clean and noisy float32 logits, zero at masked tokens; the mask; sigma = noise_std / E.

    Under `checkify` (user checks), a NaN among the logits of routed tokens is an error
    that says where it is; otherwise the check costs nothing.

    Raises:
        ValueError: an axis is empty, a shape differs, or noise_std is negative.
    """
    check_not_empty(logits.shape)
    if mask is None:
        mask = jnp.ones(logits.shape[:2], bool)
    check_mask(mask, logits.shape[:2])
    if noise is not None and noise.shape != logits.shape:
        raise ValueError(f"noise has shape {noise.shape}, expected that of logits {logits.shape}")
    if not noise_std >= 0:
        raise ValueError(f"noise_std={noise_std}: a standard deviation is not negative")
    sigma = 0.0 if noise is None else noise_std / logits.shape[-1]
    clean = jnp.where(mask[..., None], logits.astype(jnp.float32), 0.0)
    noisy = clean
    if noise is not None and sigma > 0:
        noisy = clean + jnp.where(mask[..., None], sigma * noise.astype(jnp.float32), 0.0)
    _check_numbers(noisy)
    return clean, noisy, mask, sigma


def check_not_empty(shape: tuple[int, ...]) -> None:
    """Raise ValueError unless (G, T, E) are all at least 1."""
    if 0 in shape:
        raise ValueError(
            f"logits have shape (G, T, E) = {shape}: a router needs at least one group, one "
            "token and one expert (a group may well be masked as a whole)"
        )


def check_mask(mask: Array, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the mask is (G, T)."""
    if mask.shape != tuple(expected):
        raise ValueError(
            f"mask has shape {mask.shape}, expected (G, T) = {tuple(expected)}: one flag for each "
            "token, true where it is to be routed"
        )


def check_capacity(capacity: int | None) -> None:
    """Raise ValueError unless there is at least one slot, or no limit."""
    if capacity is not None and capacity < 1:
        raise ValueError(f"capacity={capacity}: at least one slot per expert, or None for all")


# A program of its own: JAX's check reads all that was traced before it in its program, which would
# make tracing quadratic in depth.
@jax.jit
def _check_numbers(logits: Float[Array, "G T E"]) -> None:
    wrong = jnp.isnan(logits)
    group, token, expert = jnp.unravel_index(jnp.argmax(wrong), logits.shape)
    checkify.debug_check(
        ~jnp.any(wrong),
        "router logits are NaN, first at (group, token, expert) = ({g}, {t}, {e}), in {n} places: "
        "look at the tokens that entered this router, and at its kernel",
        g=group,
        t=token,
        e=expert,
        n=jnp.sum(wrong),
    )
