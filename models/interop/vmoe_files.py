"""Published V-MoE checkpoints: `prefix.index` and `prefix.data-NNNNN-of-MMMMM`.

A shard is msgpack: {marker: True, "<number of the array>": [[[array, ...], slice], ...]}. A piece
comes in runs of its flattened elements, each at most 256 MB. Written from the format's
description; no code of the original is needed, and none that a file may bring is run.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .errors import WeightsError
from .packed import array, extension, sequence, unpack
from .vmoe_index import Entry, box, read_index

_MARKER = "__msgpack_array_chunk_a87ca2__"


def read_vmoe_checkpoint(prefix: Path | str) -> dict[str, np.ndarray]:
    """All arrays by name (the tree's path joined by `/`), in sorted order.

    Everything that can be checked is checked before arrays are allocated: shards are all there, and
    hold as many bytes as the index promises.

    Args:
        prefix: path without `.index`.

    Raises:
        WeightsError: a file is missing, damaged or of another format; it is named.
    """
    prefix = Path(str(prefix).removesuffix(".index"))
    count, entries = read_index(prefix.with_name(prefix.name + ".index"))
    shards = [
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")
        for number in range(count)
    ]
    missing = [path.name for path in shards if not path.is_file()]
    if missing:
        raise WeightsError(
            f"{prefix.parent}: {len(missing)} of the {count} shards are missing: "
            f"{', '.join(missing[:5])}; fetch them too"
        )
    promised, there = sum(entry.size for entry in entries), sum(p.stat().st_size for p in shards)
    if promised > there:
        raise WeightsError(
            f"{prefix}.index: promises {promised} bytes of arrays, and the shards have {there}: "
            "one is truncated, or they are not of this index"
        )
    whole = {entry.name: np.empty(entry.shape, entry.dtype) for entry in entries}
    for number, path in enumerate(shards):
        _fill(whole, entries, number, path)
    return whole


def _fill(whole: dict[str, np.ndarray], entries: list[Entry], shard: int, path: Path) -> None:
    """Writes one shard's pieces into their arrays."""
    found = unpack(path.read_bytes(), str(path))
    if not isinstance(found, dict) or found.pop(_MARKER, None) is not True:
        raise WeightsError(f"{path}: no shard of a V-MoE checkpoint (its marker is not there)")
    expected = {
        str(number): pieces
        for number, entry in enumerate(entries)
        if (pieces := {place for place, owner in entry.pieces if owner == shard})
    }
    if set(found) != set(expected):
        lacking, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        raise WeightsError(
            f"{path}: holds other arrays than the index says (missing: {lacking[:5]}, "
            f"unexpected: {[key[:20] for key in extra[:5]]})"
        )
    for number, pieces in expected.items():
        entry = entries[int(number)]
        where = f"{path}: {entry.name}"
        left = set(pieces)
        for piece in sequence(found[number], None, where):
            runs, packed = sequence(piece, 2, where)
            place = box(extension(packed, 6, where), entry.shape, where)
            if place not in left:
                raise WeightsError(f"{where}: slice {place} is not where the index has it")
            left.remove(place)
            values = [array(run, where).reshape(-1) for run in sequence(runs, None, where)]
            sizes = tuple(stop - start for start, stop in place)
            kinds = {value.dtype for value in values}
            length = sum(value.size for value in values)
            if kinds - {entry.dtype} or length != math.prod(sizes):
                raise WeightsError(
                    f"{where}: slice {place} holds {length} elements of {sorted(map(str, kinds))}, "
                    f"expected {math.prod(sizes)} of {entry.dtype}"
                )
            joined = np.concatenate(values) if values else np.empty(0, entry.dtype)
            slices = tuple(slice(start, stop) for start, stop in place)
            whole[entry.name][slices] = joined.reshape(sizes)
        if left:
            raise WeightsError(f"{where}: slices {sorted(left)[:3]} are missing")
