"""Padding, cutting and counting; any SentencePiece model; bad files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from byways.datasets import Tokenizer, train_tokenizer
from byways.datasets.tokenizer import shipped_model


def test_text_is_padded_and_masked():
    ids, mask = Tokenizer().encode(["red apple", "", "a cat left of two apples"], 12)
    assert ids.shape == mask.shape == (3, 12)
    assert ids.dtype == np.int32
    assert mask.dtype == bool
    assert not mask[1].any()
    assert (ids[~mask] == 0).all()
    assert (ids[mask] != 0).all()
    # Pieces first, then padding.
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()


def test_long_text_is_cut_and_counted():
    tokenizer = Tokenizer()
    whole, _ = tokenizer.encode(["two small foxes left of a large apple"], 32)
    assert tokenizer.cut == 0
    short, mask = tokenizer.encode(["two small foxes left of a large apple", "fox"], 3)
    assert tokenizer.cut == 1
    assert short[0].tolist() == whole[0, :3].tolist()
    assert mask[0].all()


def test_case_does_not_matter_to_the_shipped_model():
    ids, _ = Tokenizer().encode(["Red APPLE", "red apple"], 8)
    assert ids[0].tolist() == ids[1].tolist()


def test_unseen_words_and_characters_encode_and_decode():
    tokenizer = Tokenizer()
    for text in ("zyzzyva", "caffè ☃ 雪", "quokka-42"):
        ids, _ = tokenizer.encode([text], 64)
        assert tokenizer.decode(ids[0]) == text
        assert "<unk>" not in tokenizer.pieces(ids[0])


def test_every_label_fits_the_presets_length(examples):
    tokenizer = Tokenizer()
    tokenizer.encode([c.label for c in examples.concepts if c.is_object], 12)
    assert tokenizer.cut == 0


def test_it_is_its_file():
    tokenizer = Tokenizer()
    assert tokenizer.vocab_size == 2048
    assert tokenizer.fingerprint == hashlib.sha256(shipped_model().read_bytes()).hexdigest()
    assert tokenizer.pieces([0]) == ["<pad>"]


def test_another_model_loads(tmp_path: Path):
    texts = [f"{a} {b}" for a in ("Dog", "Cat", "Fox") for b in ("runs", "sleeps", "eats")] * 5
    tokenizer = Tokenizer(train_tokenizer(texts, tmp_path / "own.model", 300), lower=True)
    assert 256 < tokenizer.vocab_size <= 300
    ids, _ = tokenizer.encode(["Cat EATS"], 16)
    assert tokenizer.decode(ids[0]) == "cat eats"


def test_bad_files_say_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="No tokenizer at"):
        Tokenizer(tmp_path / "none.model")
    bad = tmp_path / "bad.model"
    bad.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        Tokenizer(bad)
    with pytest.raises(ValueError, match="length is 0"):
        Tokenizer().encode(["a"], 0)
