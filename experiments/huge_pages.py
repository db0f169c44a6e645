"""Huge pages for the arrays of a CPU step: a quarter faster, where Linux has to be asked.

XLA's CPU back end takes its buffers from malloc anew for every step, and touching fresh memory in
pages of 4 KiB costs a fifth of the step of a small model. glibc asks for huge pages only if told
so before the process starts, hence one `exec` of the same command.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_TUNABLE = "glibc.malloc.hugetlb"
_OPT_OUT = "BYWAYS_HUGE_PAGES"


def wanted_environment(environment: dict[str, str], switch: str) -> dict[str, str] | None:
    """The environment to start again with, or None where there is nothing to gain.

    Args:
        environment: of this process.
        switch: contents of the kernel's switch; `[madvise]` is the mode that waits to be asked.
    """
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "[madvise]" not in switch or _TUNABLE in tunables or environment.get(_OPT_OUT) == "0":
        return None
    return environment | {"GLIBC_TUNABLES": ":".join(filter(None, [tunables, f"{_TUNABLE}=1"]))}


def child_environment() -> dict[str, str]:
    """This process's environment for a process of ours that it starts, huge pages asked for."""
    own = dict(os.environ)
    if platform.libc_ver()[0] != "glibc":
        return own
    try:
        return wanted_environment(own, _SWITCH.read_text()) or own
    except OSError:
        return own


def restart_with_huge_pages(program: str | None = None) -> None:
    """Replaces this process by the same command with huge pages on, once; else returns.

    Only on Linux with glibc, and only where the process is the `byways` command that has not
    imported JAX yet: somebody else's program that calls us must not be started twice.
    `BYWAYS_HUGE_PAGES=0` switches it off.

    Args:
        program: what runs; None looks at `sys.argv`.
    """
    name = Path(sys.argv[0] if program is None else program)
    ours = name.name == "byways" or name.parts[-2:] == ("byways", "__main__.py")
    if not ours or platform.libc_ver()[0] != "glibc" or "jax" in sys.modules:
        return
    try:
        environment = wanted_environment(dict(os.environ), _SWITCH.read_text())
    except OSError:
        return
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
