"""SentencePiece text to padded token arrays, counting what is cut."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

import numpy as np

PAD = 0
# Captions come again, and looking one up is ten times faster than encoding it.
_REMEMBERED = 1 << 16


def shipped_model() -> Path:
    """The tokenizer trained on emoji_art's training captions."""
    return Path(__file__).parent / "emoji_art" / "tokenizer.model"


class Tokenizer:
    """Any SentencePiece `.model`, giving N_t tokens a text: no beginning or end marks.

    Args:
        path: the `.model` file; None is the shipped one (2,048 pieces, case folded by its
            own normaliser, unseen characters as bytes).
        lower: lower-case the text first, for models that do not fold case themselves.

    Attributes:
        vocab_size: number of pieces.
        fingerprint: SHA-256 of the model file, as hexadecimal digits.
        cut: texts that `encode` has cut so far, since they were longer than the limit.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a SentencePiece model.
    """

    def __init__(self, path: str | Path | None = None, *, lower: bool = False):
        import sentencepiece

        self.path = Path(path) if path is not None else shipped_model()
        if not self.path.is_file():
            raise FileNotFoundError(
                f"No tokenizer at {self.path}. Name a SentencePiece `.model` file, or None for the"
                " one that ships with byways."
            )
        data = self.path.read_bytes()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=data)
            if not data:
                raise ValueError("it is empty")
        except Exception as error:  # RuntimeError or a protobuf error, by what is wrong
            raise ValueError(f"{self.path} is not a SentencePiece model ({error}).") from error
        self.vocab_size: int = self._processor.vocab_size()
        self.fingerprint: str = hashlib.sha256(data).hexdigest()
        self.lower = lower
        self.cut = 0
        self._known: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of `texts`, each cut or padded to `length` (N_t).

        Returns:
            (n, N_t) int32 ids, 0 where padded; and (n, N_t) bool, True where a piece is.
        """
        ids, mask, cut = self.encode_counting(texts, length)
        self.cut += cut
        return ids, mask

    def encode_counting(
        self, texts: Sequence[str], length: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """As `encode`, which also returns how many texts it cut and counts nothing itself."""
        if length < 1:
            raise ValueError(f"length is {length}, and must be at least 1.")
        ids = np.full((len(texts), length), PAD, np.int32)
        mask = np.zeros((len(texts), length), bool)
        cut = 0
        for row, text in enumerate(texts):
            pieces = self._pieces_of(text)
            cut += len(pieces) > length
            used = pieces[:length]
            ids[row, : len(used)] = used
            mask[row, : len(used)] = True
        return ids, mask, cut

    def numbers(self, text: str) -> list[int]:
        """A text's pieces, however many."""
        return list(self._pieces_of(text))

    def _pieces_of(self, text: str) -> list[int]:
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._processor.encode(text.lower() if self.lower else text)
            self._known[text] = known
        return known

    def pieces(self, ids: Iterable[SupportsInt]) -> list[str]:
        """The pieces of ids; a word's first piece begins with `▁`."""
        return [self._processor.id_to_piece(int(i)) for i in ids]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of ids, up to the first padding."""
        kept: list[int] = []
        for i in ids:
            if int(i) == PAD:
                break
            kept.append(int(i))
        return self._processor.decode(kept)


def train_tokenizer(texts: Iterable[str], path: Path, vocab_size: int = 2048) -> Path:
    """Trains a unigram model with byte fallback, case folded, id 0 for padding.

    The same texts in the same order give the same model. The file is written whole or not
    at all.

    Args:
        texts: one caption each.
        path: the `.model` file to write.
        vocab_size: pieces, of which 256 are bytes; fewer where the texts do not yield more.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=vocab_size,
        model_type="unigram",
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc_cf",
        hard_vocab_limit=False,
        pad_id=PAD,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    part = path.with_name(path.name + ".part")
    part.write_bytes(model.getvalue())
    os.replace(part, path)
    return path


def emoji_art_texts() -> list[str]:
    """What the shipped tokenizer is trained on: seen concepts' labels, scenes' words, keywords.

    A label counts eight times a keyword, since it is what most captions consist of.
    """
    from .captions import training_concepts
    from .examples import load_examples
    from .records import open_data
    from .scenes import SCENE_TEXTS

    texts: list[str] = []
    for concept in training_concepts(load_examples(open_data("emoji_art")).concepts):
        if concept is not None:
            texts += [concept.label] * 8 + list(concept.keywords)
    return texts + list(SCENE_TEXTS) * 8


if __name__ == "__main__":
    print(train_tokenizer(emoji_art_texts(), shipped_model()))
