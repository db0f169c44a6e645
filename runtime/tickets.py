"""What one process sends another so that it can pull arrays: a few hundred bytes, no arrays."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .carried_errors import Origin
from .layouts import Layout
from .transfer_errors import TransferError

VERSION = 1


_TEXT = '{"byways_ticket": %d, "identifier": %d, "store": "%s", "of": %s}'
_PATTERN = re.compile(
    rf'\{{"byways_ticket": {VERSION}, "identifier": (\d+), "store": "([\w+/=:]*)", "of": (.*)\}}'
)


class Peer(NamedTuple):
    """A process that offers.

    Attributes:
        name: for messages.
        data: address of its transfer server, `host:port`.
        door: address at which it answers questions about what it offered.
        born: a nonce: another process at the same addresses has another.
    """

    name: str
    data: str
    door: str
    born: str

    def __str__(self) -> str:
        return f"{self.name!r} at {self.data}"


class Leaf(NamedTuple):
    """One array of a ticket.

    Attributes:
        shape, dtype: of the whole array; of random keys, of their data.
        layout: over which devices.
        keys: the implementation whose random keys they are; "" is an ordinary array.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: Layout
    keys: str = ""

    @property
    def nbytes(self) -> int:
        """Of the whole array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class Ticket:
    """The right to pull a tree of arrays once. Pickles, and goes through JSON.

    Whoever has it can pull, so it travels where the arrays might.

    Attributes:
        identifier: 63 random bits, issued once.
        peer: who offers.
        leaves: the arrays, in the tree's order.
        structure: the tree as JSON, with the numbers of its leaves in their places: a number,
            null, ["l", …], ["t", …], or {key: …}.
        origins: for each leaf which program, node and island make it; empty if none was said.
        store: where Ray's object store has it, for a ticket of that way.
    """

    identifier: int
    peer: Peer
    leaves: tuple[Leaf, ...]
    structure: str = "0"
    origins: tuple[Origin | None, ...] = ()
    store: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(leaf.nbytes for leaf in self.leaves)

    @property
    def buffers(self) -> int:
        """How many buffers travel; arrays without elements do not."""
        return sum(leaf.layout.devices for leaf in self.leaves if math.prod(leaf.shape))

    @property
    def shapes(self) -> Any:
        """The tree, of `jax.ShapeDtypeStruct`s."""
        return build_tree(
            self.structure, [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in self.leaves]
        )

    def to_json(self) -> str:
        """A line of text."""
        of = _told(self.peer, self.leaves, self.structure, self.origins)
        return _TEXT % (VERSION, self.identifier, self.store, of)

    @classmethod
    def from_json(cls, text: str) -> Ticket:
        """What `to_json` gave.

        Raises:
            TransferError: it is no ticket, or one of another version.
        """
        found = _PATTERN.fullmatch(text)
        try:
            if found is not None:
                identifier, store, of = int(found[1]), found[2], found[3]
            else:  # written by other hands, or nothing of the kind
                told = json.loads(text)
                version = told.get("byways_ticket")
                if version != VERSION:
                    raise TransferError(
                        f"a ticket of version {version!r}; here is version {VERSION}"
                    )
                identifier, store = int(told["identifier"]), str(told["store"])
                of = json.dumps(told["of"])
            return cls(identifier, *_read(of), store)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise TransferError(
                f"this is no ticket ({error}): {text[:80]!r}; send what Ticket.to_json gives"
            ) from error

    def __repr__(self) -> str:
        return (
            f"Ticket({hex(self.identifier)}, {len(self.leaves)} arrays of {self.nbytes:,} bytes "
            f"of {self.peer})"
        )


def structure_of(tree: Any, is_leaf: Any = None) -> tuple[list[Any], str]:
    """A tree's leaves, in JAX's order, and its structure with their numbers.

    Raises:
        TransferError: it has other nodes than dicts with string keys, lists, tuples and None,
            which another process may not know.
    """
    if isinstance(tree, jax.Array):
        return [tree], "0"
    leaves, shape = jax.tree.flatten(tree, is_leaf=is_leaf)
    return leaves, _structure(shape)


def build_tree(structure: str, leaves: Sequence[Any]) -> Any:
    """The tree of a structure.

    Raises:
        TransferError: it is not the structure of so many leaves.
    """
    try:
        return leaves[0] if structure == "0" else _built(_parsed(structure), leaves)
    except (IndexError, TypeError, ValueError) as error:
        raise TransferError(f"a ticket's structure does not fit its arrays: {error}") from error


# What is the same in all tickets for trees of one shape is written and read once: doing it anew
# would cost a small array more than its way.


@functools.lru_cache(1024)
def sizes_of(leaves: tuple[Leaf, ...]) -> tuple[int, int, tuple[int, ...]]:
    """Bytes of all arrays, buffers of the layouts, and which arrays have elements that travel."""
    return (
        sum(leaf.nbytes for leaf in leaves),
        sum(leaf.layout.devices for leaf in leaves),
        tuple(n for n, leaf in enumerate(leaves) if math.prod(leaf.shape)),
    )


@functools.lru_cache(1024)
def _structure(shape: Any) -> str:
    return json.dumps(_written(jax.tree.unflatten(shape, range(shape.num_leaves))))


_parsed = functools.lru_cache(1024)(json.loads)


@functools.lru_cache(1024)
def _told(
    peer: Peer, leaves: tuple[Leaf, ...], structure: str, origins: tuple[Origin | None, ...]
) -> str:
    return json.dumps(
        {
            "peer": list(peer),
            "leaves": [[*leaf[:2], leaf.layout.to_json(), leaf.keys] for leaf in leaves],
            "structure": structure,
            "origins": [origin and list(origin) for origin in origins],
        }
    )


@functools.lru_cache(1024)
def _read(of: str) -> tuple[Peer, tuple[Leaf, ...], str, tuple[Origin | None, ...]]:
    told = json.loads(of)
    leaves = tuple(
        Leaf(tuple(map(int, shape)), str(np.dtype(dtype)), Layout.from_json(layout), str(keys))
        for shape, dtype, layout, keys in told["leaves"]
    )
    if any(size < 0 for leaf in leaves for size in leaf.shape):
        raise ValueError("a negative size")
    origins = tuple(
        (str(origin[0]), str(origin[1]), str(origin[2])) if origin else None
        for origin in told["origins"]
    )
    return Peer(*map(str, told["peer"])), leaves, str(told["structure"]), origins


def _written(tree: Any) -> Any:
    kind = type(tree)
    if tree is None or kind is int:
        return tree
    if kind in (list, tuple):
        return ["l" if kind is list else "t", *map(_written, tree)]
    if kind is dict and all(isinstance(key, str) for key in tree):
        return {key: _written(part) for key, part in tree.items()}
    raise TransferError(
        f"a ticket tells of dicts with string keys, lists, tuples and None, and not of "
        f"{kind.__name__}: offer jax.tree.leaves(…), and build the tree again where it arrives"
    )


def _built(structure: Any, leaves: Sequence[Any]) -> Any:
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {key: _built(part, leaves) for key, part in structure.items()}
    if isinstance(structure, list):
        kind, *parts = structure
        if kind not in ("l", "t"):
            raise ValueError(f"a node {kind!r}")
        found = [_built(part, leaves) for part in parts]
        return found if kind == "l" else tuple(found)
    if isinstance(structure, bool) or not isinstance(structure, int) or structure < 0:
        raise ValueError(f"a leaf {structure!r}")
    return leaves[structure]
