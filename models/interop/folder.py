"""A model's folder: `model.safetensors`, flat names, and `config.json`."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ..config_json import config_from_json
from .errors import WeightsError
from .kinds import MODEL_KINDS, parameter_shapes
from .tensors import check_shapes, count_elements, read_arrays, read_shapes, write_arrays

FORMAT = 1
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_LONGEST_CONFIG = 2**20
# Nothing near these exists; above them a trace alone takes hours.
MOST_EXPERTS, _MOST_PATCHES = 2**14, 2**16


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """What a folder holds.

    Attributes:
        kind: a key of `MODEL_KINDS`.
        config: the kind's dataclass.
        params: nested dictionaries of float32 NumPy arrays, for
            `module.apply({"params": params}, …)`.
    """

    kind: str
    config: Any
    params: dict[str, Any]

    @functools.cached_property
    def module(self) -> Any:
        """The Flax module of the config."""
        return MODEL_KINDS[self.kind].make(self.config)


def save_model(
    folder: Path | str,
    kind: str,
    config: Any,
    arrays: Mapping[str, Any],
    *,
    beside: Mapping[str, Path] | None = None,
) -> None:
    """Writes the folder whole or not at all, and onto the disk.

    Args:
        folder: must not exist yet.
        kind: a key of `MODEL_KINDS`.
        config: of that kind.
        arrays: float32 parameters (float16 and bfloat16 stay what they are in the file), by name,
            the tree's path joined by `/`; or the tree itself.
        beside: further files to copy, by their names in the folder: a tokenizer.

    Raises:
        WeightsError: the folder exists, or cannot be written; the config is of another kind; the
            arrays are not the config's parameters.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise WeightsError(f"{folder} exists: name another folder, or remove it")
    wanted = MODEL_KINDS[_known_kind(kind, "kind")].config_class()
    if type(config) is not wanted:
        raise WeightsError(f"a {kind} has a {wanted.__name__}, not a {type(config).__name__}")
    named: dict[str, Any] = flatten_dict(dict(arrays), sep="/")  # pyright: ignore
    flat = {name: np.asarray(value) for name, value in named.items()}
    _check_arrays(kind, config, {name: value.shape for name, value in flat.items()}, "the arrays")
    for name, value in flat.items():
        if value.dtype.name not in ("float32", "float16", "bfloat16"):
            raise WeightsError(f"{name} is {value.dtype}; parameters are float32")
    described = {"format": FORMAT, "model": kind, "config": dataclasses.asdict(config)}
    try:
        _write(folder, flat, described, beside or {})
    except OSError as error:
        raise WeightsError(
            f"{folder}: cannot be written ({error.strerror or error}); nothing is left of it: make "
            "room, or name another folder"
        ) from error


def _write(folder: Path, flat: Mapping, described: Mapping, beside: Mapping[str, Path]) -> None:
    """Beside it first, then moved to its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write_arrays(work / _WEIGHTS, flat)
        (work / _CONFIG).write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        for name, source in beside.items():
            shutil.copyfile(source, work / name)
        # Bytes before names: a folder that is there after a power cut is whole.
        for path in (*work.iterdir(), work):
            path.chmod(0o755 if path == work else 0o644)  # made private, meant to be read by others
            _sync(path)
        os.rename(work, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def load_model(folder: Path | str) -> LoadedModel:
    """Reads a folder. Names, shapes, types and sizes are checked before an array is made.

    Whether numbers are finite, or any good, is not looked at.

    Raises:
        WeightsError: not such a folder, or damaged; the file is named.
    """
    folder = Path(folder)
    kind, config = read_model_config(folder)
    path = folder / _WEIGHTS
    shapes = read_shapes(path)
    _check_sizes(config, shapes, folder / _CONFIG)
    _check_arrays(kind, config, shapes, str(path))
    return LoadedModel(kind, config, unflatten_dict(read_arrays(path), sep="/"))


def read_model_config(folder: Path | str) -> tuple[str, Any]:
    """The kind and the config of a folder; the weights are not looked at.

    Raises:
        WeightsError: no config of a model, or one whose values are of other types.
    """
    path = Path(folder) / _CONFIG
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_CONFIG)
        found = json.loads(data)  # one that is longer is cut, and no JSON
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise WeightsError(f"{path}: no config of a model in format {FORMAT}")
    kind = _known_kind(found.get("model"), f"{path}: model")
    config, problems = config_from_json(MODEL_KINDS[kind].config_class(), found.get("config"))
    if problems:
        raise WeightsError(f"{path}: {'; '.join(problems[:5])}")
    return kind, config


def _known_kind(kind: Any, what: str) -> str:
    if not isinstance(kind, str) or kind not in MODEL_KINDS:
        raise WeightsError(
            f"{what} is {str(kind)[:80]!r}, expected one of {', '.join(MODEL_KINDS)}"
        )
    return kind


def _check_arrays(kind: str, config: Any, shapes: Mapping, where: str) -> None:
    try:
        expected = parameter_shapes(kind, config)
    except Exception as error:  # whatever a config of unknown origin makes a trace raise
        raise WeightsError(f"{where}: the config makes no {kind} ({error})") from error
    check_shapes(expected, shapes, where, MODEL_KINDS[kind].optional)


def _check_sizes(config: Any, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """What would make the trace of the model itself endless is refused by the size of the file."""
    elements = count_elements(shapes)

    def look(part: Any, name: str) -> None:
        for field in dataclasses.fields(part):
            value, where = getattr(part, field.name), f"{name}{field.name}"
            if dataclasses.is_dataclass(value):
                look(value, f"{where}.")
            elif isinstance(value, int) and not 0 <= value < 2**31:
                raise WeightsError(f"{path}: {where} is {str(value)[:30]}, which is no size")
        depth, side = getattr(part, "depth", 0), getattr(part, "image_size", 0)
        experts = getattr(part, "routed_experts", 0)
        if depth > len(shapes):
            raise WeightsError(f"{path}: {name}depth {depth} of {len(shapes)} arrays")
        if experts > min(elements, MOST_EXPERTS):
            raise WeightsError(f"{path}: {name}num_experts {experts} of {elements} parameters")
        if (side // max(getattr(part, "patch_size", 1), 1)) ** 2 > _MOST_PATCHES:
            raise WeightsError(f"{path}: {name}image_size {side} has too many patches")

    look(config, "")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
