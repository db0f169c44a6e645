"""The training stream of a run, with what a run adds: its own tokenizer and its counters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import DataConfig, RecordError, Tokenizer, TrainStream, make_train_stream
from .config import ExperimentConfig
from .errors import ConfigError, RunError
from .run_folder import RunFolder


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


def run_data_config(config: ExperimentConfig, tokenizer: Path) -> DataConfig:
    """The run's data with the run's own copy of the tokenizer."""
    return dataclasses.replace(config.data, tokenizer=str(tokenizer))


def open_training_data(config: ExperimentConfig, run: RunFolder) -> TrainingData:
    """Opens the data of a run and copies its tokenizer into the folder.

    Raises:
        ConfigError: the tokenizer's pieces are not the model's.
        RunError: the data is missing or damaged; says which file.
    """
    try:
        tokenizer = Tokenizer(config.data.tokenizer)
        if tokenizer.vocab_size != config.model.vocab_size:
            raise ConfigError(
                [
                    f"model.vocab_size={config.model.vocab_size}, but the tokenizer "
                    f"{tokenizer.path.name} has {tokenizer.vocab_size} pieces: set "
                    f"--model.vocab-size {tokenizer.vocab_size}"
                ]
            )
        copy = run.adopt_tokenizer(tokenizer.path)
        stream = make_train_stream(
            run_data_config(config, copy), config.batch_size, config.seed, config.model.image_size
        )
    except (RecordError, FileNotFoundError) as error:
        raise RunError(str(error)) from error
    return TrainingData(stream)
