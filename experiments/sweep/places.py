"""Where workers run on this machine: which cores and which accelerator each has for itself."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UsageError

# What XLA may take of a GPU's memory in all where workers share it.
_SHARED_MEMORY = 0.9


@dataclasses.dataclass(frozen=True)
class Place:
    """A worker's own part of the machine.

    Attributes:
        cores: numbers of its cores; empty leaves it unpinned.
        environment: what chooses its accelerator, and its share of the memory.
    """

    cores: tuple[int, ...]
    environment: Mapping[str, str]


def places(workers: int = 0, cores_each: int = 0) -> list[Place]:
    """A place for each worker.

    Args:
        workers: how many; 0 is one for each GPU, or without any as many as the cores allow.
        cores_each: cores of each; 0 is one, with GPUs an even share.

    Raises:
        UsageError: the cores do not suffice.
    """
    return divide(own_cores(), gpus(), workers, cores_each)


def divide(
    cores: Sequence[int], devices: Sequence[str], workers: int, cores_each: int
) -> list[Place]:
    """`places` of a machine with these cores and GPUs.

    Examples:
        >>> [place.cores for place in divide([0, 1, 2, 3], [], 0, 2)]
        [(0, 1), (2, 3)]
        >>> [place.environment for place in divide([0, 1], ["0", "1"], 0, 0)]
        [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    """
    for name, value in (("--workers", workers), ("--cores-each", cores_each)):
        if value < 0:
            raise UsageError(f"{name} is {value}; 1 or more is expected, or 0 to let it be chosen")
    if not workers:
        workers = len(devices) or max(1, len(cores) // (cores_each or 1))
    if not cores_each:
        cores_each = max(1, len(cores) // workers) if devices else 1
    if workers * cores_each > len(cores) and not (devices and cores_each == 1):
        raise UsageError(
            f"--workers {workers} with {cores_each} cores each is more than the {len(cores)} cores "
            "that this process may use; lower --workers or --cores-each"
        )
    found = []
    for number in range(workers):
        own = tuple(cores[number * cores_each : (number + 1) * cores_each])
        environment = {}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
            sharing = -(-workers // len(devices))
            if sharing > 1:
                share = _SHARED_MEMORY / sharing
                environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{share:.2f}"
        found.append(Place(own, environment))
    return found


def own_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES of the GPUs that JAX would use; found without JAX."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13, 14)):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    count = sum(
        bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path("/dev").glob("nvidia*")
    )
    return [str(number) for number in range(count)]
