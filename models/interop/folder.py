"""A model's folder: `model.safetensors`, flat names, and `config.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import tempfile
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from ..config import MoeConfig
from ..vmoe import Vmoe
from ..vmoe_config import VmoeConfig
from .errors import WeightsError

FORMAT = 1
_NUMPY = {"F64": "float64", "F32": "float32", "F16": "float16", "I32": "int32", "I64": "int64"}


def save_vmoe(folder: Path | str, config: VmoeConfig, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the folder whole or not at all.

    Args:
        folder: must not exist yet.
        config: of the model.
        arrays: by name, the tree's path joined by `/`.

    Raises:
        WeightsError: the folder exists; the arrays are not the config's parameters.
    """
    folder = Path(folder)
    if folder.exists():
        raise WeightsError(f"{folder} exists: name another folder, or remove it")
    check_parameters(config, {name: value.shape for name, value in arrays.items()}, "the arrays")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # Contiguous copies: safetensors writes the memory as it lies.
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(value) for name, value in arrays.items()},
            work / "model.safetensors",
        )
        described = {"format": FORMAT, "model": "vmoe", "config": dataclasses.asdict(config)}
        (work / "config.json").write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        work.chmod(0o755)
        os.rename(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def load_vmoe(folder: Path | str) -> tuple[VmoeConfig, dict[str, Any]]:
    """The config and the parameters, a nested dict for `Vmoe(config).apply({"params": ...})`.

    Names, shapes and types are held against the config before any array is read.

    Raises:
        WeightsError: not such a folder, or damaged.
    """
    folder = Path(folder)
    config = _read_config(folder / "config.json")
    path = folder / "model.safetensors"
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            parts = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            check_parameters(config, shapes, str(path))
            for name, part in parts.items():
                if part.get_dtype() not in _NUMPY:
                    raise WeightsError(f"{path}: {name} has type {part.get_dtype()}")
            arrays = {name: file.get_tensor(name) for name in names}
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    return config, unflatten_dict(arrays, sep="/")


def check_parameters(config: VmoeConfig, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise WeightsError unless these are the names and shapes of the config's parameters."""
    expected = parameter_shapes(config)
    missing, extra = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    if missing or extra:
        raise WeightsError(
            f"{where}: not the parameters of this config (missing: {missing[:3]}, "
            f"unexpected: {[name[:80] for name in extra[:3]]})"
        )
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise WeightsError(f"{where}: {name} has shape {shapes[name]}, expected {shape}")


def parameter_shapes(config: VmoeConfig) -> dict[str, tuple[int, ...]]:
    """By name, allocating nothing."""
    side = config.image_size
    # A capacity, for its path is quicker to trace; the parameters are the same.
    moe = dataclasses.replace(config.moe, eval_capacity_factor=float(config.moe.num_experts))
    model = Vmoe(dataclasses.replace(config, moe=moe))
    blank = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    tree = jax.eval_shape(model.init, jax.random.key(0), blank)["params"]
    flat: dict[str, Any] = flatten_dict(tree, sep="/")  # pyright: ignore
    return {name: leaf.shape for name, leaf in flat.items()}


def _read_config(path: Path) -> VmoeConfig:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("model") != "vmoe":
        raise WeightsError(f"{path}: no config of a V-MoE in format {FORMAT}")
    values = dict(found.get("config") or {})
    try:
        moe = _typed(MoeConfig, values.pop("moe"), path)
        config = _typed(VmoeConfig, values, path)
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from error
    sizes = (config.image_size, config.width, config.hidden, config.depth, config.heads)
    if min(*sizes, config.patch_size) < 1 or math.prod(sizes) >= 2**63:
        raise WeightsError(f"{path}: sizes {sizes} make no model")
    if config.width % config.heads or config.image_size % config.patch_size:
        raise WeightsError(f"{path}: heads or patches do not divide the width or the image")
    return dataclasses.replace(config, moe=moe)


def _typed(kind: type, values: Any, path: Path):
    """A config dataclass out of JSON, each value of the type that its field has."""
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: {kind.__name__} is no object")
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise WeightsError(f"{path}: {kind.__name__} has no {name[:80]!r}")
        hint = hints[name]
        options = typing.get_args(hint) if typing.get_origin(hint) is not type else ()
        literal = typing.get_origin(hint) is typing.Literal
        allowed = options if literal else (options or (hint,))
        good = value in allowed if literal else _is_one_of(value, allowed)
        if not good:
            raise WeightsError(f"{path}: {name} is {str(value)[:80]!r}, expected {hint}")
    return kind(**values)


def _is_one_of(value: Any, kinds: tuple) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and float in kinds:
        return True
    return any(isinstance(kind, type) and isinstance(value, kind) for kind in kinds)
