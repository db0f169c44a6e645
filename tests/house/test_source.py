"""Rules that hold for every file."""

from __future__ import annotations

import re

import pytest

from .tree import ROOT, files

LINES = 400

# Written so that no pattern matches its own text.
LEAKS = re.compile(
    r"/wor[k]/|/tm[p]/w/|/roo[t]/|/hom[e]/[a-z]+/|py[p]i\.or[g]|pythonhoste[d]|registry\.npmj[s]"
    r"|deb\.debia[n]"
)
UNFINISHED = re.compile(r"NotImplemente[d]Error|TOD[O]|FIXM[E]|pytest\.mark\.(ski[p]|xfai[l])\b")


def _lines(*patterns: str) -> list[tuple[str, str]]:
    """(FILE:LINE, text) of the text files."""
    found = []
    for path in files(*patterns):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        found += [(f"{name}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
    return found


def test_no_file_holds_two_concepts():
    lengths = {path: len(path.read_text().splitlines()) for path in files("*.py")}
    long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > LINES}
    assert not long, f"over {LINES} lines; which second concept lives there? {long}"


@pytest.mark.parametrize(
    ("pattern", "where"), [(LEAKS, ()), (UNFINISHED, ("*.py",))], ids=["leaks", "unfinished"]
)
def test_no_line_matches(pattern, where):
    found = [f"{place}: {line.strip()[:80]}" for place, line in _lines(*where)
             if pattern.search(line)]  # fmt: skip
    assert not found, "\n".join(found)
