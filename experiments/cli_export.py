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

    With --modality, only what that modality of a contrastive run uses: its own embedding and
    projection, and the experts that it is sent to, as a smaller model that stands alone. With
    --classes, only the experts that images of these classes of a classifier are sent to.

    Attributes:
        run: the run's folder.
        out: the folder to write; must not exist.
        step: which checkpoint; by default the newest.
        modality: cut out what this one uses.
        classes: cut out what these use, by name or number.
        min_share: experts with less of the tokens go; 0 keeps all that are ever used.
        experts: experts that stay at most of each block, the most used.
    """

    run: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    step: int | None = None
    modality: Literal["image", "text"] | None = None
    classes: tuple[str, ...] = ()
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
    if options.modality and options.classes:
        raise UsageError("--modality is of contrastive runs, --classes of classifiers: name one")
    if options.experts is not None and not (options.modality or options.classes):
        raise UsageError("--experts cuts a pathway: name its --modality or --classes too")
    RunFolder(options.run).read()
    check_new(options.out)

    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    if options.modality or options.classes:
        _pathway(options)
    else:
        _whole(options)
    return 0


def _whole(options: ExportOptions) -> None:
    import jax

    from .export import export_run

    model = export_run(options.run, options.out, options.step)
    leaves = jax.tree.leaves(model.params)
    count = sum(leaf.size for leaf in leaves)
    print(f"{options.out}: {model.kind}, {count / 1e6:.2f} M parameters in {len(leaves)} arrays")


def _pathway(options: ExportOptions) -> None:
    from .class_pathways import export_class_pathway
    from .pathways import export_pathway

    how = {"step": options.step, "min_share": options.min_share, "most": options.experts}
    try:
        if options.modality:
            found = export_pathway(options.run, options.out, options.modality, **how)
        else:
            found = export_class_pathway(options.run, options.out, options.classes, **how)
    except ValueError as error:
        raise UsageError(f"{options.run}: {error}") from error
    print(f"{options.out}: the pathway of {options.modality or ', '.join(options.classes)}")
    print("\n".join(found.lines()))
