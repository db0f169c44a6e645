"""The text of SigLIP's towers (Zhai et al., arXiv 2303.15343): an end mark, which stays when a
text is cut, and padding that counts as text."""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# In SigLIP's C4 vocabulary the end mark, with which it also pads.
_END = 1
_BARE = str.maketrans("", "", string.punctuation)


class SiglipTokenizer:
    """Text as SigLIP (`spiece.model`) and SigLIP 2 (`tokenizer.json`) read it.

    SigLIP's is lower-cased and without ASCII punctuation; SigLIP 2's, whose end mark is `<eos>`,
    only lower-cased.

    Args:
        path: the file.

    Attributes:
        vocab_size: number of pieces.
        fingerprint: SHA-256 of the file, as hexadecimal digits.
        cut: texts that `encode` has cut so far, since they were longer than the limit.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no such tokenizer.
        ModuleNotFoundError: of a `tokenizer.json`, the library `tokenizers` is not installed.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"No tokenizer at {self.path}.")
        data = self.path.read_bytes()
        self.fingerprint: str = hashlib.sha256(data).hexdigest()
        self.cut = 0
        self._json = self.path.suffix == ".json"
        self._model: Any
        self._bare: bool
        if self._json:
            self._model, self._pad, self._end, self._bare = _read_json(self.path, data)
            self.vocab_size: int = self._model.get_vocab_size()
        else:
            import sentencepiece

            try:
                self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
            except Exception as error:  # RuntimeError or a protobuf error, by what is wrong
                raise ValueError(f"{self.path} is not a SentencePiece model ({error}).") from error
            self._pad = self._end = _END
            self._bare = True
            self.vocab_size = self._model.vocab_size()

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of `texts`, each cut or padded to `length` (N_t); the end mark stays.

        Returns:
            (n, N_t) int32 ids; and (n, N_t) bool, true up to the end mark.
        """
        if length < 1:
            raise ValueError(f"length is {length}, and must be at least 1.")
        ids = np.full((len(texts), length), self._pad, np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, text in enumerate(texts):
            pieces = self.numbers(text)
            if len(pieces) > length:
                self.cut += 1
                pieces = [*pieces[: length - 1], self._end]
            ids[row, : len(pieces)] = pieces
            mask[row, : len(pieces)] = True
        return ids, mask

    def numbers(self, text: str) -> list[int]:
        """A text's pieces and the end mark, however many."""
        text = text.lower()
        if self._bare:
            text = re.sub(r"\s+", " ", text.translate(_BARE)).strip()
        if self._json:
            return [*self._model.encode(text, add_special_tokens=False).ids, self._end]
        return [*self._model.encode(text), self._end]


def _read_json(path: Path, data: bytes) -> tuple[Any, int, int, bool]:
    """The tokenizer, its padding, its end mark, and whether its text has no punctuation."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a tokenizer.json needs the library tokenizers: pip install 'byways[clip]'"
        ) from error
    try:
        json.loads(data)
        model = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # of tokenizers, which names none
        raise ValueError(f"{path} is no tokenizer ({str(error)[:200]})") from error
    model.no_padding()
    model.no_truncation()
    second, first = model.token_to_id("<eos>"), model.token_to_id("</s>")
    if second is not None:
        pad = model.token_to_id("<pad>")
        return model, second if pad is None else pad, second, False
    if first is None:
        raise ValueError(f"{path} has no end mark <eos> or </s>: it is not SigLIP's tokenizer")
    return model, first, first, True
