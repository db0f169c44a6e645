"""The training stream of a run, with what a run adds: its own tokenizer and its counters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..datasets import (
    DataConfig,
    RecordError,
    TextDataConfig,
    Tokenizer,
    TrainStream,
    load_images,
    make_image_stream,
    make_text_stream,
    make_train_stream,
)
from .config import ClassificationConfig, ContrastiveConfig, Experiment, LanguageConfig
from .errors import ConfigError, RunError
from .run_folder import RunFolder

_Text = TypeVar("_Text", DataConfig, TextDataConfig)


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The endless batches of a run.

    Attributes:
        stream: of the data contract's batches.
    """

    stream: TrainStream

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.stream)

    def counts(self) -> dict[str, int]:
        """Texts cut to the limit so far, and rows left out because they could not be used."""
        return {"texts_cut": self.stream.cut, "rows_skipped": self.stream.skipped}

    def get_state(self) -> dict[str, Any]:
        """JSON-able position, for a checkpoint."""
        return self.stream.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called."""
        self.stream.set_state(state)


def with_tokenizer(data: _Text, tokenizer: Path) -> _Text:
    """The run's data with the run's own copy of the tokenizer."""
    return dataclasses.replace(data, tokenizer=str(tokenizer))


def run_data_config(config: ContrastiveConfig, tokenizer: Path) -> DataConfig:
    """The data of a contrastive run with the run's own copy of the tokenizer."""
    return with_tokenizer(config.data, tokenizer)


def open_training_data(config: Experiment, run: RunFolder) -> TrainingData:
    """Opens the data of a run and copies its tokenizer, where it has one, into the folder.

    Raises:
        ConfigError: the tokenizer's pieces, or the data's classes, are not the model's.
        RunError: the data or the tokenizer is missing or damaged; says which file.
    """
    try:
        if isinstance(config, ContrastiveConfig):
            stream = _pairs(config, run)
        elif isinstance(config, ClassificationConfig):
            stream = _labelled(config)
        elif isinstance(config, LanguageConfig):
            stream = _texts(config, run)
        else:
            raise TypeError(f"{type(config).__name__} has no data")
    except (RecordError, FileNotFoundError) as error:
        raise RunError(str(error)) from error
    return TrainingData(stream)


def _pairs(config: ContrastiveConfig, run: RunFolder) -> TrainStream:
    copy = _adopt_tokenizer(config.data.tokenizer, config.model.vocab_size, run)
    data = run_data_config(config, copy)
    return make_train_stream(data, config.batch_size, config.seed, config.model.image_size)


def _labelled(config: ClassificationConfig) -> TrainStream:
    side = config.model.image_size
    classes = load_images(config.data, side).classes
    if len(classes) != config.model.num_classes:
        raise ConfigError(
            [
                f"model.num_classes={config.model.num_classes}, but {config.data.name} has "
                f"{len(classes)} classes: set --model.num-classes {len(classes)}"
            ]
        )
    return make_image_stream(config.data, config.batch_size, config.seed, side)


def _texts(config: LanguageConfig, run: RunFolder) -> TrainStream:
    data, model = config.data, config.model
    if data.vocabulary == "pieces":
        data = with_tokenizer(data, _adopt_tokenizer(data.tokenizer, model.vocab_size, run))
    elif model.vocab_size != 256:
        raise ConfigError(
            [
                f"model.vocab_size={model.vocab_size}, but there are 256 bytes: set "
                "--model.vocab-size 256, or --data.vocabulary pieces"
            ]
        )
    return make_text_stream(data, config.batch_size, model.max_length, config.seed)


def _adopt_tokenizer(source: str | None, vocab_size: int, run: RunFolder) -> Path:
    try:
        tokenizer = Tokenizer(source)
    except ValueError as error:
        raise RunError(f"{error} Name one with --data.tokenizer") from error
    if tokenizer.vocab_size != vocab_size:
        raise ConfigError(
            [
                f"model.vocab_size={vocab_size}, but the tokenizer {tokenizer.path.name} has "
                f"{tokenizer.vocab_size} pieces: set --model.vocab-size {tokenizer.vocab_size}"
            ]
        )
    return run.adopt_tokenizer(tokenizer.path)
