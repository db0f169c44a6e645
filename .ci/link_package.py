"""Links the rooms together under build/package/byways, the layout that an install has.

pyright reads that tree, since at the root `byways.routing` is the folder `routing`. It is what an
`editable_mode=strict` install makes (real folders, a link for each file: pyright follows no linked
folder), but made anew in a moment at each `make lint`, so that it knows new files.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "build" / "package"


def main() -> None:
    """Makes the tree anew."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    shutil.rmtree(TARGET, ignore_errors=True)
    for package, folder in setuptools["package-dir"].items():
        target = TARGET / package.replace(".", "/")
        for source in (ROOT / folder).rglob("*.py*"):
            if source.suffix in {".py", ".pyi"} or source.name == "py.typed":
                link = target / source.relative_to(ROOT / folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)


if __name__ == "__main__":
    main()
