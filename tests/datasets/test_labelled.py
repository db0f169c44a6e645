"""Images with class labels: Fashion-MNIST's files, prepared sets, and the streams over them."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import json
import struct
from pathlib import Path

import byways.datasets as data
import numpy as np
import pytest

SIZES = {"train": 60, "t10k": 10}


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))


def pictures(stem: str) -> tuple[np.ndarray, np.ndarray]:
    many = SIZES[stem]
    rng = np.random.default_rng(many)
    return rng.integers(1, 256, (many, 28, 28), np.uint8), np.arange(many, dtype=np.uint8) % 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The four files, 60 and 10 random pictures."""
    for stem in SIZES:
        images, labels = pictures(stem)
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte.gz", labels)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> data.ImageDataConfig:
    return data.ImageDataConfig(data_dir=str(folder))


def equal(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_fashion_mnist_is_read_and_split(folder):
    found = data.open_images("fashion_mnist", folder)
    expected = [pictures(stem) for stem in SIZES]
    assert np.array_equal(found.images, np.concatenate([images for images, _ in expected]))
    assert np.array_equal(found.labels, np.concatenate([labels for _, labels in expected]))
    assert found.labels.dtype == np.int32
    assert len(found.classes) == 10
    # The fixed permutation of 60, pinned: who trained on what must not change.
    assert found.rows("validation").tolist() == [0, 3, 44, 47, 53]
    assert np.array_equal(np.sort(np.concatenate([*found.splits.values()])), np.arange(70))
    assert found.rows("test").tolist() == list(range(60, 70))
    with pytest.raises(ValueError, match=r"No split 'dev'; there are: train, test, validation"):
        found.rows("dev")


def test_absent_files_say_how_to_get_them(folder, tmp_path):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.RecordError, match=r"t10k-labels.* missing.*apt install dataset-fash"):
        data.open_images("fashion_mnist", folder)
    with pytest.raises(data.RecordError, match=r"--data\.data-dir"):
        data.open_images("fashion_mnist", tmp_path / "nowhere")


def replaced(part: bytes, by: bytes):
    return lambda raw: gzip.compress(gzip.decompress(raw).replace(part, by, 1))


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("images-idx3", lambda raw: raw[: len(raw) // 2], "cannot be unpacked"),
        ("images-idx3", lambda raw: b"not gzip at all", "cannot be unpacked"),
        ("images-idx3", replaced(b"\0\0\x08\x03", b"\0\0\x0d\x03"), "begins with 00000d03"),
        ("images-idx3", replaced(b"\0\0\x08\x03", b"\0\0\x08\x01"), "begins with 00000801"),
        ("images-idx3", replaced(b"\0\0\0\x3c", b"\xff\xff\xff\xff"), "over 1 GiB"),
        ("images-idx3", replaced(b"\0\0\0\x3c", b"\0\0\0\x3d"), r"47040 bytes.*47824"),
        ("images-idx3", replaced(b"\0\0\0\x3c", b"\0\0\0\x3b"), "holds more bytes"),
        ("images-idx3", lambda raw: gzip.compress(b"\0\0\x08"), "within its header, after 3"),
        (
            "labels-idx1",
            lambda raw: gzip.compress(b"\0\0\x08\x01\0\0\0\x02\1\2"),
            "60 images and 2",
        ),
        ("labels-idx1", replaced(b"\x05", b"\x0b"), "the label 11"),
    ],
)
def test_damaged_files_are_refused(folder, kind, damage, message):
    path = folder / f"train-{kind}-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.RecordError, match=message):
        data.open_images("fashion_mnist", folder)


def test_the_contract_of_a_batch_and_exact_resume(config):
    whole = data.make_image_stream(config, 8, seed=3)
    first = [next(whole) for _ in range(3)]
    kinds = {k: (v.shape, v.dtype.name) for k, v in first[0].items()}
    assert kinds == {
        "image": ((8, 32, 32, 3), "uint8"),
        "label": ((8,), "int32"),
        "mask": ((8,), "bool"),
        "id": ((8,), "int64"),
    }
    state = json.loads(json.dumps(whole.get_state()))
    rest = [next(whole) for _ in range(5)]
    whole.close()
    again = data.make_image_stream(config, 8, seed=3)
    assert all(equal(batch, next(again)) for batch in first)
    again.set_state(state)
    assert all(equal(batch, next(again)) for batch in rest)
    again.close()


