"""A preset with the model of a folder: its sizes need not be said again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .errors import UsageError


def with_model_of(base: Any, folder: str | None) -> Any:
    """The preset with the model of a run or of a model's folder; unchanged where there is none.

    Raises:
        UsageError: the model there is of another kind.
        RunError, ConfigError, WeightsError: there is none, or it is damaged.
    """
    if folder is None:
        return base
    # Imports JAX, so only where a folder was named.
    from .sources import find_source

    model = find_source(Path(folder)).config
    if type(model) is not type(base.model):
        raise UsageError(
            f"--model-from {folder}: a {type(model).__name__} is there, and this preset trains a "
            f"{type(base.model).__name__}; choose a preset of that kind"
        )
    found = dataclasses.replace(base, model=model)
    if hasattr(base.data, "text_length"):
        data = dataclasses.replace(base.data, text_length=model.text_length)
        found = dataclasses.replace(found, data=data)
    return found
