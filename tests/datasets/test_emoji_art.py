"""The builder, over small packages made here; and the whole of it, slowly, from npm."""

import base64
import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import byways.datasets as data
import numpy as np
import pytest
from byways.datasets.emoji_art import build, builder, catalogue, licences, render, sources
from PIL import Image


def tarball(path: Path, files: dict[str, bytes]) -> str:
    """Writes an npm-like tarball and gives its integrity."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    digest = hashlib.sha512(path.read_bytes()).digest()
    return "sha512-" + base64.b64encode(digest).decode()


def rectangle(colour: str) -> str:
    return f'<rect width="8" height="16" fill="{colour}"/>'  # the left half of 16 x 16


def icon_set(colour: str, by_code: bool) -> dict[str, bytes]:
    icons = {
        "width": 16,
        "height": 16,
        "icons": {n: {"body": rectangle(colour)} for n in ("fox", "bear-face", "rabbit", "dog")},
        "aliases": {"bear": {"parent": "bear-face", "hFlip": True}},
    }
    codes = {"1f98a": "fox", "1f43b": "bear", "1f407": "rabbit", "1f436": "dog"}
    chars = codes if by_code else {}
    return {"icons.json": json.dumps(icons).encode(), "chars.json": json.dumps(chars).encode()}


EMOJIBASE = [
    {"label": "fox", "hexcode": "1F98A", "tags": ["animal", "fox"], "order": 2, "group": 3},
    {"label": "bear", "hexcode": "1F43B", "tags": ["animal"], "order": 1, "group": 3},
    {"label": "rabbit", "hexcode": "1F407", "tags": ["bunny"], "order": 4, "group": 3},
    {"label": "dog", "hexcode": "1F436", "tags": ["pet"], "order": 5, "group": 3},
    {"label": "flag: Chad", "hexcode": "1F1F9", "tags": [], "order": 3, "group": 9},
    {"label": "regional indicator A", "hexcode": "1F1E6"},
]
GROUPS = {
    "groups": {"3": "animals-nature", "9": "flags"},
    "subgroups": {"34": "animal-mammal"},
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch) -> Path:
    """A cache of small packages that stand in for the pinned ones."""
    cache = tmp_path / "npm"
    cache.mkdir()
    captions, drawn = sources.packages()
    rows = [{**row, "subgroup": 34} for row in EMOJIBASE]
    fox = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 255, 128)).save(fox, "WEBP", lossless=True)

    def small(package: sources.Package) -> sources.Package:
        if not package.artist:
            files = {
                "en/data.json": json.dumps(rows).encode(),
                "meta/groups.json": json.dumps(GROUPS).encode(),
            }
        elif package.package.startswith("@lobehub/"):
            files = {"assets/1f98a.webp": fox.getvalue()}
        else:
            real = package.artist in ("twemoji", "openmoji", "fluent-emoji-flat", "noto")
            files = icon_set("#ff0000", by_code=real)
        integrity = tarball(cache / package.tarball, files)
        return dataclasses.replace(package, integrity=integrity)

    ours = small(captions), tuple(small(p) for p in drawn)
    for module in (sources, builder, catalogue, licences):
        monkeypatch.setattr(module, "packages", lambda: ours)
    return cache


def test_a_build_holds_every_drawing(packages: Path, tmp_path: Path):
    folder = build.build(tmp_path / "out", packages)
    rows = {s: list(data.open_data("emoji_art", tmp_path / "out").rows(s)) for s in builder.SPLITS}
    ids = {s: [r["id"] for r in part] for s, part in rows.items()}
    assert ids["validation"] == [
        f"emojione-v1/{code}" for code in ("1f43b", "1f98a", "1f407", "1f436")
    ]
    assert len(ids["test"]) == 8
    # U+1F407 is held out, and the 3D set has no other drawing than the fox. The five other
    # artists drew all alike, so what equals the held-out rabbit is left out of `train`.
    assert ids["held_out"] == [f"{a}/1f407" for a in sources.artists("train") if "3d" not in a]
    assert "fluent-emoji-3d/1f98a" in ids["train"]
    assert not {"twemoji/1f98a"} & set(ids["train"])
    assert len(ids["train"]) == 6
    (fox,) = [r for r in rows["test"] if r["id"] == "noto/1f98a"]
    assert fox["label"] == "fox"
    assert fox["keywords"] == ["animal"]
    assert (fox["image"][:, :16] == (255, 0, 0, 255)).all()
    assert (fox["image"][:, 16:] == 0).all()
    # The bear is an alias that mirrors its parent.
    (bear,) = [r for r in rows["test"] if r["id"] == "noto/1f43b"]
    assert (bear["image"][:, 16:] == (255, 0, 0, 255)).all()
    assert (folder / "LICENSES.md").read_text("utf-8") == licences.licences_text()


def test_two_builds_are_the_same_bytes(packages: Path, tmp_path: Path):
    first = build.build(tmp_path / "a", packages)
    second = build.build(tmp_path / "b", packages)
    assert build.compare(first, second) == []
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_compare_names_what_differs(packages: Path, tmp_path: Path):
    first = build.build(tmp_path / "a", packages)
    second = build.build(tmp_path / "b", packages, limit=3)
    lines = build.compare(first, second)
    assert f"test:noto/1f436: only in {first}" in lines


def test_a_build_replaces_nothing(packages: Path, tmp_path: Path):
    build.build(tmp_path, packages, limit=3)
    with pytest.raises(FileExistsError, match="exists already"):
        build.build(tmp_path, packages, limit=3)


def test_a_failed_build_leaves_nothing(packages: Path, tmp_path: Path):
    (packages / sources.packages()[1][0].tarball).write_bytes(b"damaged")
    with pytest.raises(sources.SourceError, match=r"is not @iconify-json/twemoji@.*SHA-512"):
        build.build(tmp_path / "out", packages)
    assert not list((tmp_path / "out").rglob("*array_record*"))


def test_missing_npm_is_explained(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sources.SourceError, match=r"no `npm` on the PATH.*apt install npm"):
        sources.fetch(sources.packages()[0], tmp_path / "cache")


def test_npm_that_fails_is_quoted(tmp_path: Path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'E404 not there' >&2\nexit 3\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(sources.SourceError, match="status 3: E404 not there"):
        sources.fetch(sources.packages()[0], tmp_path / "cache")


def test_only_known_sets_are_built(tmp_path: Path):
    with pytest.raises(ValueError, match=r"Did you mean 'emoji_art'\?"):
        data.build("emoji-art", tmp_path)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("O button (blood type)", "o-button-blood-type"),
        ("Mrs. Claus", "mrs-claus"),
        ("woman’s hat", "womans-hat"),
        ("piñata", "pinata"),
        ("man: red hair", "man-red-hair"),
    ],
)
def test_slugs(label, name):
    assert catalogue.slug(label) == name


def test_codes_lose_their_variation_selector():
    assert catalogue.normal_code("1F43B-200D-2744-FE0F") == "1f43b-200d-2744"


def test_variants_of_a_base_stand_on_one_side():
    assert catalogue.is_held_out("1f407") == catalogue.is_held_out("1f407-200d-2744") is True
    assert catalogue.is_held_out("1f43b") == catalogue.is_held_out("1f43b-200d-2744") is False


def test_white_is_behind_what_is_clear():
    rgba = np.array([[[0, 0, 0, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)
    # 255 * 127 / 255 = 127 where half is black.
    assert render.on_white(rgba).tolist() == [[[255, 255, 255], [10, 20, 30], [127, 127, 127]]]


def test_the_licence_file_is_up_to_date():
    written = Path(licences.__file__).with_name("LICENSES.md").read_text("utf-8")
    shipped = build.shipped_dir() / "emoji_art" / "1.0.0" / "LICENSES.md"
    assert written == licences.licences_text() == shipped.read_text("utf-8")


@pytest.mark.slow
def test_the_whole_build_equals_the_shipped_records(tmp_path: Path):
    # `data.build` compares ids, captions and pixels, and raises where they differ.
    folder = data.build("emoji_art", tmp_path)
    shipped = build.shipped_dir() / "emoji_art" / folder.name
    assert build.compare(folder, shipped) == []
