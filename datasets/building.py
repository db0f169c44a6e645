"""`byways data build`: data sets that the package can make from their sources."""

from __future__ import annotations

import difflib
from pathlib import Path

BUILDERS = ("emoji_art",)


def build(name: str, output: str | Path, cache: str | Path | None = None) -> Path:
    """Builds a data set anew from its sources, and compares it with the shipped one.

    Args:
        name: `emoji_art`.
        output: the `data_dir` to write `NAME/VERSION/` in.
        cache: folder of npm tarballs; None is `npm` in the user's cache.

    Returns:
        The folder of the prepared data set.

    Raises:
        ValueError: there is no builder of that name.
        SourceError: npm, a package or the renderer is missing, or a package is not the
            pinned one.
        FileExistsError: `output` holds the data set already.
        RecordError: the new records differ from the shipped ones (they are kept).
    """
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, BUILDERS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"No builder of {name!r}. {hint}There is {', '.join(BUILDERS)}; other data sets are"
            " prepared with TFDS (file_format='array_record') and read from a `data_dir`."
        )
    from .emoji_art.build import build as build_emoji_art
    from .emoji_art.build import compare, shipped_dir
    from .records import RecordError

    folder = build_emoji_art(Path(output), Path(cache) if cache is not None else None)
    shipped = shipped_dir() / "emoji_art" / folder.name
    if shipped.is_dir():
        differences = compare(folder, shipped)
        if differences:
            shown = "\n  ".join(differences[:10])
            raise RecordError(
                f"{folder} differs from the shipped records in {len(differences)} places, which"
                f" another version of resvg-py, Pillow or a package would explain:\n  {shown}"
            )
    return folder
