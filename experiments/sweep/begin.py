"""The weights that a run begins with: another's, or a sparse model grown out of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..config import Experiment
from ..errors import RunError
from ..run_folder import RunFolder
from .plan import Plan, PlannedRun
from .status import is_trained


def config_to_train(plan: Plan, run: PlannedRun) -> Experiment:
    """The config that `train` gets, once all that the run begins with is there.

    Raises:
        RunError: the run that it begins with is not trained yet.
        ValueError, WeightsError: its model cannot grow into this run's.
    """
    config = plan.config_of(run)
    if run.begins_with is None:
        return config
    base = plan.run(run.begins_with)
    if not is_trained(plan, base):
        raise RunError(
            f"run '{run.name}' begins with '{base.name}', which is not trained yet; run that first"
        )
    if run.upcycled and not plan.grown(run).exists():
        _grow(plan, run, base)
    started = RunFolder(plan.folder_of(run))
    if started.config_file.is_file():
        # Named otherwise where the sweep's folder was moved, or is called from elsewhere; what
        # it began with is in its checkpoint.
        old, _ = started.read()
        if len(old.init) == 1:
            config = dataclasses.replace(config, init=old.init)
    return config


def _grow(plan: Plan, run: PlannedRun, base: PlannedRun) -> None:
    import jax

    from ..export import save_exported
    from ..library import read_run

    folder = plan.folder_of(base)
    grown = grown_model(read_run(folder), run.config.model, jax.random.key(run.config.seed))
    save_exported(grown, plan.grown(run), folder)


def grown_model(trained: Any, model: Any, key: Any) -> Any:
    """A dense run's parameters as those of a sparse model.

    Args:
        trained: as `read_run` gives it.
        model: config of the sparse model; of two towers each may be sparse.
        key: of the routers.

    Raises:
        ValueError: as `upcycle_model`.
    """
    from ...models import LoadedModel, TwoTowerConfig, model_kind, upcycle_model
    from ...models.config import sparse_blocks

    config = trained.config.model
    dense = LoadedModel(model_kind(config), config, trained.params)
    if not isinstance(model, TwoTowerConfig):
        return upcycle_model(dense, model.moe, key)
    for name in ("image", "text"):
        tower = getattr(model, name)
        if sparse_blocks(tower.moe, tower.depth):
            dense = upcycle_model(dense, tower.moe, key, towers=name)
    return dense
