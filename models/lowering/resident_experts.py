"""Experts that lie in a file or in host memory, of which those that wake are fetched.

So a model larger than its devices runs: a `Residents` of the runtime keeps as many experts on them
as a budget of bytes allows, those used last, and fetches the others when their tokens come.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import runtime
from .per_expert import PerExpert

if TYPE_CHECKING:
    from .lowered import Lowered


class ResidentExperts(Mapping[int, Any]):
    """One of the four arrays of a layer's experts, where `PerExpert.arrays` are otherwise.

    Read as a mapping it gives cold arrays (NumPy's, or the host memory's), and fetches nothing.

    Attributes:
        bank: all four.
        part: which: 0 up, 1 up_bias, 2 down, 3 down_bias.
    """

    def __init__(self, bank: ResidentBank, part: int):
        self.bank, self.part = bank, part

    def __getitem__(self, expert: int) -> Any:
        if expert not in range(self.bank.count):
            raise KeyError(expert)
        return self.bank.shelf.cold.read((self.bank.layer, expert))[self.part]

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.bank.count))

    def __len__(self) -> int:
        return self.bank.count


class ResidentBank:
    """The experts of a layer, as a switch of the runtime asks for them.

    Attributes:
        shelf: where they lie.
        layer: of these experts, among the sparse ones.
        count: E.
    """

    # Fetching may have to wait for programs of others, which must be able to go on.
    waits = True

    def __init__(self, shelf: Shelf, layer: int, count: int):
        self.shelf, self.layer, self.count = shelf, layer, count

    def expect(self, experts: Sequence[int]) -> None:
        """These will be fetched soon, in this order: starts at once."""
        self.shelf.residents.prefetch((self.layer, e) for e in experts)

    def fetch(self, experts: Sequence[int]) -> list[Any]:
        """(up, up_bias, down, down_bias) of each, on its device.

        Raises:
            runtime.ColdFileError, runtime.BudgetTooSmall, runtime.ItemsInUse.
        """
        return self.shelf.residents.get([(self.layer, e) for e in experts])

    def used(self, experts: Sequence[int], out: jax.Array) -> None:
        """A program that makes `out` was given these; `out` may be donated afterwards."""
        done = _tick(out)
        for e in experts:
            self.shelf.residents.used((self.layer, e), done)


class Shelf:
    """A lowered function's experts, off the devices.

    Attributes:
        args: the arguments to call it with.
        residents: which experts are on devices; its `stats()` tell the hit rate.
        cold: where all of them are.
    """

    def __init__(
        self, low: Lowered, args: tuple[Any, ...], cold: runtime.Cold, budget: int, patience: float
    ):
        self.cold = cold
        self.residents = runtime.Residents(cold, budget, _places(low), patience=patience)
        together = max(min(switch.together, switch.count) for switch in low.switches)
        need = together * self.residents.largest
        if need > budget:
            fits = budget // self.residents.largest
            raise ValueError(
                f"a budget of {budget:,} bytes holds {fits} experts of {self.residents.largest:,}, "
                f"and {together} share a node: give {need:,} bytes or more"
                + (f", or lower the function with together={fits}" if fits else "")
            )
        flat = low.flat(args)
        for layer, places in enumerate(low.banks):
            bank = ResidentBank(self, layer, low.cut.arguments[places[0]].aval.shape[0])
            for part, place in enumerate(places):
                flat[place] = PerExpert(ResidentExperts(bank, part), bank.count)
        self.args = low.tree(flat)

    def close(self) -> None:
        """Frees the devices, and closes the file. May be called twice."""
        self.residents.close()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def shelve(
    low: Lowered,
    args: tuple[Any, ...],
    budget: int,
    *,
    path: Path | str | None = None,
    patience: float = 60.0,
) -> Shelf:
    """Puts a lowered function's experts into a file, or into the devices' pinned host memory.

    Called with the shelf's `args` the function gives the same results, bit for bit. It
    cannot be differentiated with them: training keeps its experts on devices.

    Args:
        low: its experts come back to the devices where they are now.
        args: of the function, split (`low.split`) or not, so that a stack of NumPy arrays, which
            a device could not hold, will do. The caller's experts are not changed: drop them.
        budget: bytes of experts on all devices together. A node's experts must fit, at most
            `together` of them.
        path: a safetensors file to write, one expert in memory at a time. Where the experts'
            arguments are `jax.ShapeDtypeStruct`s (stacked), it is there already, from an earlier
            call. None is pinned host memory.
        patience: seconds to wait for other threads that use the same shelf.

    Raises:
        ValueError: the budget is too small; experts that are nowhere; a device has no pinned host
            memory.
        runtime.ColdFileError: the file is damaged, or another model's.
        OSError: it cannot be written.
    """
    flat = low.flat(args)
    leaves = {place: flat[place] for places in low.banks for place in places}
    blank = [isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values()]
    shapes = {
        (layer, e): tuple(_one(low.cut.arguments[place].aval) for place in places)
        for layer, places in enumerate(low.banks)
        for e in range(low.cut.arguments[places[0]].aval.shape[0])
    }

    def make(key: tuple[int, int]) -> tuple[Any, ...]:
        layer, e = key
        return tuple(_row(leaves[place], e) for place in low.banks[layer])

    if any(blank) and (not all(blank) or path is None):
        raise ValueError(
            "some experts were given as shapes alone: pass arrays, or all as shapes and the path of "
            "a file that has them"
        )
    if path is None:
        cold: Any = runtime.PinnedHost(((key, make(key)) for key in shapes), _places(low))
    else:
        if not any(blank):
            runtime.write_cold(path, shapes, make)
        cold = runtime.MappedFile(path)
        _check(path, cold, shapes)
    try:
        return Shelf(low, args, cold, budget, patience)
    except BaseException:
        cold.close()
        raise


def shelved(parts: Sequence[PerExpert]) -> ResidentBank | None:
    """The bank that the four arrays of a layer's experts are of; None if they are on devices.

    Raises:
        ValueError: they are of several.
    """
    banks = [p.arrays.bank for p in parts if isinstance(p.arrays, ResidentExperts)]
    if not banks:
        return None
    places = [getattr(p.arrays, "part", None) for p in parts]
    if len(banks) < len(parts) or len(set(banks)) > 1 or places != list(range(len(parts))):
        raise ValueError(
            "a layer's experts are partly on a shelf, or on several: pass the arguments as shelve "
            "gave them"
        )
    return banks[0]


def _places(low: Lowered) -> Any:
    homes = [part.sharding() for part in low.slices]
    return lambda key: homes[key[1] % len(homes)]


def _row(leaf: Any, expert: int) -> Any:
    return leaf.arrays[expert] if isinstance(leaf, PerExpert) else leaf[expert]


def _one(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)


def _check(path: Path | str, cold: runtime.MappedFile, shapes: Mapping[Any, Any]) -> None:
    wrong = [key for key in shapes if key not in cold.keys() or cold.shapes(key) != shapes[key]]  # noqa: SIM118
    if wrong or len(cold.keys()) > len(shapes):
        found = cold.shapes(wrong[0]) if wrong and wrong[0] in cold.keys() else "other experts"  # noqa: SIM118
        cold.close()
        raise runtime.ColdFileError(
            f"{path}: not the experts of this function: "
            + (f"{wrong[0]} should be {shapes[wrong[0]]}, found {found}" if wrong else str(found))
        )


@functools.cache
def _ticking() -> Any:
    return jax.jit(lambda x: jnp.ravel(x)[:1])


def _tick(array: jax.Array) -> jax.Array:
    """Small, and there when `array` is; an array of its own, which nobody donates."""
    return _ticking()(array)


__all__ = ["ResidentBank", "ResidentExperts", "Shelf", "shelve", "shelved"]
