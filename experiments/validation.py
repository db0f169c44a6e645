"""Scores on the validation split, during training: what settings are chosen by."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax

from .config import ClassificationConfig, ContrastiveConfig, Experiment, LanguageConfig
from .run_folder import RunFolder


@runtime_checkable
class Validation(Protocol):
    """Scores parameters; what it compiles serves every call."""

    # The score that the best checkpoints are kept by, the larger the better.
    headline: str

    def scores(self, params: Any) -> dict[str, float]:
        """By name; none where the data has no validation split."""
        ...


def validation_of(config: Experiment, run: RunFolder) -> Validation:
    """The validation of a kind of experiment; dropless, without noise."""
    if isinstance(config, ContrastiveConfig):
        from .validation_contrastive import ContrastiveValidation

        return ContrastiveValidation(config, run.tokenizer_file)
    if isinstance(config, ClassificationConfig):
        from .validation_classes import ClassValidation

        return ClassValidation(config)
    if isinstance(config, LanguageConfig):
        from .validation_language import LanguageValidation

        return LanguageValidation(config, run.tokenizer_file)
    raise TypeError(f"{type(config).__name__} has no validation")


def on_one_device(params: Any) -> Any:
    """The parameters on the first device: some hundred rows gain nothing from more."""
    return jax.device_put(jax.device_get(params), jax.local_devices()[0])
