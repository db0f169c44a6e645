"""Splits read once through: pictures, labels and captions of any set."""

from __future__ import annotations

import io

import byways.datasets as data
import numpy as np
import pytest
import tensorflow_datasets as tfds
from byways.datasets import evaluation_split
from byways.datasets.evaluation_picture import picture
from PIL import Image


def encoded(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def thirds(high: int, wide: int) -> bytes:
    """Red, green and blue columns."""
    array = np.zeros((high, wide, 3), np.uint8)
    for channel in range(3):
        array[:, channel * wide // 3 : (channel + 1) * wide // 3, channel] = 255
    return encoded(array)


def test_pictures_are_cropped_or_squashed():
    wide = thirds(30, 90)
    for resize in ("crop", "short_side"):  # the middle third alone
        found = picture(wide, 10, resize)
        assert found.shape == (10, 10, 3)
        assert found[5, 3:-3].tolist() == [[0, 255, 0]] * 4
    squashed = picture(wide, 9, "squash")
    assert squashed[4, [1, 4, 7]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    # 7 of 8 pixels stay: those at the edge of an 8 pixels wide picture go.
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, -1] = 255
    assert picture(encoded(edge), 7, "squash")[:, -1].min() > 200
    assert picture(encoded(edge), 7, "central")[:, :-1].max() == 0


def test_transparent_becomes_white_and_grey_is_repeated():
    clear = encoded(np.zeros((4, 4, 4), np.uint8))
    for resize in ("crop", "short_side", "squash", "central"):
        assert picture(clear, 3, resize).min() == 255
    grey = picture(np.full((28, 28), 7, np.uint8), 32)
    assert grey.shape == (32, 32, 3)
    assert (grey[16, 16].tolist(), grey[0, 0].tolist()) == ([7, 7, 7], [0, 0, 0])


def test_a_set_of_ones_own(snapshots):
    split = data.open_split("snapshots", snapshots)
    assert (split.split, split.classes, split.captioned) == ("train", None, True)
    rows = [row for _, row in split.rows()]
    assert len(rows) == split.count
    assert "a boat on the left" in {text for row in rows for text in row.captions}
    with pytest.raises(data.RecordError, match="no split 'test'; there are: train"):
        data.open_split("snapshots", snapshots, "test")
    with pytest.raises(data.RecordError, match="No data set 'snap'"):
        data.open_split("snap", snapshots)


def test_batches_are_filled_and_limits_are_drawn():
    rows = [
        evaluation_split.SplitRow(np.full((4, 4), n, np.uint8), (n,), (), str(n)) for n in range(7)
    ]
    split = data.EvaluationSplit("counts", "test", ("a",), False, 7, lambda: iter(rows))
    batches = list(split.batches(4, 4))
    assert [batch["id"].tolist() for batch, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, -1]]
    assert batches[1][0]["mask"].tolist() == [True, True, True, False]
    assert batches[1][0]["image"][:, 0, 0, 0].tolist() == [4, 5, 6, 0]
    chosen = sorted(np.random.RandomState(0).permutation(7)[:3].tolist())
    assert [number for number, _ in split.rows(3)] == chosen
    assert len(list(split.rows(70))) == 7
    bad = data.EvaluationSplit(
        "counts",
        "test",
        None,
        True,
        1,
        lambda: iter([evaluation_split.SplitRow(b"no picture", (), ("x",), "test/0")]),
    )
    with pytest.raises(data.RecordError, match=r"Row 0 of test .* does not decode"):
        list(bad.batches(4, 4))


def test_a_picture_of_too_many_pixels_is_named(monkeypatch):
    large = evaluation_split.SplitRow(thirds(20, 20), (), ("x",), "test/0")
    split = data.EvaluationSplit("counts", "test", None, True, 1, lambda: iter([large]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(data.RecordError, match=r"Row 0 of test .* does not decode.*exceeds limit"):
        list(split.batches(4, 4))


def test_captions_of_several_kinds():
    captions = evaluation_split._captions
    coco = {"captions": {"id": [1, 2], "text": [b"a dog", b"a dog "]}}
    # As often as they are there: whether equal ones are one is the protocol's to say.
    assert captions(coco, "captions") == ("a dog", "a dog")
    emoji = {"label": "fox", "keywords": ["a", "b", "c", "d", "e"]}
    assert captions(emoji, "label") == ("fox", "a b c d")
    assert captions({"caption": ["x", "", "y"]}, "caption") == ("x", "y")


class Fed:
    """A prepared set of features and rows that are given."""

    def __init__(self, features, rows):
        image = tfds.features.Image(encoding_format="png")
        self.folder = "fed"
        self._features = tfds.features.FeaturesDict({"image": image, **features})
        self._rows = [{"image": b"", **row} for row in rows]
        self.splits = {"test": len(rows)}

    def features(self):
        return self._features

    def rows(self, split, decode):
        assert (split, decode) == ("test", False)
        return iter(self._rows)


def opened(monkeypatch, features, *rows):
    monkeypatch.setattr(evaluation_split, "open_data", lambda name, folder: Fed(features, rows))
    split = data.open_split("fed")
    return split, list(split.read())


def test_a_text_label_is_the_label_whatever_the_captions_are(monkeypatch):
    text = tfds.features.Text()
    row = {"label": " fox ", "caption": "a fox at night"}
    for features in ({"label": text, "caption": text}, {"caption": text, "label": text}):
        split, (found, bare) = opened(monkeypatch, features, row, {**row, "label": ""})
        assert (split.text_labelled, split.captioned, split.classes) == (True, True, None)
        assert (found.label_text, found.captions) == ("fox", ("a fox at night",))
        assert bare.label_text is None
    split, (found,) = opened(monkeypatch, {"label": text}, {"label": "fox"})
    assert (found.label_text, found.captions) == ("fox", ("fox",))
    # A caption is nobody's label, nor are several texts, nor is a number without a class.
    split, (found,) = opened(monkeypatch, {"caption": text}, row)
    assert (split.text_labelled, found.label_text) == (False, None)
    several = {"label": tfds.features.Sequence(text)}
    split, (found,) = opened(monkeypatch, several, {"label": ["fox", "vixen"]})
    assert (split.text_labelled, found.label_text) == (False, None)
    assert found.captions == ("fox", "vixen")
    number = {"label": tfds.features.Scalar(np.int64)}
    split, _ = opened(monkeypatch, number, {"label": 3})
    assert (split.text_labelled, split.captioned) == (False, False)


def test_captions_that_are_not_utf8_name_their_row(monkeypatch):
    captions = tfds.features.Sequence({"text": tfds.features.Text()})
    rows = [{"captions": {"text": [text]}} for text in (b"tea", b"\xffea")]
    with pytest.raises(data.RecordError, match=r"row 1 of test in fed does not parse .*utf-8"):
        opened(monkeypatch, {"captions": captions}, *rows)


def test_a_label_given_twice_is_one_right_answer(monkeypatch):
    classes = tfds.features.ClassLabel(names=["cat", "fox"])
    features = {"labels": tfds.features.Sequence(classes)}
    rows = [{"labels": np.array(one)} for one in ([0, 0], [1, 0, 1], [-1, 1], [-1])]
    split, found = opened(monkeypatch, features, *rows)
    assert split.classes == ("cat", "fox")
    assert [row.labels for row in found] == [(0,), (1, 0), (1,), ()]
