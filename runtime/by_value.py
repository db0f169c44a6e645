"""Pickling what belongs to the user by value: for a process that does not have the user's files."""

from __future__ import annotations

import contextlib
import functools
import os
import site
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle

_registering = threading.Lock()


@contextlib.contextmanager
def by_value() -> Iterator[None]:
    """Modules that are no installed packages travel by value meanwhile."""
    with _registering:
        known = cloudpickle.list_registry_pickle_by_value()
        new = [
            module
            for name, module in list(sys.modules.items())
            if name not in known and _is_users(name, module)
        ]
        for module in new:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in new:
                cloudpickle.unregister_pickle_by_value(module)


def _is_users(name: str, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not isinstance(module, types.ModuleType):
        return False
    if name == "byways" or name.startswith("byways.") or name != module.__name__:
        return False
    return not _is_installed(file)


@functools.cache
def _is_installed(file: str) -> bool:
    return os.path.realpath(file).startswith(_installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    """Folders of the interpreter's modules and of installed packages."""
    paths = sysconfig.get_paths()
    found = [paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple({os.path.realpath(place) + os.sep for place in found})
