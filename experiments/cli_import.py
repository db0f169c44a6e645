"""`byways import`: other people's checkpoints, as folders of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from .cli_options import parse


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
