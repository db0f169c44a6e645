"""What the tests of the house look at: the checkout's files, and pyproject.toml's word on them."""

from __future__ import annotations

import functools
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def pyproject() -> dict:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@functools.cache
def files(*patterns: str) -> tuple[Path, ...]:
    """Files that git tracks or would track, and that are there; `patterns` are git's."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    listed = subprocess.run([*command, *patterns], cwd=ROOT, check=True, capture_output=True)
    found = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return tuple(sorted(path for path in set(found) if path.is_file()))


def folders() -> dict[str, Path]:
    """Package name to folder for `byways` and its rooms, from package-dir."""
    mapping = pyproject()["tool"]["setuptools"]["package-dir"]
    return {package: ROOT / folder for package, folder in mapping.items()}


@functools.cache
def modules() -> dict[str, Path]:
    """Full name to file of every module of the package; a package is its `__init__.py`."""
    found = {}
    for package, folder in folders().items():
        for path in files(f"{folder.name}/*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            found[".".join((package, *parts))] = path
    return found
