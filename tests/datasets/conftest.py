"""The shipped data, opened once; and small prepared data sets of our own."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from byways.datasets import DataConfig, Examples, load_data
from PIL import Image


@pytest.fixture(scope="session")
def examples() -> Examples:
    """The shipped emoji_art, decoded."""
    return load_data(DataConfig())


def png(colour: tuple[int, int, int], side: int = 8) -> bytes:
    """A PNG of one colour."""
    data = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(data, "PNG")
    return data.getvalue()


@functools.cache
def snapshots_builder():
    """A builder of `rows`, made once: TFDS keeps a register of builders by name."""
    import tensorflow_datasets as tfds

    class Snapshots(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        rows: ClassVar[list[dict]] = []

        def _info(self):
            image = tfds.features.Image(encoding_format="png")
            features = {"image": image, "caption": tfds.features.Text()}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {"train": enumerate(_fed(row) for row in self.rows)}

        def _generate_examples(self):
            raise AssertionError("the split is given as an iterator")

    return Snapshots


def prepare(folder: Path, rows: list[dict]) -> Path:
    """Prepares `snapshots` from {"image": PNG bytes, "caption": str} each; gives the data_dir."""
    builder = snapshots_builder()
    builder.rows = rows
    folder.mkdir(parents=True, exist_ok=True)
    builder(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def _fed(row: dict) -> dict:
    return {**row, "image": io.BytesIO(row["image"])}


@pytest.fixture
def make_prepared(tmp_path: Path) -> Callable[[list[tuple[bytes, str]]], Path]:
    """Prepares (image bytes, caption) pairs as the data set `snapshots`; gives its data_dir."""

    def make(pairs: list[tuple[bytes, str]]) -> Path:
        rows = [{"image": data, "caption": caption} for data, caption in pairs]
        return prepare(tmp_path / "data", rows)

    return make


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """A function that gives the PNG of one colour."""
    return png


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """A prepared set of six one-colour pictures, 8 px."""
    colours = np.random.default_rng(0).integers(0, 255, (6, 3)).tolist()
    names = ("a red door", "a boat on the left", "two trees", "a lamp", "an old map", "tea")
    rows = [{"image": png(tuple(c)), "caption": n} for c, n in zip(colours, names, strict=True)]
    return prepare(tmp_path / "data", rows)
