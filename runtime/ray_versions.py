"""What an island and its controller must have in common, told before anything else is sent.

Imports no JAX: what is hashed here is what this process has imported, or is about to.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .attach_wire import versions as common
from .errors import RuntimeFault

# Files that say what an island is told and what it answers.
SPOKEN = (
    "ray_actor",
    "ray_channel",
    "ray_code",
    "ray_errands",
    "ray_gang",
    "ray_gang_arrays",
    "ray_island",
    "ray_letterbox",
    "ray_mail",
    "ray_messenger",
    "ray_news",
    "ray_waker",
    "ray_waking",
    "ray_wire",
    "switch_forward",
    "switch_training",
    "tickets",
)


class IslandMismatch(RuntimeFault):
    """An island is of other versions than its controller, or has other devices than asked for."""


def _wire() -> str:
    found = hashlib.sha256()
    for name in SPOKEN:
        found.update(meant(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")))
    return found.hexdigest()[:12]


def meant(source: str) -> bytes:
    """A module's code, whatever its comments, docstrings and lines."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            del body[0]
    return ast.dump(tree).encode()


# When this is imported: the files may change while the process lives.
WIRE = _wire()


def versions() -> dict[str, Any]:
    """Of this process. Whether numbers have 64 bits an island is told; it need not know before."""
    found = {**common(), "wire": WIRE}
    del found["jax_enable_x64"]
    return found


def check_versions(name: str, theirs: Mapping[str, Any]) -> None:
    """Raises IslandMismatch, which names both sides, if an island is of other versions."""
    ours = versions()
    other = [key for key in ours if theirs.get(key) != ours[key]]
    if other:
        said = ", ".join(f"{key} {theirs.get(key)} (here {ours[key]})" for key in other)
        raise IslandMismatch(
            f"island {name!r} is of another kind than this process: it has {said}. Install the "
            "same on both sides; an island that has run for long keeps what it began with, so "
            "start it again"
        )
