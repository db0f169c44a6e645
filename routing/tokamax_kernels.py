"""The ragged products of tokamax, imported when they are first wanted."""

from __future__ import annotations

import functools
import importlib
from typing import Any
from unittest import mock

import jax
from jax import lax
from jaxtyping import Array, Float, Int


def tokamax_ragged_dot(
    left: Array, right: Array, sizes: Int[Array, " E"], dims: lax.RaggedDotDimensionNumbers
) -> Float[Array, "..."]:
    """`jax.lax.ragged_dot_general` by the best kernel for the default device that takes it.

    Sums are float32 inside the kernel, the result has the type of the operands.

    Raises:
        ImportError: tokamax is not installed; says how to.
    """
    return tokamax_api().ragged_dot_general(left, right, sizes, dims)


@functools.cache
def tokamax_api() -> Any:
    """The module tokamax.

    tokamax 0.0.12 has its annotations checked by typeguard 2.13.3, which it pins;
    tyro, of our command line, needs typeguard 4, on which tokamax's import fails
    (it parses the shapes in annotations as Python), and takes seconds where it succeeds. So the
    decorator is left out while tokamax is imported: nothing of ours relies on those checks.

    pip cannot resolve the two together either, so that tokamax is no declared dependency:
    the extra `grouped` has what it needs, and it comes by itself.

    Raises:
        ImportError: tokamax or something that it needs is not installed.
    """
    try:
        typeguard = importlib.import_module("typeguard")
        with mock.patch.object(typeguard, "typechecked", _unchecked):
            return importlib.import_module("tokamax")
    except ImportError as error:
        raise ImportError(
            f"the `grouped` dispatcher needs tokamax on {jax.default_backend()}, and it cannot be "
            f"imported ({error}): pip install 'byways[grouped]', then pip install --no-deps "
            "'tokamax==0.0.12' (apart, since it pins another typeguard than tyro needs). "
            "Without it, choose the `index` dispatcher with a capacity, or `blocked`"
        ) from error


def _unchecked(function=None, **_):
    return function if function is not None else lambda wrapped: wrapped
