"""Which modules check the types of arguments, results and fields while tests run.

Those that annotate arrays: shapes and kinds of numbers are seen only then. Types of all else are
for pyright to check, and checking them in every call is a tenth of what the suite takes, so it is
`make test-all` that does.
"""

from __future__ import annotations

from pathlib import Path

ROOMS = ("routing", "runtime", "models", "datasets", "experiments")


def annotating(root: Path) -> list[str]:
    """Names of the modules that annotate arrays."""
    files = (path for room in ROOMS for path in sorted((root / room).rglob("*.py")))
    return [
        ".".join(("byways", *path.relative_to(root).with_suffix("").parts))
        for path in files
        if b"jaxtyping" in path.read_bytes()
    ]
