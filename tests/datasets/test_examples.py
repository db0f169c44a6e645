"""Rows that cannot be used, and the decoded copy."""

import io
from pathlib import Path

import numpy as np
import pytest
from byways.datasets import DataConfig, RecordError, load_data, open_data
from byways.datasets.examples import load_examples
from PIL import Image


def test_shapes_and_table(examples):
    assert examples.rgba.shape == (12978, 32, 32, 4)
    assert len(examples.concepts) == 1644
    assert sum(c.is_object for c in examples.concepts) == 837
    assert sum(c.is_object and c.held_out for c in examples.concepts) == 82
    assert examples.images(np.arange(3)).shape == (3, 32, 32, 3)


def test_rows_of_an_artist(examples):
    noto = examples.rows("test", artist="noto")
    assert len(noto) == 1644
    assert set(examples.artist[noto]) == {"noto"}
    with pytest.raises(ValueError, match="No artist 'nota'; there are: emojione, "):
        examples.rows(artist="nota")


def test_transparent_is_white(examples):
    clear = examples.rgba[..., 3] == 0
    assert (examples.images(np.arange(500))[clear[:500]] == 255).all()


def test_any_prepared_set_is_read_by_name(snapshots: Path):
    data = load_data(DataConfig(name="snapshots", data_dir=str(snapshots)))
    assert data.rgba.shape == (6, 32, 32, 4)
    assert [c.label for c in data.concepts][:2] == ["a red door", "a boat on the left"]


@pytest.mark.parametrize("broken", ["bytes", "truncated"])
def test_an_image_that_does_not_decode(make_prepared, picture, tmp_path, broken):
    good = picture((1, 2, 3), 64)
    bad = b"not a picture" if broken == "bytes" else good[: len(good) // 2]
    prepared = open_data("snapshots", make_prepared([(good, "one"), (bad, "two"), (good, "six")]))
    with pytest.raises(RecordError, match=r"Row 1 of train .* cannot be used"):
        load_examples(prepared, on_bad_image="error", cache=tmp_path / "c")
    kept = load_examples(prepared, on_bad_image="skip", cache=tmp_path / "c")
    assert (len(kept), kept.skipped) == (2, 1)
    # A decoded copy made under `skip` does not hide the bad row from `error`.
    with pytest.raises(RecordError, match="Row 1"):
        load_examples(prepared, on_bad_image="error", cache=tmp_path / "c")


def test_grey_of_16_bits_is_scaled_as_in_an_evaluation(make_prepared, tmp_path):
    data = io.BytesIO()
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(data, "PNG")
    prepared = open_data("snapshots", make_prepared([(data.getvalue(), "grey")]))
    examples = load_examples(prepared, image_size=8, cache=tmp_path / "c")
    assert (examples.rgba == [128, 128, 128, 255]).all()


def test_an_image_of_too_many_pixels_goes_by_the_policy(
    make_prepared, picture, tmp_path, monkeypatch
):
    images = [(picture((1, 2, 3), 8), "small"), (picture((1, 2, 3), 20), "large")]
    prepared = open_data("snapshots", make_prepared(images))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(RecordError, match=r"Row 1 of train .* exceeds limit"):
        load_examples(prepared, cache=tmp_path / "c")
    assert load_examples(prepared, on_bad_image="skip", cache=tmp_path / "c").skipped == 1


def test_an_empty_caption_goes_by_the_same_policy(make_prepared, picture, tmp_path):
    one = picture((9, 9, 9))
    prepared = open_data("snapshots", make_prepared([(one, "  "), (one, "a lamp")]))
    with pytest.raises(RecordError, match="its caption is empty"):
        load_examples(prepared, on_bad_image="error", cache=tmp_path)
    assert load_examples(prepared, on_bad_image="skip", cache=tmp_path).skipped == 1


def test_nothing_usable_is_an_error(make_prepared, tmp_path):
    prepared = open_data("snapshots", make_prepared([(b"x", "one")]))
    with pytest.raises(RecordError, match="no row that can be used"):
        load_examples(prepared, on_bad_image="skip", cache=tmp_path)


def test_the_decoded_copy_is_the_same_and_a_damaged_one_is_made_anew(snapshots, tmp_path):
    prepared = open_data("snapshots", snapshots)
    first = load_examples(prepared, cache=tmp_path)
    (copy,) = tmp_path.glob("*.npz")
    second = load_examples(prepared, cache=tmp_path)
    copy.write_bytes(copy.read_bytes()[:500])
    third = load_examples(prepared, cache=tmp_path)
    for other in (second, third):
        assert np.array_equal(first.rgba, other.rgba)
        assert first.concepts == other.concepts
        assert first.name.tolist() == other.name.tolist()
    assert copy.stat().st_size > 500
