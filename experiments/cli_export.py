"""`byways export`: a run's weights as a model's folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from .cli_options import parse
from .errors import UsageError
from .files import check_new
from .run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write a run's weights as model.safetensors and config.json, its tokenizer beside them.

    With --modality, only what that modality uses: its own embedding and projection, and the
    experts that it is sent to, as a smaller model that stands alone.

    Attributes:
        run: the run's folder.
        out: the folder to write; must not exist.
        step: which checkpoint; by default the newest.
        modality: cut out what this one uses.
        min_share: experts with less of the modality's tokens go; 0 keeps all that it ever uses.
        experts: experts that stay at most of each block, the most used.
    """

    run: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    step: int | None = None
    modality: Literal["image", "text"] | None = None
    min_share: float = 0.01
    experts: int | None = None


def export(arguments: Sequence[str]) -> int:
    """`byways export RUN OUT [--step N] [--modality image [--min-share 0.01] [--experts N]]`"""
    options = parse(ExportOptions, arguments, "byways export")

    if not 0 <= options.min_share <= 1 or (options.experts is not None and options.experts < 1):
        raise UsageError(
            f"--min-share {options.min_share} --experts {options.experts}: expected a share from 0 "
            "to 1, and at least one expert"
        )
    RunFolder(options.run).read()
    check_new(options.out)

    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    if options.modality is None:
        if options.experts is not None:
            raise UsageError("--experts cuts a pathway: name its --modality too")
        _whole(options)
    else:
        _pathway(options, options.modality)
    return 0


def _whole(options: ExportOptions) -> None:
    import jax

    from .export import export_run

    model = export_run(options.run, options.out, options.step)
    leaves = jax.tree.leaves(model.params)
    count = sum(leaf.size for leaf in leaves)
    print(f"{options.out}: {model.kind}, {count / 1e6:.2f} M parameters in {len(leaves)} arrays")


def _pathway(options: ExportOptions, modality: str) -> None:
    from .pathways import export_pathway

    try:
        found = export_pathway(
            options.run,
            options.out,
            modality,
            step=options.step,
            min_share=options.min_share,
            most=options.experts,
        )
    except ValueError as error:
        raise UsageError(f"{options.run}: {error}") from error
    kept = ", ".join(f"{count} in {name}" for name, count in found.kept.items())
    share = found.parameters / found.whole_parameters
    print(
        f"{options.out}: the {modality} pathway, {found.parameters / 1e6:.2f} M of "
        f"{found.whole_parameters / 1e6:.2f} M parameters ({share:.1%})\n"
        f"experts of {found.num_experts}: {kept or 'none, the model is dense'}\n"
        f"zero-shot top-1 on the validation artist: {found.top1:.2%}, of the whole model "
        f"{found.whole_top1:.2%}\n"
        f"mean cosine of its embeddings with the whole model's: {found.cosine:.4f}"
    )
