"""Who cuts what: a spec against the axes of a slice, for arrays that JAX does not hold."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jax.sharding import PartitionSpec

from .errors import ProgramError

# Of each dimension, the names of the axes over which it is cut.
Cuts = tuple[tuple[str, ...], ...]


def cuts_of(spec: PartitionSpec | None, axes: Mapping[str, int]) -> Cuts:
    """A spec without axes of size one and without trailing dimensions that are whole.

    Args:
        spec: None is replicated.
        axes: size of each axis of the slice, by its name.

    Raises:
        ProgramError: the slice has no such axis.
    """
    found: list[tuple[str, ...]] = []
    for entry in spec or ():
        names = (entry,) if isinstance(entry, str) else tuple(entry or ())
        unknown = [name for name in names if name not in axes]
        if unknown:
            raise ProgramError(f"{spec} names axis {unknown[0]!r}: the slice has {list(axes)}")
        found.append(tuple(name for name in names if axes[name] > 1))
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def cut_shape(shape: tuple[int, ...], cuts: Cuts, axes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of what one device has of an array.

    Args:
        shape: of the whole array.
        cuts: as `cuts_of` gives them, for these axes.

    Raises:
        ProgramError: it does not divide.
    """
    if len(cuts) > len(shape):
        raise ProgramError(f"an array of shape {list(shape)} has no axis to cut {cuts}")
    found = list(shape)
    for place, names in enumerate(cuts):
        parts = math.prod(axes[name] for name in names)
        if found[place] % parts:
            raise ProgramError(
                f"axis {place} of an array of shape {list(shape)} does not divide over the "
                f"{parts} devices of {'+'.join(names)}"
            )
        found[place] //= parts
    return tuple(found)
