"""Slices to serve on: of this process, or of islands in others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from ... import runtime as rt
from ..errors import RunError


@contextlib.contextmanager
def open_slices(islands: int, address: str | None = None) -> Iterator[list[rt.Slice]]:
    """A slice on each of so many islands of other processes; of none, one of this process.

    Args:
        islands: how many are started; 0 is none.
        address: of a Ray that runs already, `host:port` or `auto`; by default one is started here.

    Raises:
        RunError: Ray is not installed, not there, or has too little.
    """
    if not islands:
        with rt.Runtime({"here": jax.local_devices()[:1]}) as system:
            yield [system.virtual_devices("here").add_slice(1)]
        return
    try:
        system = rt.RayRuntime(islands, address=address)
    except rt.RayMissing as error:
        raise RunError(str(error)) from error
    with system:
        yield [system.virtual_devices(name).add_slice(1) for name in system.islands]
