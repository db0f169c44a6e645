"""`byways import` and `byways upcycle`: folders of weights out of other weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from ..models.config import MoeConfig
from .cli_options import parse
from .errors import UsageError


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

    from ..models import WeightsError, read_vmoe_checkpoint, save_vmoe, vmoe_config_of

    if options.out.exists():
        raise WeightsError(f"{options.out} exists: name another folder, or remove it")
    arrays = read_vmoe_checkpoint(options.prefix)
    config = vmoe_config_of({name: value.shape for name, value in arrays.items()})
    save_vmoe(options.out, config, arrays)
    count = sum(value.size for value in arrays.values())
    sparse = len(config.moe_layers)
    print(
        f"{options.out}: {count / 1e6:.1f} M parameters in {len(arrays)} arrays; {config.depth} "
        f"blocks of width {config.width}, {sparse} of them with {config.moe.num_experts} experts; "
        f"{config.image_size} px, {config.num_classes} classes"
        if sparse
        else f"{options.out}: {count / 1e6:.1f} M parameters in {len(arrays)} arrays; dense, "
        f"{config.depth} blocks of width {config.width}; {config.image_size} px, "
        f"{config.num_classes} classes"
    )
    return 0


@dataclasses.dataclass(frozen=True)
class UpcycleOptions:
    """Grow a V-MoE: each expert of a sparse block begins as the dense block's MLP.

    Attributes:
        folder: of a dense model: model.safetensors and config.json.
        out: the folder to write; must not exist.
        moe: the sparse blocks.
        noise: added to the experts' kernels, in units of each kernel's standard deviation.
        seed: of the routers and the noise.
    """

    folder: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    moe: MoeConfig = MoeConfig()  # noqa: RUF009 (frozen)
    noise: float = 0.0
    seed: int = 0


def upcycle(arguments: Sequence[str]) -> int:
    """`byways upcycle FOLDER OUT [--moe.key value …]`"""
    options = parse(UpcycleOptions, arguments, "byways upcycle")

    import jax
    import numpy as np

    from ..models import WeightsError, load_vmoe, save_vmoe, upcycle_vmoe

    if options.out.exists():
        raise WeightsError(f"{options.out} exists: name another folder, or remove it")
    dense, params = load_vmoe(options.folder)
    key = jax.random.key(options.seed)
    try:
        config, grown = upcycle_vmoe(dense, params, options.moe, key, noise=options.noise)
    except ValueError as error:
        raise UsageError(f"{options.folder}: {error}") from error
    leaves = jax.tree_util.tree_leaves_with_path(grown)
    arrays = {"/".join(str(p.key) for p in path): np.asarray(leaf) for path, leaf in leaves}
    save_vmoe(options.out, config, arrays)
    print(
        f"{options.out}: {config.moe.num_experts} experts in {len(config.moe_layers)} of "
        f"{config.depth} blocks"
    )
    return 0
