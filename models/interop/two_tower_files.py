"""CLIP and SigLIP out of safetensors, as Hugging Face's transformers or open_clip wrote them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from ..two_tower_config import TwoTowerConfig
from . import hugging_face, open_clip
from .errors import WeightsError
from .tensors import check_shapes, read_arrays, read_shapes
from .torch_arrays import Source, Table
from .two_tower_shapes import Shapes, check_heads

_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")
_SCALE, _BIAS = "logit_scale", "logit_bias"


def read_two_tower(path: Path | str) -> tuple[TwoTowerConfig, dict[str, np.ndarray]]:
    """A CLIP's or a SigLIP's config and parameters, for `TwoTower`.

    Which model and whose layout it is, its names tell. Names, shapes and types are held
    against each other and the settings beside them before arrays are read.

    Args:
        path: a folder with `model.safetensors` and `config.json` (transformers) or
            `open_clip_model.safetensors` and `open_clip_config.json` (open_clip), the former where
            there are both; or one such file of weights beside its settings.

    Returns:
        The config, and float32 arrays by name, the tree's path joined by `/`; SigLIP's
        `sigmoid_bias` among them.

    Raises:
        WeightsError: there is no such file; it is damaged, no such model, or not all of one.
    """
    path = _weights(Path(path))
    shapes = read_shapes(path, ignored=hugging_face.IGNORED)
    config, table = recognised(shapes, path)
    found = read_arrays(path, ignored=hugging_face.IGNORED)
    arrays = {ours: source.convert(found[source.name]) for ours, source in table.items()}
    # CLIP trains below a scale of 100, SigLIP without a bound. Rounding may lead just above.
    free = not float(arrays["log_scale"]) <= math.log(100) + 1e-3
    if free or "sigmoid_bias" in arrays:
        config = dataclasses.replace(config, max_scale=None)
    return config, arrays


def _weights(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _WEIGHTS:
        if (path / name).exists():
            return path / name
    names = sorted(one.name[:80] for one in path.iterdir())
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    parts = [name for name in names if name.endswith((".safetensors", ".safetensors.index.json"))]
    why = ""
    if parts:
        why = f"; {', '.join(parts[:3])} is not read: join the shards into one model.safetensors"
    elif pickles:
        why = f"; {pickles[0]} may run code when loaded, and is not read: save it as safetensors"
    raise WeightsError(f"{path}: no {' and no '.join(_WEIGHTS)} in it{why}")


def recognised(shapes: Shapes, path: Path) -> tuple[TwoTowerConfig, Table]:
    """The model that these shapes, and the settings beside the file, make; of each of our
    parameters, its source.

    Raises:
        WeightsError: they make none, or are not exactly its own.
    """
    config, table = _model(shapes, path)
    for name in (_SCALE, _BIAS):
        if name == _SCALE or name in shapes:
            _check_scalar(shapes, name, path)
            ours = "log_scale" if name == _SCALE else "sigmoid_bias"
            table[ours] = Source(name, tuple(shapes[name]), lambda a: a.reshape(()))
    check_shapes({source.name: source.shape for source in table.values()}, shapes, str(path), {})
    return config, table


def _model(shapes: Shapes, path: Path) -> tuple[TwoTowerConfig, Table]:
    if hugging_face.MARK in shapes:
        config = hugging_face.hugging_face_config(shapes, path.parent)
        check_heads(config, str(path))
        return config, hugging_face.hugging_face_table(config)
    if open_clip.CLIP_MARK in shapes or open_clip.SIGLIP_MARK in shapes:
        config = open_clip.open_clip_config(shapes, path.parent)
        check_heads(config, str(path))
        return config, open_clip.open_clip_table(config, shapes)
    some = [name[:80] for name in sorted(shapes)[:3]]
    raise WeightsError(
        f"{path}: neither a CLIP nor a SigLIP of transformers or open_clip, none of {MARKS} is "
        f"in it (it begins with {some})"
    )


MARKS = (hugging_face.MARK, open_clip.CLIP_MARK, open_clip.SIGLIP_MARK)


def _check_scalar(shapes: Shapes, name: str, path: Path) -> None:
    if name not in shapes or shapes[name] not in ((), (1,)):
        found = shapes.get(name, "missing")
        raise WeightsError(f"{path}: {name} is {found}, expected a scalar")