def test_an_epoch_is_a_permutation_of_the_training_rows_alone(config):
    found = data.load_images(config)
    batches = data.ImageBatches(found, config, 5, seed=1)
    epochs = [np.concatenate([batches[11 * e + i]["id"] for i in range(11)]) for e in range(2)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), found.rows("train"))
    assert not np.array_equal(*epochs)
    assert not equal(batches[0], data.ImageBatches(found, config, 5, seed=2)[0])
    assert data.ImageBatches(found, config, 64)[0]["mask"].sum() == 64


def test_augmentation_only_shifts_and_mirrors(config):
    found = data.load_images(config)
    batches = data.ImageBatches(found, config, 55, seed=1)
    moves = []
    for image, number, label in zip(
        *(batches[0][k] for k in ("image", "id", "label")), strict=True
    ):
        assert label == found.labels[number]
        assert (image == image[..., :1]).all()
        # Pictures have no black pixel, and 28 + 2 of shift stay inside of 32.
        y, x = np.argwhere(image[..., 0]).min(0)
        picture = image[y : y + 28, x : x + 28, 0]
        source = found.images[number]
        mirrored = np.array_equal(picture, source[:, ::-1])
        assert mirrored or np.array_equal(picture, source)
        moves.append((y - 2, x - 2, mirrored))
    assert {dy for dy, _, _ in moves} == {dx for _, dx, _ in moves} == {-2, -1, 0, 1, 2}
    assert {mirrored for *_, mirrored in moves} == {False, True}
    plain = dataclasses.replace(config, shift=0, flip=False)
    batch = data.ImageBatches(found, plain, 4, seed=1, image_size=28)[0]
    assert np.array_equal(batch["image"][..., 1], found.images[batch["id"]])


def test_evaluation_goes_once_through_and_masks_the_rest(config):
    batches = list(data.image_evaluation_batches(config, "test", 4))
    assert [b["mask"].tolist() for b in batches] == [[True] * 4] * 2 + [[True] * 2 + [False] * 2]
    assert np.concatenate([b["id"] for b in batches]).tolist() == [*range(60, 70), -1, -1]
    assert batches[2]["label"].tolist() == [8, 9, -1, -1]
    assert np.array_equal(batches[0]["image"][1, 2:30, 2:30, 0], pictures("t10k")[0][1])
    assert not batches[0]["image"][:, :2].any()
    with pytest.raises(ValueError, match="batch_size is 0"):
        data.image_evaluation_batches(config, "test", 0)


def test_other_sizes_are_resized():
    images = np.full((2, 28, 28), 7, np.uint8)
    for size in (14, 64):
        assert (data.fit_images(images, size) == np.full((2, size, size), 7)).all()
    assert data.fit_images(np.zeros((1, 28, 28, 3), np.uint8), 35).shape == (1, 35, 35, 3)


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [({"shift": 32}, 32, "shift is 32"), ({"shift": -1}, 32, "shift is -1"), ({}, 0, "image_size")],
)
def test_values_out_of_range_are_refused(config, change, size, message):
    with pytest.raises(ValueError, match=message):
        data.make_image_stream(dataclasses.replace(config, **change), 4, image_size=size)


@functools.cache
def flags_builder():
    """A builder of one-colour pictures with class labels, made once (TFDS keeps a register)."""
    import tensorflow_datasets as tfds
    from PIL import Image

    def rows(many):
        for i in range(many):
            file = io.BytesIO()
            Image.new("RGB", (8, 8), (i, 0, 255)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": ("light_blue", "red")[(i + 1) % 2]}

    class Flags(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=["light_blue", "red"])
            features = {"image": tfds.features.Image(encoding_format="png"), "label": label}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {"train": rows(24), "test": rows(4)}

        def _generate_examples(self):
            raise AssertionError("the splits are given as iterators")

    return Flags


def test_a_prepared_set_is_read_by_name(tmp_path, snapshots):
    builder = flags_builder()
    builder(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    config = data.ImageDataConfig("flags", str(tmp_path))
    found = data.load_images(config, 8)
    assert found.classes == ("light blue", "red")
    assert {k: len(v) for k, v in found.splits.items()} == {"train": 22, "test": 4, "validation": 2}
    (batch,) = data.image_evaluation_batches(config, "test", 4, 8)
    assert batch["label"].tolist() == [1, 0, 1, 0]
    assert batch["image"][:, 3, 3].tolist() == [[i, 0, 255] for i in range(4)]
    with pytest.raises(data.RecordError, match="no class labels"):
        data.open_images("snapshots", snapshots)


def test_a_set_without_training_rows_is_not_trained_on():
    images = data.LabelledImages(
        np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int32), ("a",), {"test": np.arange(1)}
    )
    with pytest.raises(data.RecordError, match="no split `train` to learn from; it has test"):
        data.ImageBatches(images, data.ImageDataConfig(), 1)
