"""openclipart, over a folder of SVGs made here."""

from __future__ import annotations

import json
from pathlib import Path

import byways.datasets as data
import numpy as np
import pytest
from byways.datasets import openclipart
from byways.datasets.openclipart_build import SIZE
from byways.datasets.records import open_folder

PUBLIC = "http://web.resource.org/cc/PublicDomain"
SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="200mm" viewBox="0 0 100 200">
 <metadata><rdf:RDF xmlns:cc="http://web.resource.org/cc/"
   xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="">
  <dc:title>{title}</dc:title>
  <dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>
  <dc:creator><cc:Agent><dc:title>{creator}</dc:title></cc:Agent></dc:creator>
  <cc:license rdf:resource="{licence}"/>
 </cc:Work></rdf:RDF></metadata>{body}</svg>"""


def drawing(title, words=(), creator="Ann", licence=PUBLIC, body=None, x=10):
    body = body or f'<rect x="{x}" y="10" width="20" height="10" fill="red"/>'
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    return SVG.format(title=title, words=items, creator=creator, licence=licence, body=body)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "svg"
    files = {
        "food/can": drawing("Pop_Can", ("food", "HASH", "pop_drink", "Pop Can", "food", "x")),
        "food/second": drawing("pop can", x=12),
        "food/loaf": drawing("Clipart by Bo Li - loaf", x=14, creator="HASH(0x89c79d4)"),
        "food/same": drawing("bread", x=14, body='<rect x="1" y="1" width="20" height="10"/>'),
        "food/gpl": drawing("a spoon", licence="http://creativecommons.org/licenses/GPL/2.0/"),
        "food/number": drawing("12 - 7"),
        "food/empty": drawing("nothing", body="<g/>"),
        "food/broken": "<svg",
        "special/pattern": drawing("stripes"),
        **{f"icons/{n}": drawing("Icon Set", x=20 + n) for n in range(5)},
    }
    for name, text in files.items():
        path = folder / f"{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "food" / "alias.svg").symlink_to("can.svg")
    return folder


def test_what_is_kept(source):
    kept = openclipart.catalogue(source)
    assert [one.name for one in kept] == ["food/can", "food/empty", "food/loaf", "food/same"]
    can, _, loaf, _ = kept
    assert (can.title, can.keywords, can.creator) == ("Pop Can", ("food", "pop drink"), "Ann")
    assert (loaf.title, loaf.keywords, loaf.creator) == ("loaf", (), "")


def test_built_twice_the_same_and_found_by_name(source, tmp_path, monkeypatch):
    monkeypatch.setenv("BYWAYS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(data.RecordError, match=r"byways data build openclipart.*apt install"):
        data.open_data("openclipart")
    folder = data.build("openclipart", source=source)
    again = data.build("openclipart", tmp_path / "again", source=source)
    sums = [(one / "checksums.json").read_bytes() for one in (folder, again)]
    assert sums[0] == sums[1]
    assert "public domain" in (folder / "LICENSE").read_text()
    assert "public domain" in json.loads((folder / "dataset_info.json").read_text())[
        "redistributionInfo"]["license"]  # fmt: skip
    split = data.open_split("openclipart")
    rows = [row for _, row in split.rows()]
    assert [row.captions for row in rows] == [("Pop Can", "food pop drink"), ("loaf",), ("bread",)]
    assert [row.name for row in rows] == ["food/can", "food/loaf", "food/same"]
    # 20 by 10 on a page of 100 by 200: cut out, made large, in the middle of a square.
    first = next(open_folder(folder).rows("test"))["image"]
    assert first.shape == (SIZE, SIZE, 4)
    there = np.flatnonzero(first[..., 3].max(axis=1) > 128)
    assert (there[0], there[-1]) == pytest.approx((SIZE / 4, 3 * SIZE / 4 - 1), abs=2)
    assert first[SIZE // 2, SIZE // 2].tolist() == [255, 0, 0, 255]
    with pytest.raises(FileExistsError, match="exists already"):
        data.build("openclipart", source=source)


def test_what_is_missing_is_said(source, tmp_path):
    with pytest.raises(data.SourceError, match="apt install openclipart-svg"):
        data.build("openclipart", tmp_path / "out", source=tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(data.SourceError, match="not the folder of openclipart's drawings"):
        data.build("openclipart", tmp_path / "out", source=tmp_path / "bare")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="`cache` is a folder of npm tarballs"):
        data.build("openclipart", tmp_path / "out", cache=tmp_path)
    with pytest.raises(ValueError, match="of no use to emoji_art"):
        data.build("emoji_art", tmp_path / "out", source=source)
