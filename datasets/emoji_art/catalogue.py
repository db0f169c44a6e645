"""The concepts: every emoji that is not a flag or a component, with its words.

Held out is a concept whose *base*, the first code point of its sequence, has a SHA-256
that is 0 modulo 10; the hashed string is the code point in decimal ASCII digits
(`128049` for U+1F431). So all variants of a base (the bear and the polar bear, every
gendered role of "man") stand on one side. `held_out.txt` lists them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import unicodedata
from pathlib import Path

from .sources import fetch, packages, read_members

OBJECT_GROUPS = (
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
)
_LEFT_OUT = ("flags", "component")
_CLOCK_FACES = range(0x1F550, 0x1F568)


@dataclasses.dataclass(frozen=True)
class Concept:
    """What several artists drew.

    Attributes:
        index: row of the concept table, in emojibase's order.
        code: lower-case hexadecimal code points joined by `-`, without U+FE0F.
        label: short name, as emojibase writes it (lower case but for proper names).
        keywords: further words, without the label itself.
        group, subgroup: Unicode's, such as `animals-nature` and `animal-mammal`.
        is_object: animals, food, travel, activities or objects, but no clock face.
        held_out: in no training image, caption, scene or tokenizer text.
    """

    index: int
    code: str
    label: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    is_object: bool
    held_out: bool


def normal_code(hexcode: str) -> str:
    """`1F43B-200D-2744-FE0F` as `1f43b-200d-2744`: lower case, no variation selector."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def is_held_out(code: str) -> bool:
    """Whether the concept of this code is held out (see the module's text)."""
    base = str(int(code.split("-")[0], 16))
    return int(hashlib.sha256(base.encode("ascii")).hexdigest(), 16) % 10 == 0


def slug(label: str) -> str:
    """A label as icon sets name it: `O button (blood type)` as `o-button-blood-type`."""
    plain = unicodedata.normalize("NFKD", label.lower())
    plain = re.sub(r"[’'“”.\u0300-\u036f]", "", plain)
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def parse_catalogue(data: bytes, groups: bytes) -> tuple[Concept, ...]:
    """Concepts from emojibase's `en/data.json` and `meta/groups.json`."""
    names = json.loads(groups)
    rows = []
    for row in json.loads(data):
        group = names["groups"].get(str(row.get("group")))
        if group is None or group in _LEFT_OUT:  # regional indicators have no group
            continue
        rows.append((row["order"], row, group))
    concepts = []
    for index, (_, row, group) in enumerate(sorted(rows, key=lambda item: item[0])):
        code = normal_code(row["hexcode"])
        clock = int(code.split("-")[0], 16) in _CLOCK_FACES
        words = dict.fromkeys(w.strip() for w in row.get("tags", ()))
        concepts.append(
            Concept(
                index=index,
                code=code,
                label=row["label"],
                keywords=tuple(w for w in words if w and w.lower() != row["label"].lower()),
                group=group,
                subgroup=names["subgroups"][str(row["subgroup"])],
                is_object=group in OBJECT_GROUPS and not clock,
                held_out=is_held_out(code),
            )
        )
    return tuple(concepts)


def load_catalogue(cache: Path) -> tuple[Concept, ...]:
    """Concepts from the pinned emojibase package.

    Raises:
        SourceError: the package cannot be had or is not the pinned one.
    """
    tarball = fetch(packages()[0], cache)
    files = ("en/data.json", "meta/groups.json")
    members = read_members(tarball, files)
    return parse_catalogue(members[files[0]], members[files[1]])
