"""Ray's object store as another way for arrays: shared memory, for processes of one host.

A transfer over the loopback copies every byte through sockets; a large array that is plain memory
already gets faster to the other process by one copy into shared memory and one out of it.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import StoreFull
from .tickets import Leaf
from .transfer_errors import PeerLost, StoreMissing, TransferError, TransferTimeout

# Bytes from which `auto` takes this way (docs/benchmarks/transfer.md).
FROM = 8 * 2**20


def running() -> bool:
    """This process is connected to a Ray. Imports none, which would take seconds."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def need_running() -> None:
    """Refuses to go on without a Ray.

    Raises:
        StoreMissing: with what is missing.
    """
    if running():
        return
    try:
        importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        raise StoreMissing(
            "way='ray' needs Ray, which is not installed: pip install 'byways[ray]', or leave "
            "the way to be chosen"
        ) from None
    raise StoreMissing(
        "way='ray' needs a Ray that this process is connected to: ray.init(…) first, or leave "
        "the way to be chosen"
    )


def plain_memory(arrays: Sequence[Any]) -> bool:
    """Arrays that NumPy can look at where they are: computed, on one CPU device each."""
    return all(
        len(array.sharding.device_set) == 1
        and next(iter(array.sharding.device_set)).platform == "cpu"
        and array.is_ready()
        for array in arrays
    )


def put_arrays(arrays: Sequence[Any]) -> tuple[str, Any]:
    """Copies arrays into the store; waits for them.

    Returns:
        where they are, for a ticket, and what keeps them there as long as it lives.

    Raises:
        StoreFull: there is no room for them.
        TransferError: this version of Ray has other insides.
    """
    ray = _ray()
    views = [np.ascontiguousarray(np.asarray(array)).reshape(-1).view(np.uint8) for array in arrays]
    try:
        reference = ray.put(views)
    except ray.exceptions.ObjectStoreFullError as error:
        total = sum(view.nbytes for view in views)
        raise StoreFull(f"Ray's object store has no room for {total:,} bytes: {error}") from error
    try:
        # Pickling the reference would pin the object for as long as this process lives.
        core = ray._private.worker.global_worker.core_worker
        _, owner, _ = core.serialize_object_ref(reference)
    except (AttributeError, TypeError, ValueError) as error:
        raise TransferError(f"Ray {ray.__version__} has other insides: {error}") from error
    parts = reference.binary(), bytes(owner)
    return ":".join(base64.b64encode(part).decode() for part in parts), reference


def get_arrays(store: str, leaves: Sequence[Leaf], patience: float, what: str) -> list[np.ndarray]:
    """Copies arrays out of the store.

    Args:
        store: where, of a ticket.
        leaves: their shapes and dtypes.
        patience: seconds.
        what: identifier and peer, for messages.

    Raises:
        StoreMissing: this process is not connected to a Ray.
        PeerLost: whoever put them there is gone.
        TransferTimeout: they did not come in time.
    """
    need_running()
    ray = _ray()
    try:
        key, owner = (base64.b64decode(part, validate=True) for part in store.split(":"))
        reference = ray.ObjectRef(key, owner)
        core = ray._private.worker.global_worker.core_worker
        nobody = ray.ObjectRef.nil()
        core.deserialize_and_register_object_ref(reference.binary(), nobody, owner, b"")
    except (AttributeError, TypeError, ValueError) as error:
        raise TransferError(f"{what} is nowhere in Ray {ray.__version__}: {error}") from error
    try:
        views = ray.get(reference, timeout=patience)
    except ray.exceptions.GetTimeoutError as error:
        raise TransferTimeout(f"{what} did not come from Ray's store in {patience:g} s") from error
    except ray.exceptions.RayError as error:
        raise PeerLost(f"{what} is not in Ray's store any more: {error}") from error
    return [_copied(view, leaf) for view, leaf in zip(views, leaves, strict=True)]


def _ray() -> Any:
    return importlib.import_module("ray")


def _copied(view: np.ndarray, leaf: Leaf) -> np.ndarray:
    """A copy that JAX takes as it is, so that nobody can write into the store by donating it."""
    room = np.empty(view.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    found = room[start : start + view.nbytes]
    found[:] = view
    return found.view(leaf.dtype).reshape(leaf.shape)
