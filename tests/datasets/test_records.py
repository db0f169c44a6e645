"""A prepared data set is found by name, and a damaged one says which file and how to mend it."""

import json
import shutil
from pathlib import Path

import pytest
from byways.datasets import DataConfig, RecordError, load_data, make_train_stream, open_data
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
    with pytest.raises(RecordError, match=f"{TRAIN} is missing.*data build emoji_art --output"):
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


def _is_list(info: dict) -> list:
    return [info]


def _has_no_splits(info: dict) -> dict:
    return {key: value for key, value in info.items() if key != "splits"}


def _has_words_for_rows(info: dict) -> dict:
    return {**info, "splits": [{"name": "train", "shardLengths": ["many"]}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_is_list, "is corrupt: list, no object"),
        (_has_no_splits, "not what TFDS writes .KeyError.'splits'"),
        (_has_words_for_rows, "not what TFDS writes .ValueError.*'many'"),
    ],
)
def test_an_info_of_another_shape_is_named(snapshots: Path, change, message):
    path = snapshots / "snapshots" / "1.0.0" / "dataset_info.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RecordError, match=rf"dataset_info\.json .*{message}"):
        open_data("snapshots", snapshots)


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "list, no"), ('{"features.json": 3}', "size")]
)
def test_checksums_of_another_shape_are_named(snapshots: Path, text, message):
    (snapshots / "snapshots" / "1.0.0" / "checksums.json").write_text(text)
    with pytest.raises(RecordError, match=rf"checksums\.json is corrupt: .*{message}"):
        open_data("snapshots", snapshots)


@pytest.mark.parametrize("text", ["{", "{}", None])
def test_damaged_features_are_named(snapshots: Path, text):
    path = snapshots / "snapshots" / "1.0.0" / "features.json"
    path.unlink() if text is None else path.write_text(text)
    reason = "is missing" if text is None else "cannot be read"
    with pytest.raises(RecordError, match=rf"features\.json {reason}.* Prepare snapshots again"):
        load_data(DataConfig(name="snapshots", data_dir=str(snapshots)))


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_text_that_is_not_utf8_names_its_row(snapshots: Path, policy):
    from array_record.python import array_record_module

    prepared = open_data("snapshots", snapshots)
    rows = [row.replace(b"a lamp", b"a \xffamp") for row in prepared.raw("train")]
    (path,) = prepared.files["train"]
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for row in rows:
        writer.write(row)
    writer.close()
    config = DataConfig(name="snapshots", data_dir=str(snapshots), on_bad_image=policy)
    with pytest.raises(RecordError, match=r"row 3 of train .* does not parse .*utf-8"):
        load_data(config)


def test_a_set_without_training_rows_is_not_trained_on(snapshots: Path):
    folder = snapshots / "snapshots" / "1.0.0"
    (path,) = folder.glob("*.array_record-*")
    path.rename(folder / path.name.replace("train", "test"))
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"train"', '"test"'))
    config = DataConfig(name="snapshots", data_dir=str(snapshots))
    with pytest.raises(RecordError, match="no split `train` to learn from; it has test"):
        make_train_stream(config, 2)
