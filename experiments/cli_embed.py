"""`byways embed`: a folder of images to a file of embeddings, over islands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from .cli_options import parse
from .files import check_place
from .serving.sides import check_islands

# Unreadable images that are named.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class EmbedOptions:
    """Embed all images of a folder, and those below: `byways embed SOURCE FOLDER --out FILE`.

    SOURCE is a contrastive run, or a model's folder. FILE is a .safetensors with `embeddings`, one
    row an image, and beside it a .jsonl says which; see docs/serving.md. Stopped, or killed, at
    any time, the same command goes on, and gives the same file.

    Attributes:
        source: a contrastive run, or the folder of a limoe or a two_tower.
        folder: of images.
        out: the file to write, FILE.safetensors.
        islands: processes to start, which share the images; 0 is this one alone.
        batch: images that go through the model at once.
        resize: how pictures become the model's size, as of `byways score`.
        step: which checkpoint of a run; by default the newest.
        threads: that read and decode images; by default one a core, 8 at most.
        ray_address: start the islands on a Ray that runs already, `host:port` or `auto`.
    """

    source: tyro.conf.Positional[Path]
    folder: tyro.conf.Positional[Path]
    out: Path
    islands: int = 0
    batch: int = 128
    resize: Literal["crop", "short_side", "squash", "central"] = "crop"
    step: int | None = None
    threads: int | None = None
    ray_address: str | None = None


def embed(arguments: Sequence[str]) -> int:
    """`byways embed SOURCE FOLDER --out FILE [--islands N]`"""
    options = parse(EmbedOptions, arguments, "byways embed")
    check_islands(options.islands, options.ray_address)
    check_place(options.out)

    from .sources import find_source

    source = find_source(options.source)

    from .compilation_cache import enable_compilation_cache
    from .interrupts import Interrupts
    from .serving.embed_folder import Wish, embed_folder
    from .serving.embed_progress import EmbedProgress

    enable_compilation_cache()
    wish = Wish(
        options.folder,
        options.out,
        options.islands,
        options.ray_address,
        options.batch,
        options.resize,
        options.step,
        **({} if options.threads is None else {"threads": options.threads}),
    )
    with Interrupts("keeping what is done, and stopping") as interrupts, EmbedProgress() as shown:
        found = embed_folder(source, wish, shown, lambda: interrupts.requested is not None)
    if found.before == found.images and not found.seconds:
        print(f"{options.out} is there already: {found.rows:,} images")
    else:
        print(f"{options.out}: {found.rows:,} images in {found.seconds:.1f} s")
    if found.unreadable:
        ill = found.unreadable
        more = f", and {len(ill) - _NAMED} more" if len(ill) > _NAMED else ""
        table = options.out.with_suffix(".jsonl")
        named = ", ".join(ill[:_NAMED]) + more
        print(f"{len(ill):,} could not be read; {table} says why: {named}")
    return 0
