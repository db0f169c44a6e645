"""Names of runs: what differs, short, and fit for a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UsageError

LONGEST = 100
# Folders of a sweep that are not runs.
RESERVED = ("failures", "outputs", "plan.json")
_GOOD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*")


def run_name(head: str, values: Mapping[str, Any], known: Iterable[str]) -> str:
    """The name of a run.

    Args:
        head: begins it; may be empty.
        values: dotted key to value, of what differs.
        known: all keys of the config, among which a short one has to be clear.

    Examples:
        >>> keys = ["model.moe.num_experts", "optimizer.lr", "seed"]
        >>> run_name("", {"model.moe.num_experts": 8, "seed": 0}, keys)
        'num_experts-8_seed-0'
        >>> run_name("dense", {"optimizer.lr": 0.001}, keys)
        'dense_lr-0.001'
    """
    keys = list(known)
    parts = [head] if head else []
    parts += [f"{_short(key, keys)}-{_text(value)}" for key, value in values.items()]
    name = "_".join(parts)
    if len(name) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9]}-{digest}"
    return name


def check_name(name: Any, what: str) -> None:
    """Raises:
    UsageError: it is no name of a folder that we would make.
    """
    if not isinstance(name, str) or not _GOOD.fullmatch(name) or len(name) > LONGEST:
        raise UsageError(
            f"{what} {name!r}: a name has letters, digits and . _ + = - (no leading point or "
            f"hyphen), at most {LONGEST}"
        )
    if name in RESERVED:
        raise UsageError(f"{what} '{name}': a sweep has a folder or file of that name; rename it")


def _short(key: str, known: list[str]) -> str:
    """The shortest end of a dotted key that no other key has."""
    parts = key.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if sum(other == end or other.endswith(f".{end}") for other in known) == 1:
            return end
    return key


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "+".join(_text(item) for item in value) or "none"
    if not isinstance(value, str):
        return str(value)
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", value).strip("-") or "empty"
