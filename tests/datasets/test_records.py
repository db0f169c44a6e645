"""A prepared data set is found by name, and a damaged one says which file and how to mend it."""

import shutil
from pathlib import Path

import pytest
from byways.datasets import RecordError, open_data
from byways.datasets.emoji_art.build import shipped_dir
from byways.datasets.records import open_folder

TRAIN = "emoji_art-train.array_record-00000-of-00001"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped data_dir, to be damaged."""
    return Path(shutil.copytree(shipped_dir(), tmp_path / "copy"))


def test_the_shipped_set_has_its_splits():
    assert open_data("emoji_art").splits == {
        "train": 8318,
        "held_out": 849,
        "validation": 948,
        "test": 2863,
    }


def test_a_row_has_what_the_builder_wrote():
    row = next(open_data("emoji_art").rows("validation"))
    assert row["image"].shape == (32, 32, 4)
    assert (row["id"], row["code"], row["artist"]) == ("emojione-v1/1f600", "1f600", "emojione-v1")
    assert (row["label"], row["group"]) == ("grinning face", "smileys-emotion")
    assert "smile" in row["keywords"]
    assert row["is_object"] is False


def test_another_split_is_refused_with_those_there_are():
    with pytest.raises(RecordError, match="no split 'valid'; it has train, held_out, validation"):
        next(open_data("emoji_art").raw("valid"))


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(RecordError, match=r"Did you mean 'emoji_art'\?"):
        open_data("emoji_arts")


def test_an_empty_data_dir_says_so(tmp_path: Path):
    with pytest.raises(RecordError, match="There: none"):
        open_data("laion400m", tmp_path)


def test_a_missing_record_file_is_named(copy: Path):
    (copy / "emoji_art" / "1.0.0" / TRAIN).unlink()
    with pytest.raises(RecordError, match=f"{TRAIN} is missing.*byways data build emoji_art"):
        open_data("emoji_art", copy)


def test_a_truncated_record_file_is_named(copy: Path):
    path = copy / "emoji_art" / "1.0.0" / TRAIN
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RecordError, match=f"{TRAIN} is corrupt: .* bytes, where"):
        open_data("emoji_art", copy)


@pytest.mark.parametrize("where", [100, 500_000, -1])
def test_one_flipped_byte_is_found(copy: Path, where: int):
    path = copy / "emoji_art" / "1.0.0" / TRAIN
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordError, match=f"{TRAIN} is corrupt: its SHA-256"):
        open_data("emoji_art", copy)


def test_damaged_metadata_is_named(copy: Path):
    (copy / "emoji_art" / "1.0.0" / "checksums.json").write_text("{")
    with pytest.raises(RecordError, match=r"checksums\.json is corrupt"):
        open_data("emoji_art", copy)


def test_a_set_without_checksums_is_checked_when_it_is_read(snapshots: Path):
    folder = snapshots / "snapshots" / "1.0.0"
    path = next(folder.glob("*.array_record-*"))
    data = bytearray(path.read_bytes())
    data[70:200] = bytes(130)
    path.write_bytes(data)
    with pytest.raises(RecordError, match=r"cannot be read|holds .* rows"):
        list(open_data("snapshots", snapshots).raw("train"))


def test_another_file_format_is_refused(snapshots: Path):
    info = snapshots / "snapshots" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(RecordError, match="prepared as tfrecord"):
        open_folder(info.parent)
