"""openclipart: drawings by some 480 people, with titles and keywords, of the public domain.

Debian and Ubuntu package them (`openclipart-svg`, release 0.18 of openclipart.org). Who learnt
emoji meets here other artists, other subjects and other words: a set for transfer alone.
"""

from __future__ import annotations

import dataclasses
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .emoji_art.sources import SourceError, default_cache

NAME = "openclipart"
FOLDER = Path("/usr/share/openclipart/svg")
LICENCE = (
    "openclipart 0.18: each drawing was dedicated to the public domain by the person whom its"
    " `creator` names (Creative Commons Public Domain Dedication); drawings whose file does not"
    " say so are left out. https://openclipart.org"
)
# Larger files are photographs traced to tens of thousands of paths; a few take minutes.
LARGEST = 1_000_000
# More drawings than this under one title, and the title is that of a collection.
_SAME = 4
# Folders of what is no picture of anything, or a copy of what is elsewhere.
_LEFT_OUT = ("special", "unsorted/duplicates")
_NO_KEYWORDS = frozenset(
    ("hash", "unsorted", "special", "clip art", "clipart", "svg", "png", "image", "unchecked")
)
_PUBLIC = re.compile(r"/publicdomain/?$", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_]{3,}")


@dataclasses.dataclass(frozen=True)
class Clipart:
    """One drawing that is kept.

    Attributes:
        path: of the SVG.
        name: its path below the source's folder, without `.svg`.
        title: as its file says it, in plain spaces.
        keywords: distinct ones, in the file's order, none of them the title.
        creator: whom the file names.
    """

    path: Path
    name: str
    title: str
    keywords: tuple[str, ...]
    creator: str


def data_folder() -> Path:
    """The `data_dir` that it is built in, and read from where none is named."""
    return default_cache() / "data"


def catalogue(folder: Path) -> tuple[Clipart, ...]:
    """The drawings that are kept, in the order of their names.

    Left out are links, files that do not parse, are larger than `LARGEST` bytes or do not say
    that they are of the public domain; titles of collections; and of those that share a title,
    case aside, all but the first.

    Raises:
        SourceError: there is no such folder, or no drawing in it.
    """
    if not folder.is_dir():
        raise SourceError(
            f"{NAME}'s drawings are not in {folder}. On Debian and Ubuntu, `apt install"
            " openclipart-svg`; or name the folder of its SVGs with --source."
        )
    found = [one for path in _svgs(folder) if (one := _read(path, folder)) is not None]
    many = Counter(one.title.casefold() for one in found)
    kept: dict[str, Clipart] = {}
    for one in found:
        if many[one.title.casefold()] <= _SAME:
            kept.setdefault(one.title.casefold(), one)
    if not kept:
        raise SourceError(
            f"{folder} has no SVG with a title and a dedication to the public domain in its"
            " metadata: it is not the folder of openclipart's drawings."
        )
    return tuple(kept.values())


def _svgs(folder: Path) -> Iterable[Path]:
    found = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    for path in sorted(found, key=lambda p: p.relative_to(folder).as_posix()):
        place = path.relative_to(folder).as_posix()
        left_out = any(place.startswith(f"{one}/") for one in _LEFT_OUT)
        small = path.suffix == ".svg" and not path.is_symlink() and path.stat().st_size <= LARGEST
        if small and not left_out:
            yield path


def _read(path: Path, folder: Path) -> Clipart | None:
    try:
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, LookupError, ValueError):  # LookupError: an unknown encoding
        return None
    work = next((one for one in tree.iter() if _tag(one) == "Work"), None)
    if work is None:
        return None
    parts = {_tag(one): one for one in reversed(work)}
    licence = " ".join(parts["license"].attrib.values()) if "license" in parts else ""
    title = _title(_text(parts.get("title")))
    if not _PUBLIC.search(licence) or not _WORDS.search(title):
        return None
    words = [_spaced(_text(one)).casefold() for one in _items(parts.get("subject"))]
    keywords = dict.fromkeys(word for word in words if _WORDS.search(word))
    unwanted = {*_NO_KEYWORDS, title.casefold()}
    creator = next(
        (_spaced(_text(one)) for one in _below(parts.get("creator")) if _tag(one) == "title"), ""
    )
    return Clipart(
        path,
        path.relative_to(folder).with_suffix("").as_posix(),
        title,
        tuple(word for word in keywords if word not in unwanted),
        # What some program made of a name that it could not write.
        "" if creator.startswith("HASH(") else creator,
    )


def _title(text: str) -> str:
    # One artist put his name before every title.
    return re.sub(r"^clipart by [\w ]+ - ", "", _spaced(text), flags=re.IGNORECASE)


def _spaced(text: str) -> str:
    return " ".join(text.replace("_", " ").split())


def _text(element: ElementTree.Element | None) -> str:
    return (element.text or "") if element is not None else ""


def _below(element: ElementTree.Element | None) -> Iterable[ElementTree.Element]:
    return element.iter() if element is not None else ()


def _items(subject: ElementTree.Element | None) -> Iterable[ElementTree.Element]:
    return (one for one in _below(subject) if _tag(one) == "li")


def _tag(element: ElementTree.Element) -> str:
    """The name without its namespace, of which the files use several."""
    return str(element.tag).rpartition("}")[2]
