"""`peek` prints elements and writes a contact sheet that credits the artists."""

from pathlib import Path

import byways.datasets as data
import pytest
from PIL import Image


@pytest.mark.parametrize("name", ["emoji_art", "emoji_scenes"])
def test_peek_shows_elements_and_credits(name, tmp_path: Path, capsys):
    sheet = data.peek(name, tmp_path / "sub" / "sheet.png", count=6)
    printed = capsys.readouterr().out
    with Image.open(sheet) as image:
        assert image.width >= 480
        credit = image.info["Copyright"]
    assert "OpenMoji" in credit
    assert "CC-BY-SA-4.0" in credit
    assert "Noto" not in credit  # the training artists alone are shown
    assert "Twemoji" in printed.replace("\n", " ")
    assert list(sheet.parent.iterdir()) == [sheet]


def test_peek_of_a_set_of_ones_own(snapshots: Path, tmp_path: Path, capsys):
    data.peek("snapshots", tmp_path / "s.png", data_dir=snapshots)
    assert "a boat on the left" in capsys.readouterr().out


def test_peek_refuses_what_is_not_there(tmp_path: Path):
    with pytest.raises(ValueError, match="it has train alone"):
        data.peek("emoji_scenes", tmp_path / "s.png", split="test")
    with pytest.raises(ValueError, match="count is 0"):
        data.peek("emoji_art", tmp_path / "s.png", count=0)
    assert not list(tmp_path.iterdir())


def test_attribution_names_everyone_or_those_shown():
    everyone = data.attribution()
    for name in ("Twemoji", "OpenMoji", "Microsoft", "Emoji One", "Google", "emojibase"):
        assert name in everyone
    assert "\n" not in everyone
    assert "Google" not in data.attribution(["twemoji"])
    with pytest.raises(ValueError, match="the artists are twemoji, "):
        data.attribution(["mona"])


def test_a_contact_sheet_needs_a_caption_an_image(tmp_path: Path):
    with pytest.raises(ValueError, match="0 images and 0 captions"):
        data.write_contact_sheet(tmp_path / "s.png", [], [], "")
