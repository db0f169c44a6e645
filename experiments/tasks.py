"""The table of tasks: from a config to what the trainer runs."""

from __future__ import annotations

from .classification import classification_task
from .config import ClassificationConfig, ContrastiveConfig, Experiment, LanguageConfig
from .contrastive import contrastive_task
from .language import language_task
from .task import Task


def task_of(config: Experiment) -> Task:
    """The task of an experiment.

    Raises:
        TypeError: a kind of config that has none.
    """
    if isinstance(config, ContrastiveConfig):
        return contrastive_task(config)
    if isinstance(config, ClassificationConfig):
        return classification_task(config)
    if isinstance(config, LanguageConfig):
        return language_task(config)
    raise TypeError(f"{type(config).__name__} is no kind of experiment that can be trained")
