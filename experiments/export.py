"""A run's parameters as a model's folder."""

from __future__ import annotations

from pathlib import Path

from ..models import LoadedModel, model_kind, save_model
from .library import read_run
from .run_folder import RunFolder


def export_run(run: str | Path, out: str | Path, step: int | None = None) -> LoadedModel:
    """Writes the parameters of a run of any kind as a model's folder, its tokenizer beside them.

    Args:
        run: the run folder.
        out: the folder to write; must not exist. `byways.models.load_model` reads it.
        step: which checkpoint; None is the newest whole one.

    Raises:
        RunError, CheckpointError: as `load`.
        WeightsError: `out` exists.
    """
    read = read_run(run, step)
    config = read.config.model
    model = LoadedModel(model_kind(config), config, read.params)
    save_exported(model, out, read.folder)
    return model


def save_exported(model: LoadedModel, out: str | Path, run: Path) -> None:
    """Writes a model's folder, with the tokenizer of the run where it has one."""
    tokenizer = RunFolder(run).tokenizer_file
    beside = {tokenizer.name: tokenizer} if tokenizer.is_file() else {}
    save_model(out, model.kind, model.config, model.params, beside=beside)
