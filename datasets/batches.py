"""Training batches as a function of their number: the whole of the randomness is (seed, index).

That makes resuming exact and trivial, whatever threads or processes read ahead.
"""

from __future__ import annotations

import sys

import numpy as np

from .augment import Sprites, augment
from .captions import draw_caption, may_mirror, names_a_side, training_concepts
from .config import DataConfig
from .examples import Examples
from .records import RecordError, check_trainable
from .scenes import Scenes
from .tokenizer import Tokenizer

Batch = dict[str, np.ndarray]


class TrainBatches:
    """Batch number i of an endless training stream is `batches[i]`.

    The concepts of a batch are distinct, while there are enough of them: an epoch goes
    through a new permutation of the concepts, and a batch that would straddle two epochs is left
    out. Each concept gives a random drawing among its training artists'. Scenes, where
    `config.scenes_share` asks for some, come last in the batch.

    Args:
        examples: the data set; only its `train` split is drawn from.
        tokenizer: of the captions.
        config: captions, augmentation, share of scenes.
        batch_size: B.
        seed: of the stream.

    Raises:
        RecordError: no training rows.
        ValueError: a batch size or share out of range.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: Tokenizer,
        config: DataConfig,
        batch_size: int,
        seed: int = 0,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, and must be at least 1.")
        if not 0 <= config.scenes_share <= 1:
            raise ValueError(f"scenes_share is {config.scenes_share}, and must lie in [0, 1].")
        check_trainable(examples.split.tolist())
        self._tokenizer, self._config, self._seed = tokenizer, config, seed
        share = 1.0 if config.name == "emoji_scenes" else config.scenes_share
        self._scenes_each = round(batch_size * share)
        self._plain_each = batch_size - self._scenes_each
        self._scenes = Scenes(examples, seed) if self._scenes_each else None
        self._table = training_concepts(examples.concepts)
        train = [
            row
            for row in examples.rows("train")
            if (c := self._table[examples.concept[row]]) is not None
            and (c.is_object or not config.objects_only)
        ]
        if not train:
            raise RecordError("There is no row to train on in the split `train`.")
        rows = np.array(train, np.int64)
        order = np.argsort(examples.concept[rows], kind="stable")
        self._rows = rows[order]
        self._concepts, self._first, self._many = np.unique(
            examples.concept[self._rows], return_index=True, return_counts=True
        )
        self._mirror = np.array([c is not None and may_mirror(c) for c in self._table])
        self._free_text = np.array([c is not None and not c.code for c in self._table])
        self._sprites = Sprites(examples.rgba)
        self._batches_an_epoch = max(1, len(self._concepts) // max(1, self._plain_each))

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`: `image` (B,S,S,3) uint8, `text` (B,N_t) int32, `text_mask` (B,N_t) bool,
        `mask` (B,) bool, `id` (B,) int64, `concept` (B,) int32 and `cut` () int64, the number
        of texts that were cut. Scenes have concept -1 and the id -1 - their number.
        """
        rng = np.random.default_rng([self._seed, 1, index])
        ids, concepts = self._choose(index, rng)
        captions = self._say(concepts, rng)
        images = self._draw(ids, concepts, captions, rng)
        if self._scenes is not None:
            first = index * self._scenes_each
            scenes = [self._scenes[first + i] for i in range(self._scenes_each)]
            images = np.concatenate([images, np.stack([s.image for s in scenes])])
            captions += [s.caption for s in scenes]
            ids = np.concatenate([ids, -1 - (first + np.arange(len(scenes)))])
            concepts = np.concatenate([concepts, np.full(len(scenes), -1)])
        text, text_mask, cut = self._tokenizer.encode_counting(captions, self._config.text_length)
        return {
            "image": images,
            "text": text,
            "text_mask": text_mask,
            "mask": np.ones(len(images), bool),
            "id": ids.astype(np.int64),
            "concept": concepts.astype(np.int32),
            "cut": np.array(cut, np.int64),
        }

    def captions(self, index: int) -> list[str]:
        """The captions of batch `index`, before they are tokenised."""
        rng = np.random.default_rng([self._seed, 1, index])
        captions = self._say(self._choose(index, rng)[1], rng)
        if self._scenes is not None:
            first = index * self._scenes_each
            captions += [self._scenes[first + i].caption for i in range(self._scenes_each)]
        return captions

    def _choose(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of rows and of their concepts."""
        picks = self._picks(index)
        which = (rng.random(len(picks)) * self._many[picks]).astype(np.int64)
        return self._rows[self._first[picks] + which], self._concepts[picks]

    def _say(self, concepts: np.ndarray, rng: np.random.Generator) -> list[str]:
        captions = []
        for number in concepts:
            concept = self._table[number]
            assert concept is not None  # __init__ takes rows of seen concepts alone
            captions.append(draw_caption(concept, rng, self._config.label_share))
        return captions

    def _draw(
        self,
        rows: np.ndarray,
        concepts: np.ndarray,
        captions: list[str],
        rng: np.random.Generator,
    ) -> np.ndarray:
        mirror = self._mirror[concepts]
        for i in np.flatnonzero(mirror & self._free_text[concepts]):
            mirror[i] = not names_a_side(captions[i])
        side = self._sprites.side
        return augment(self._sprites[rows], side, mirror, self._config.augment, rng)

    def _picks(self, index: int) -> np.ndarray:
        epoch, part = divmod(index, self._batches_an_epoch)
        order = np.random.default_rng([self._seed, 2, epoch]).permutation(len(self._concepts))
        picks = order[part * self._plain_each : (part + 1) * self._plain_each]
        # More rows than concepts: go round again.
        return np.resize(picks, self._plain_each) if len(picks) else picks
