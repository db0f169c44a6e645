"""The persistent compilation cache: a warm start does not compile again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where this user's caches are: `$BYWAYS_CACHE`, else `~/.cache/byways`."""
    chosen = os.environ.get("BYWAYS_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "byways"


def enable_compilation_cache() -> Path:
    """Lets JAX keep compiled programs in `cache_folder()/jax`; call it before compiling.

    A folder that cannot be made is no error: compilation then takes its time again.
    """
    import jax

    folder = cache_folder() / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return folder
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder
