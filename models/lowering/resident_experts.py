"""Experts that lie in a file or in host memory, of which those that wake are fetched.

So a model larger than its devices runs: a `Residents` of the runtime keeps as many experts on them
as a budget of bytes allows, those used last, and fetches the others when their tokens come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ... import runtime
from .per_expert import PerExpert

if TYPE_CHECKING:
    from .lowered import Lowered


class ResidentExperts(Mapping[int, Any]):
    """One of the four arrays of a layer's experts, where `PerExpert.arrays` are otherwise.

    Read as a mapping it gives cold NumPy arrays, and fetches nothing.

    Attributes:
        branches: the layer's experts, as a switch of the runtime asks for them.
        part: which array of theirs: 0 up, 1 up_bias, 2 down, 3 down_bias.
    """

    def __init__(
        self, cold: runtime.Cold, branches: runtime.ResidentBranches, part: int, count: int
    ):
        self.branches, self.part = branches, part
        self._cold, self._count = cold, count

    def __getitem__(self, expert: int) -> np.ndarray:
        if expert not in range(self._count):
            raise KeyError(expert)
        return np.asarray(self._cold.read((self.branches.owner, expert))[self.part])

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._count))

    def __len__(self) -> int:
        return self._count


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
        flat = low.tree.flatten_up_to(args)
        for layer, places in enumerate(low.banks):
            branches = runtime.ResidentBranches(self.residents, layer)
            count = _aval(low, places[0]).shape[0]
            for part, place in enumerate(places):
                flat[place] = PerExpert(ResidentExperts(cold, branches, part, count), count)
        self.args: tuple[Any, ...] = jax.tree.unflatten(low.tree, flat)

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
    flat, banks = low.tree.flatten_up_to(args), low.banks
    leaves = {place: flat[place] for places in banks for place in places}
    blank = [isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values()]
    shapes = {
        (layer, e): tuple(_one(_aval(low, place)) for place in places)
        for layer, places in enumerate(banks)
        for e in range(_aval(low, places[0]).shape[0])
    }

    def make(key: tuple[int, int]) -> tuple[Any, ...]:
        layer, e = key
        return tuple(_row(leaves[place], e) for place in banks[layer])

    if any(blank) and (not all(blank) or path is None):
        raise ValueError(
            "some experts were given as shapes alone: pass arrays, or shapes for all, and the path "
            "of a file that has them"
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


def shelved_branches(parts: Sequence[PerExpert]) -> runtime.ResidentBranches | None:
    """What the four arrays of a layer's experts are of; None if they are on devices.

    Raises:
        ValueError: they are of several.
    """
    found = [p.arrays for p in parts if isinstance(p.arrays, ResidentExperts)]
    if not found:
        return None
    places = [experts.part for experts in found]
    if places != list(range(len(parts))) or len({x.branches for x in found}) > 1:
        raise ValueError(
            "a layer's experts are partly on a shelf, or on several: pass the arguments as shelve "
            "gave them"
        )
    return found[0].branches


def refuse_shelved(banks: Sequence[Any]) -> None:
    """Before anything is sent.

    Raises:
        ValueError: some experts are on a shelf.
    """
    if any(isinstance(bank, runtime.OnDemand) for bank in banks):
        raise ValueError(
            "experts on a shelf have no gradients, since they are gone when these come: train with "
            "experts on devices, the arguments that Lowered.split gives"
        )


def _places(low: Lowered) -> Any:
    homes = [part.sharding() for part in low.slices]
    return lambda key: homes[key[1] % len(homes)]


def _row(leaf: Any, expert: int) -> Any:
    return leaf.arrays[expert] if isinstance(leaf, PerExpert) else leaf[expert]


def _aval(low: Lowered, place: int) -> Any:
    """Of a stacked array (E, …)."""
    return low.cut.arguments[place].aval


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
