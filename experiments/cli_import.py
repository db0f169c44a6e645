"""`byways import` and `byways upcycle`: folders of weights out of other weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from ..models.config import MoeConfig
from .cli_options import parse
from .config_files import flatten
from .errors import ConfigError, UsageError
from .files import check_new
from .validate_ranges import range_problems


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """Read a published V-MoE checkpoint and write it as model.safetensors and config.json.

    Attributes:
        prefix: path of the checkpoint's files without `.index`.
        out: the folder to write; must not exist.
    """

    prefix: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]


def import_vmoe(arguments: Sequence[str]) -> int:
    """`byways import vmoe PREFIX OUT`"""
    options = parse(ImportOptions, arguments, "byways import vmoe")

    check_new(options.out)

    from ..models import read_vmoe_checkpoint, save_model, vmoe_config_of

    arrays = read_vmoe_checkpoint(options.prefix)
    config = vmoe_config_of({name: value.shape for name, value in arrays.items()})
    save_model(options.out, "vmoe", config, arrays)
    count = sum(value.size for value in arrays.values())
    kind = "dense"
    if config.moe_layers:
        kind = f"{len(config.moe_layers)} of them with {config.moe.num_experts} experts"
    print(
        f"{options.out}: {count / 1e6:.1f} M parameters in {len(arrays)} arrays; {config.depth} "
        f"blocks of width {config.width}, {kind}; {config.image_size} px, {config.num_classes} "
        "classes"
    )
    return 0


@dataclasses.dataclass(frozen=True)
class ImportClipOptions:
    """Read a CLIP or a SigLIP, in transformers' or open_clip's layout, and write two towers.

    The tokenizer that lies beside it comes along.

    Attributes:
        path: a folder with weights (safetensors) and settings (JSON), or its file of weights.
        out: the folder to write; must not exist.
    """

    path: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]


def import_clip(arguments: Sequence[str]) -> int:
    """`byways import clip PATH OUT`"""
    options = parse(ImportClipOptions, arguments, "byways import clip")

    check_new(options.out)

    from ..models import read_two_tower, save_model

    config, arrays = read_two_tower(options.path)
    folder = options.path if options.path.is_dir() else options.path.parent
    names = ("tokenizer.json", "vocab.json", "merges.txt")
    if not config.text.causal:
        names = ("spiece.model", "tokenizer.json")
    beside = {name: folder / name for name in names if (folder / name).is_file()}
    save_model(options.out, "two_tower", config, arrays, beside=beside)
    count = sum(value.size for value in arrays.values())
    image, text = config.image, config.text
    print(
        f"{options.out}: {count / 1e6:.1f} M parameters in {len(arrays)} arrays; images of "
        f"{image.image_size} px by {image.depth} blocks of width {image.width}, texts of "
        f"{text.text_length} pieces by {text.depth} of {text.width}; "
        f"tokenizer: {', '.join(beside) or 'none'}"
    )
    return 0


@dataclasses.dataclass(frozen=True)
class UpcycleOptions:
    """Grow a sparse model: each expert of a sparse block begins as the dense block's MLP.

    Attributes:
        folder: of a dense V-MoE (ViT), LIMoE or two towers: model.safetensors and config.json
            (`byways export RUN FOLDER` makes one of a run).
        out: the folder to write; must not exist.
        moe: the sparse blocks.
        noise: added to the experts' kernels, in units of each kernel's standard deviation.
        seed: of the routers and the noise.
        towers: which of two towers grow.
    """

    folder: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    moe: MoeConfig = MoeConfig()  # noqa: RUF009 (frozen)
    noise: float = 0.0
    seed: int = 0
    towers: Literal["both", "image", "text"] = "both"


def upcycle(arguments: Sequence[str]) -> int:
    """`byways upcycle FOLDER OUT [--moe.key value …]`"""
    options = parse(UpcycleOptions, arguments, "byways upcycle")

    check_new(options.out)
    ranges = range_problems(flatten({"model": {"moe": dataclasses.asdict(options.moe)}}))
    if ranges:
        raise ConfigError([one.replace("model.moe.", "--moe.", 1) for one in ranges.values()])

    import jax

    from ..models import load_model, parameter_shapes, save_model, upcycle_model

    dense = load_model(options.folder)
    key = jax.random.key(options.seed)
    try:
        grown = upcycle_model(dense, options.moe, key, noise=options.noise, towers=options.towers)
    except ValueError as error:
        raise UsageError(f"{options.folder}: {error}") from error
    save_model(options.out, grown.kind, grown.config, grown.params)
    before, after = (parameter_shapes(one.kind, one.config) for one in (dense, grown))
    sparse = sum(name.endswith("Moe/Router/dense/kernel") for name in after.keys() - before)
    counts = [sum(map(math.prod, shapes.values())) / 1e6 for shapes in (before, after)]
    print(
        f"{options.out}: {options.moe.num_experts} experts in each of {sparse} blocks; "
        f"{counts[0]:.2f} M parameters became {counts[1]:.2f} M"
    )
    return 0
