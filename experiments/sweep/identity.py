"""When two runs are the same: their configs are, and the weights that they begin with."""

from __future__ import annotations

import hashlib

from ..config import Experiment, kind_of
from ..config_files import fingerprint
from ..files import canonical_json


def config_hash(config: Experiment, base: str | None = None, upcycled: bool = False) -> str:
    """12 hex digits of what a run's numbers depend on; how its steps are executed is not in it.

    Args:
        config: of the run.
        base: hash of the run whose weights it begins with, which stands for `config.init`, since
            folders may move.
        upcycled: those weights were grown into a sparse model.

    Examples:
        >>> from byways.experiments.presets import preset
        >>> import dataclasses
        >>> config = preset("limoe_tiny")
        >>> other = dataclasses.replace(config, execution="auto")
        >>> len(config_hash(config)), config_hash(other) == config_hash(config)
        (12, True)
    """
    found = {"kind": kind_of(config), **fingerprint(config)}
    if base is not None:
        found["init"] = [base, "upcycled" if upcycled else "as it is"]
    return hashlib.sha256(canonical_json(found)).hexdigest()[:12]
