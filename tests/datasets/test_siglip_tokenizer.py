"""SigLIP's text: lower case, no punctuation, an end mark that stays, padding with it."""

from __future__ import annotations

import io
from pathlib import Path

import byways.datasets as data
import pytest
import sentencepiece


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red apple", "a photo of a fox", "red fox, fox"] * 20),
        model_writer=made,
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("siglip") / "spiece.model"
    path.write_bytes(made.getvalue())
    return path


def test_text_is_bare_and_ends(model):
    tokenizer = data.SiglipTokenizer(model)
    assert tokenizer.numbers("A  red, fox!") == tokenizer.numbers("a red fox")
    pieces = tokenizer.numbers("a red fox")
    assert pieces[-1] == 1
    ids, mask = tokenizer.encode(["a red fox"], 20)
    assert ids[0].tolist() == pieces + [1] * (20 - len(pieces))
    assert mask[0].sum() == len(pieces)
    ids, mask = tokenizer.encode(["a red fox"], 2)
    assert ids[0].tolist() == [pieces[0], 1]
    assert tokenizer.cut == 1


def test_second_edition_keeps_punctuation(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, "a": 3, "fox": 4, "!": 5}
    whole = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    whole.save(str(path))
    tokenizer = data.SiglipTokenizer(path)
    assert tokenizer.encode(["A fox!"], 6)[0].tolist() == [[3, 4, 5, 1, 0, 0]]
    assert tokenizer.encode(["A fox!"], 3)[0].tolist() == [[3, 4, 1]]


def test_no_such_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="No tokenizer at"):
        data.SiglipTokenizer(tmp_path / "spiece.model")
    for name in ("spiece.model", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"what")
        with pytest.raises(ValueError, match=r"is not a SentencePiece model|is no tokenizer"):
            data.SiglipTokenizer(tmp_path / name)
