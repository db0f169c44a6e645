"""Images and texts to embeddings, whatever the model: a run, our folder, or an imported CLIP."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ...datasets import Batch, ClipTokenizer, SiglipTokenizer, Tokenizer
from ...models import LoadedModel, TwoTowerConfig
from ..config import Execution
from ..errors import RunError
from ..forward import Forward, Placed, in_flight
from ..library import image_embedding, text_embedding
from ..sources import Source, unfit

# Texts that go through the model at once.
_TEXTS = 64


@runtime_checkable
class TextTokenizer(Protocol):
    """What turns text into a tower's pieces."""

    vocab_size: int
    fingerprint: str
    cut: int

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, N_t) int32 ids and (n, N_t) bool, which are real."""
        ...


class Embedder:
    """A model of images and texts, ready to embed; dropless, padding is never routed.

    Args:
        model: a limoe or two_tower, or the images' part of one.
        tokenizer: of its texts; None where only images are embedded.
        execution: how it runs.

    Attributes:
        image_size: S.
        tokenizer: as given.
    """

    def __init__(
        self, model: LoadedModel, tokenizer: TextTokenizer | None, execution: Execution = "fused"
    ):
        self._model = model
        self._execution: Execution = execution
        self.tokenizer = tokenizer
        self.image_size: int = model.config.image_size

    @functools.cached_property
    def _placed(self) -> Placed:
        return Placed(self._model.params)

    @functools.cached_property
    def _images(self) -> Forward:
        return Forward(image_embedding, self._model.config, self._placed, self._execution)

    @functools.cached_property
    def _texts(self) -> Forward:
        return Forward(text_embedding, self._model.config, self._placed, self._execution)

    def images(self, batches: Iterable[Batch]) -> Iterator[Float[np.ndarray, "n F"]]:
        """The embeddings of each batch's real images, of length one.

        Args:
            batches: each with `image` (B,S,S,3) uint8 and `mask` (B,) bool.
        """
        run = self._images
        for batch, found in in_flight(lambda b: run(b["image"], b["mask"]), batches):
            yield np.asarray(found)[np.asarray(batch["mask"], bool)]

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "P F"]:
        """Embeddings of texts, of length one; one longer than N_t pieces is cut, and counted.

        Raises:
            RunError: there is no tokenizer.
            ValueError: a text without pieces.
        """
        if self.tokenizer is None:
            raise RunError("this model was opened without a tokenizer: it embeds images alone")
        ids, real = self.tokenizer.encode(list(texts), self._model.config.text_length)
        empty = np.flatnonzero(~real.any(axis=1))
        if len(empty):
            raise ValueError(f"text {empty[0]} is {texts[empty[0]]!r}, which has no pieces")

        def batches() -> Iterator[tuple[int, Any, Any, Any]]:
            for start in range(0, len(ids), _TEXTS):
                part = slice(start, start + _TEXTS)
                many = len(ids[part])
                # One shape, so that one program serves any number.
                wide = ((0, _TEXTS - many), (0, 0))
                mask = np.arange(_TEXTS) < many
                yield many, np.pad(ids[part], wide), np.pad(real[part], wide), mask

        run = self._texts
        found = in_flight(lambda batch: run(*batch[1:]), batches())
        return np.concatenate([np.asarray(rows)[: batch[0]] for batch, rows in found])


def check_images(source: Source) -> None:
    """Raises UsageError where a model reads no images."""
    if source.kind == "palm" or source.kind.endswith("_text"):
        raise unfit(
            source,
            "reads no images",
            "score takes a classification or contrastive run, or the folder of a vmoe, a limoe or "
            "a two_tower (an imported CLIP or SigLIP is one)",
        )


def check_pairs(source: Source) -> None:
    """Raises UsageError where a model does not read images and texts both."""
    check_images(source)
    if source.kind not in ("limoe", "two_tower"):
        raise unfit(
            source,
            "reads no texts",
            "zero-shot and retrieval take a contrastive run, or the folder of a whole limoe or "
            "two_tower; of images alone there are --task few-shot and --task linear-probe",
        )


def open_tokenizer(source: Source, path: Path | None = None) -> TextTokenizer:
    """The tokenizer of a model's texts: the one named, or the one beside its parameters.

    A run's, or that of a folder which `byways export` made, is `tokenizer.model`. CLIP's towers
    (causal) read `tokenizer.json`, or `vocab.json` with `merges.txt`; SigLIP's `spiece.model`, or
    SigLIP 2's `tokenizer.json`.

    Raises:
        RunError: there is none, it is damaged, or it has more pieces than the model knows.
    """
    found = path or _beside(source)
    if found is None:
        raise RunError(
            f"{source.folder} has no tokenizer ({', '.join(_names(source))}): put it there, or "
            "name it with --tokenizer"
        )
    try:
        made = _open(source, found)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise RunError(str(error)) from error
    if made.vocab_size > source.config.vocab_size:
        raise RunError(
            f"{found} has {made.vocab_size} pieces, but the model knows only "
            f"{source.config.vocab_size}: this is not its tokenizer"
        )
    return made


def _clip(source: Source) -> bool:
    return isinstance(source.config, TwoTowerConfig) and source.config.text.causal


def _siglip(source: Source) -> bool:
    return isinstance(source.config, TwoTowerConfig) and source.config.text.pool == "last"


def _names(source: Source) -> tuple[str, ...]:
    if source.experiment is not None:
        return ("tokenizer.model",)
    if _clip(source):
        return "tokenizer.json", "vocab.json", "tokenizer.model"
    return ("tokenizer.model", *(("spiece.model", "tokenizer.json") if _siglip(source) else ()))


def _beside(source: Source) -> Path | None:
    there = (source.folder / name for name in _names(source))
    found = next((path for path in there if path.is_file()), None)
    return found.parent if found is not None and found.name == "vocab.json" else found


def _open(source: Source, path: Path) -> TextTokenizer:
    if path.name == "tokenizer.model":  # the name that runs and exported folders give theirs
        return Tokenizer(path)
    if _clip(source):
        return ClipTokenizer(path)
    return SiglipTokenizer(path) if _siglip(source) else Tokenizer(path)
