"""`byways doctor`: what this installation has, and what is wrong with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .compilation_cache import cache_folder
from .provenance import versions
from .validate import SHIPPED_DATA


def examine() -> int:
    """Prints versions, devices, caches, data found and free disk.

    Returns:
        The exit code: 1 where something that byways needs is missing or damaged, else 0.
    """
    problems: list[str] = []
    for title, lines in (
        ("versions", _versions(problems)),
        ("devices", _devices(problems)),
        ("caches", _caches()),
        ("data", _data(problems)),
        ("disk", _disk(problems)),
    ):
        print(title)
        for name, value in lines:
            print(f"  {name:<22} {value}")
    print("all well" if not problems else "\n".join(f"problem: {text}" for text in problems))
    return 1 if problems else 0


def _versions(problems: list[str]) -> Iterator[tuple[str, str]]:
    for name, version in versions().items():
        if version == "not installed":
            problems.append(f"{name} is not installed; `pip install byways` brings it")
        yield name, version


def _devices(problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        import jax

        for device in jax.local_devices():
            yield f"{device.platform}:{device.id}", device.device_kind
    except Exception as error:
        problems.append(f"JAX finds no device ({error})")
        yield "none", str(error)
    yield "cores", str(os.cpu_count())
    yield "XLA_FLAGS", os.environ.get("XLA_FLAGS", "(not set)")


def _caches() -> Iterator[tuple[str, str]]:
    folder = cache_folder()
    yield "folder", f"{folder}{'' if folder.is_dir() else ' (not made yet)'}"
    if folder.is_dir():
        for child in sorted(path for path in folder.iterdir() if path.is_dir()):
            files = [path for path in child.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            yield child.name, f"{len(files)} files, {size / 1e6:.1f} MB"


def _data(problems: list[str]) -> Iterator[tuple[str, str]]:
    from ..datasets import open_data

    # The scenes are composed from the drawings: one set of records on disk serves both.
    name = SHIPPED_DATA[0]
    try:
        prepared = open_data(name)
    except Exception as error:
        problems.append(str(error))
        yield name, "not usable"
    else:
        splits = ", ".join(f"{split} {count}" for split, count in prepared.splits.items())
        yield name, f"OK: {sum(prepared.splits.values())} drawings ({splits})"
    yield "npm", shutil.which("npm") or "not found (only `byways data build` needs it)"


def _disk(problems: list[str]) -> Iterator[tuple[str, str]]:
    for folder in dict.fromkeys((Path.cwd(), _existing(cache_folder()))):
        free = shutil.disk_usage(folder).free
        if free < 1e9:
            problems.append(f"only {free / 1e9:.1f} GB are free at {folder}; a run needs about 1")
        yield str(folder), f"{free / 1e9:.1f} GB free"


def _existing(path: Path) -> Path:
    while not path.is_dir():
        path = path.parent
    return path
