"""Files are whole or not there, and what cannot be written is named."""

import os
import re

import pytest
from byways.experiments import ExperimentError
from byways.experiments.files import check_new, check_place, write_bytes


def test_a_file_that_could_not_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    write_bytes(file, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{file}'")):
        write_bytes(file, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert file.read_bytes() == b"old"


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    check_place(tmp_path / "file")
    check_place(tmp_path / "new" / "file")
    with pytest.raises(ExperimentError, match=r"is a folder; name a file"):
        check_place(tmp_path)
    with pytest.raises(ExperimentError, match=r"file is a file; name another file"):
        check_place(tmp_path / "file" / "below")
    with pytest.raises(ExperimentError, match=r"file is a file; name another folder"):
        check_new(tmp_path / "file" / "below")
    with pytest.raises(ExperimentError, match=r"file exists: name another folder"):
        check_new(tmp_path / "file")
