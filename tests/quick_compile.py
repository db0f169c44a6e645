"""XLA options under which programs compile in half the time, and run more slowly.

Compiling is what the suite spends its time on. HLO passes are left alone, and with them what is
computed from what, memory and FLOPs: only LLVM does less. `make test-all` goes without.
"""

from __future__ import annotations

import importlib.util
import mmap
from pathlib import Path

# The first two are JAX's own `jax_disable_most_optimizations`; the others are the older emitter
# of loops, and one LLVM module for all of them.
_OPTIONS = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}


def quick_flags() -> str:
    """Those that this version of XLA knows, as in `XLA_FLAGS`; it aborts on any other."""
    spec = importlib.util.find_spec("jaxlib")
    folder = Path(next(iter(spec.submodule_search_locations)))
    library = folder / "libjax_common.so"
    if not library.exists():
        return ""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as found:
        known = [name for name in _OPTIONS if found.find(name.encode()) >= 0]
    return " ".join(f"--{name}={_OPTIONS[name]}" for name in known)
