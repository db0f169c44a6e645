"""A model to use, wherever it is: in a run's folder or in a model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..models import LoadedModel, load_model, model_kind, read_model_config
from .config import Experiment, kind_of
from .errors import RunError, UsageError
from .library import read_run
from .run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a model is; its parameters are not read yet.

    Attributes:
        folder: of the run or the model.
        kind: of the model, a key of `MODEL_KINDS`.
        config: of the model.
        experiment: the run's config; None of a model's folder.
    """

    folder: Path
    kind: str
    config: Any
    experiment: Experiment | None

    @property
    def words(self) -> str:
        """What it is, for messages."""
        if self.experiment is None:
            return f"{self.folder} is a {self.kind} folder"
        return f"{self.folder} is a run of {kind_of(self.experiment)} ({self.kind})"

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer that lies beside the parameters."""
        file = RunFolder(self.folder).tokenizer_file
        return file if file.is_file() else None

    def load(self) -> LoadedModel:
        """The parameters, of a run those of its newest whole checkpoint.

        Raises:
            CheckpointError, WeightsError: there are none, or they are damaged.
        """
        if self.experiment is None:
            return load_model(self.folder)
        return LoadedModel(self.kind, self.config, read_run(self.folder).params)


def find_source(folder: Path) -> Source:
    """What a folder holds.

    Raises:
        RunError, ConfigError, WeightsError: neither a run nor a model, or one that is damaged.
    """
    if (folder / "model.safetensors").exists():
        kind, config = read_model_config(folder)
        return Source(folder, kind, config, None)
    if not (folder / "config.json").exists():
        here = "has no config.json" if folder.is_dir() else "does not exist"
        raise RunError(
            f"{folder} {here}: it is neither a run's folder (`byways train` makes one) nor a "
            "model's (`byways export` and `byways import` do)"
        )
    experiment, _ = RunFolder(folder).read()
    return Source(folder, model_kind(experiment.model), experiment.model, experiment)


def unfit(source: Source, why: str, instead: str) -> UsageError:
    """The error of a model of a kind that a command cannot serve.

    Args:
        source: what was given.
        why: what it lacks, after "which".
        instead: what would do.
    """
    return UsageError(f"{source.words}, which {why}: {instead}")
