"""How a computation travels to an island: as StableHLO, else as the Python function itself.

`jax.export` is the rule, because the function was traced here anyway: whatever it closes over
(slices, locks, other computations) stays here, the island needs none of the caller's modules, and
the same bytes have the same hash. What cannot be exported (callbacks into Python) is pickled by
value with cloudpickle, and traced there.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .errors import ProgramError
from .graph import Shape

if TYPE_CHECKING:
    from .computations import FlatComputation


@dataclasses.dataclass(frozen=True)
class Code:
    """An executable on an island.

    Attributes:
        call: leaves in, a list of leaves out.
        donated: positions of inputs that it takes over.
        watched: which output shows that it is done; -1 is none.
        cost: XLA's count.
    """

    call: Callable[..., list[Any]]
    donated: tuple[int, ...]
    watched: int
    cost: dict[str, float]


def packed(
    flat: FlatComputation,
    inputs: tuple[Shape, ...],
    ins: tuple[tuple, ...],
    outs: tuple[tuple, ...],
    watched: int,
    platform: str,
) -> tuple[str, tuple[Any, ...]]:
    """A computation's key, by which it is known again, and what `unpacked` takes.

    Raises:
        ProgramError: it can be sent in neither way.
    """

    def leaves(*given):
        return flat.flat(*given)[0]

    leaves.__name__ = flat.name
    exportable = jax.jit(leaves)
    try:
        exported = jax.export.export(exportable, platforms=[platform])(*inputs)
        # Checks that only `checkify` turns on do nothing here, and their effect cannot be written.
        silent = [e for e in exported.unordered_effects if type(e).__name__ == "ErrorEffect"]
        if silent:
            others = tuple(e for e in exported.unordered_effects if e not in silent)
            exported = dataclasses.replace(exported, unordered_effects=others)
        kind, blob = "stablehlo", bytes(exported.serialize())
    except ImportError as error:
        raise ProgramError(
            f"computations travel to islands by jax.export, which needs more: {error}; "
            "pip install 'byways[ray]'"
        ) from error
    except Exception as error:  # it was traced before, so this is about the way
        kind, blob = "python", _pickled(flat, error)
    shapes = [(s.shape, s.dtype) for s in inputs]
    rest = kind, flat.name, shapes, ins, outs, flat.donated, watched
    key = hashlib.sha256(blob + repr(rest).encode()).hexdigest()
    return key, (blob, *rest)


def unpacked(
    sharding: Callable[[tuple], Any],
    blob: bytes,
    kind: str,
    name: str,
    shapes: list[tuple],
    ins: tuple[tuple, ...],
    outs: tuple[tuple, ...],
    donated: tuple[int, ...],
    watched: int,
) -> Code:
    """Compiles what `packed` gave, on the island."""
    if kind == "stablehlo":
        fn: Callable[..., Any] = jax.export.deserialize(bytearray(blob)).call
    else:
        import pickle

        function, tree = pickle.loads(blob)

        def run(*given):
            return jax.tree.leaves(function(*jax.tree.unflatten(tree, given)))

        fn = run

    def leaves(*given):
        return fn(*given)

    leaves.__name__ = name
    jitted = jax.jit(
        leaves,
        in_shardings=tuple(map(sharding, ins)),
        out_shardings=list(map(sharding, outs)),
        donate_argnums=donated,
    )
    compiled = jitted.lower(*[Shape(*found) for found in shapes]).compile()
    return Code(compiled, donated, watched, dict(compiled.cost_analysis() or {}))


def _pickled(flat: FlatComputation, why: Exception) -> bytes:
    try:
        import cloudpickle

        from .by_value import by_value

        with by_value():
            return cloudpickle.dumps((flat.fn, flat.in_tree))
    except Exception as error:
        raise ProgramError(
            f"computation {flat.name!r} cannot go to another process: jax.export says {why}; "
            f"and pickling its function, {error}"
        ) from error
