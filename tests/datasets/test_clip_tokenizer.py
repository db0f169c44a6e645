"""CLIP's tokenizer: the pieces of Hugging Face's and open_clip's, out of each form of file."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from byways.datasets import ClipTokenizer

FILES = Path(__file__).parents[1] / "parity" / "clip" / "tokenizer"
# Greek and Turkish letters that two libraries lower differently; names of marks in a text.
APART = (4, 12)


@functools.cache
def expected():
    return json.loads((FILES / "expected.json").read_text("utf-8"))


@pytest.fixture
def in_parts(tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(FILES / name, tmp_path)
    return tmp_path


def hugging_face_ids():
    """What Hugging Face gives, with zeros as padding, and where each text first ends."""
    ids, real = (np.array(expected()[name]) for name in ("hugging_face", "hugging_face_mask"))
    end = ids[0, real[0].sum() - 1]
    mask = np.arange(77) <= (ids == end).argmax(axis=1)[:, None]
    return np.where(real, ids, 0), mask


@pytest.mark.parametrize("form", ["folder", "parts", "json", "open_clip"])
def test_pieces_are_hugging_faces(form, in_parts):
    path = {
        "folder": FILES,
        "parts": in_parts,
        "json": FILES / "tokenizer.json",
        "open_clip": FILES / "bpe_simple_vocab.txt.gz",
    }[form]
    tokenizer = ClipTokenizer(path)
    ids, mask = tokenizer.encode(expected()["texts"], 77)
    wanted, real = hugging_face_ids()
    np.testing.assert_array_equal(ids, wanted)
    np.testing.assert_array_equal(mask, real)
    assert (ids.dtype, mask.dtype) == (np.int32, np.bool_)
    assert tokenizer.vocab_size == 544
    assert tokenizer.cut == 1  # the long one


def test_pieces_are_open_clips():
    ids, _ = ClipTokenizer(FILES).encode(expected()["texts"], 77)
    theirs = np.array(expected()["open_clip"])
    same = [row for row in range(len(ids)) if np.array_equal(ids[row], theirs[row])]
    assert same == [row for row in range(len(ids)) if row not in APART]


def test_case_space_and_length():
    tokenizer = ClipTokenizer(FILES)
    (one, two), mask = tokenizer.encode(["The  CAT\n", "the cat"], 8)
    np.testing.assert_array_equal(one, two)
    start, *_, end = tokenizer.numbers("the cat")
    assert tokenizer.pieces([start, end]) == ["<|startoftext|>", "<|endoftext|>"]
    ids, mask = tokenizer.encode(["the cat sat on the mat", ""], 4)
    assert (ids[0, 0], ids[0, -1]) == (start, end)
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert tokenizer.cut == 1
    with pytest.raises(ValueError, match="length is 1"):
        tokenizer.encode(["a"], 1)


def test_damaged_and_foreign_files_are_told(tmp_path, in_parts):
    with pytest.raises(FileNotFoundError, match="No tokenizer at"):
        ClipTokenizer(tmp_path / "none.json")
    (in_parts / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match="is no byte-pair tokenizer"):
        ClipTokenizer(in_parts)
    (in_parts / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json, and no vocab\.json"):
        ClipTokenizer(in_parts)
    whole = json.loads((FILES / "tokenizer.json").read_text("utf-8"))
    whole["added_tokens"] = []
    for mark in ("<|startoftext|>", "<|endoftext|>"):
        whole["model"]["vocab"]["x" + mark] = whole["model"]["vocab"].pop(mark)
    whole["post_processor"] = None
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(whole), "utf-8")
    with pytest.raises(ValueError, match="it is not CLIP's tokenizer"):
        ClipTokenizer(path)
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress(b"header\na b c\n"))
    with pytest.raises(ValueError, match="is no byte-pair tokenizer"):
        ClipTokenizer(path)
    path.write_bytes(gzip.compress(b"header\n")[:-4])
    with pytest.raises(ValueError, match="cannot be read"):
        ClipTokenizer(path)
