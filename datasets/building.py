"""`byways data build`: data sets that the package can make from their sources."""

from __future__ import annotations

import difflib
from pathlib import Path

BUILDERS = ("emoji_art", "openclipart")


def build(
    name: str,
    output: str | Path | None = None,
    cache: str | Path | None = None,
    source: str | Path | None = None,
) -> Path:
    """Builds a data set from its sources; the one that ships is compared with what ships.

    Args:
        name: `emoji_art` or `openclipart`.
        output: the `data_dir` to write `NAME/VERSION/` in; None is `data` here for emoji_art, and
            for openclipart the user's cache, where it is found by its name.
        cache: of emoji_art the folder of npm tarballs; None is `npm` in the user's cache.
        source: of openclipart the folder of its SVGs; None is the Debian package's.

    Returns:
        The folder of the prepared data set.

    Raises:
        ValueError: there is no builder of that name, or it has no such source.
        SourceError: a source or the renderer is missing, or a package is not the pinned one.
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
    wrong = cache if name == "openclipart" else source
    if wrong is not None:
        raise ValueError(
            f"{wrong} is of no use to {name}: `cache` is a folder of npm tarballs, of emoji_art;"
            " `source` one of SVGs, of openclipart."
        )
    if name == "openclipart":
        from .openclipart import data_folder
        from .openclipart_build import build as build_openclipart

        place = Path(output) if output is not None else data_folder()
        return build_openclipart(place, Path(source) if source is not None else None)
    from .emoji_art.build import build as build_emoji_art
    from .emoji_art.build import compare, shipped_dir
    from .records import RecordError

    place = Path("data") if output is None else Path(output)
    folder = build_emoji_art(place, Path(cache) if cache is not None else None)
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
