"""CLIP's byte-pair encoding (Radford et al., arXiv 2103.00020, section 2.4)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

import numpy as np

START, END = "<|startoftext|>", "<|endoftext|>"
PAD = 0
# open_clip's file goes on beyond the merges that CLIP uses.
_MERGES = 49152 - 256 - 2
_LONGEST = 2**26
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class ClipTokenizer:
    """Text as CLIP's text towers read it: case folded, between a start and an end mark.

    Pieces are those of Hugging Face's CLIPTokenizer; open_clip's are the same, but for text that
    its `ftfy` repairs. What the name of a mark stands for in a text is that mark, as there.

    Args:
        path: a folder with `tokenizer.json`, or `vocab.json` and `merges.txt`; or a
            `tokenizer.json`; or merges as open_clip keeps them (`bpe_simple_vocab_16e6.txt.gz`).

    Attributes:
        vocab_size: number of pieces, both marks included.
        fingerprint: SHA-256 of the files, as hexadecimal digits.
        cut: texts that `encode` has cut so far, since they were longer than the limit.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no such tokenizer.
        ModuleNotFoundError: the library `tokenizers` is not installed (extra `clip`).
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        files = _files(self.path)
        data = [_read(file) for file in files]
        try:
            self._tokenizer = _make(files, data)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "CLIP's tokenizer needs the library tokenizers: pip install 'byways[clip]'"
            ) from error
        except Exception as error:  # of tokenizers, which names none
            raise ValueError(
                f"{files[0]} is no byte-pair tokenizer ({str(error)[:200]})"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        start, end = map(self._tokenizer.token_to_id, (START, END))
        if start is None or end is None:
            raise ValueError(f"{files[0]} has no {START} and {END}: it is not CLIP's tokenizer")
        self._start, self._end = start, end
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        self.fingerprint: str = hashlib.sha256(b"".join(data)).hexdigest()
        self.cut = 0

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of `texts`, each cut or padded to `length` (CLIP: 77); the last is the end mark.

        Returns:
            (n, N_t) int32 ids, 0 where padded; and (n, N_t) bool, true up to the first end mark,
            which is where CLIP's towers end.
        """
        ids, mask, cut = self.encode_counting(texts, length)
        self.cut += cut
        return ids, mask

    def encode_counting(
        self, texts: Sequence[str], length: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """As `encode`, which also returns how many texts it cut and counts nothing itself."""
        if length < 2:
            raise ValueError(f"length is {length}, and must hold a start and an end: 2 or more.")
        ids = np.full((len(texts), length), PAD, np.int32)
        mask = np.zeros((len(texts), length), bool)
        cut = 0
        for row, text in enumerate(texts):
            pieces = self.numbers(text)
            if len(pieces) > length:
                cut += 1
                pieces = [*pieces[: length - 1], self._end]
            ids[row, : len(pieces)] = pieces
            mask[row, : pieces.index(self._end) + 1] = True
        return ids, mask, cut

    def numbers(self, text: str) -> list[int]:
        """A text's pieces between both marks, however many."""
        found = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._start, *found, self._end]

    def pieces(self, ids: Iterable[SupportsInt]) -> list[str]:
        """The pieces of ids; a word's last piece ends with `</w>`."""
        return [str(self._tokenizer.id_to_token(int(i))) for i in ids]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    whole, parts = path / "tokenizer.json", [path / "vocab.json", path / "merges.txt"]
    if whole.is_file():
        return [whole]
    if all(part.is_file() for part in parts):
        return parts
    raise FileNotFoundError(f"{path}: no tokenizer.json, and no vocab.json with merges.txt")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"No tokenizer at {path}.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_LONGEST + 1)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    if len(data) > _LONGEST:
        raise ValueError(f"{path} holds more than {_LONGEST} bytes, which no tokenizer does")
    return data


def _make(files: list[Path], data: list[bytes]):
    import tokenizers

    if files[0].name.endswith("tokenizer.json"):
        return tokenizers.Tokenizer.from_str(data[0].decode())
    # The first line says which version.
    lines = [line.split() for line in data[-1].decode().split("\n")[1 : _MERGES + 1]]
    merges = [(one, two) for one, two in filter(None, lines)]
    vocabulary = _vocabulary(merges) if len(data) == 1 else json.loads(data[0])
    return _assemble(vocabulary, merges)


def _assemble(vocabulary: dict[str, int], merges: list[tuple[str, str]]):
    """The tokenizer as Hugging Face assembles it of its parts."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    model = models.BPE(
        vocab=vocabulary,
        merges=merges,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        unk_token=END,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    marks = [AddedToken(mark, normalized=False, special=True) for mark in (START, END)]
    tokenizer.add_special_tokens(marks)
    return tokenizer


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Numbers in CLIP's order: bytes, bytes that end a word, merges, both marks.

    A byte that prints stands for itself, the others for letters from 256 on.
    """
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printing)
    letters = [chr(code) for code in (*printing, *range(256, 256 + others))]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [one + two for one, two in merges]
    return {piece: number for number, piece in enumerate([*pieces, START, END])}
