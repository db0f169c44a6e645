"""Whom the drawings belong to, and the line that says so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .sources import Package, packages


def attribution(artists: Iterable[str] | None = None) -> str:
    """One line that credits the artists, for contact sheets, reports and pictures.

    Args:
        artists: whose drawings are shown; None is everyone's, with the captions' source.

    Returns:
        Such as `Drawings: Twemoji (Twitter ..., CC-BY-4.0); ...`.

    Raises:
        ValueError: an artist that is not in the catalogue.
    """
    captions, known = packages()
    if artists is None:
        credits = [_credit(p) for p in known]
        return f"Drawings: {'; '.join(credits)}. Words: {_credit(captions)}. Scaled to 32 px."
    wanted = set(artists)
    strangers = wanted - {p.artist for p in known}
    if strangers:
        names = ", ".join(p.artist for p in known)
        raise ValueError(f"No artist {sorted(strangers)}; the artists are {names}.")
    credits = [_credit(p) for p in known if p.artist in wanted]
    return f"Drawings: {'; '.join(credits)}. Scaled to 32 px."


def _credit(package: Package) -> str:
    return f"{package.title} ({package.author}, {package.license})"


def licences_text() -> str:
    """The text of `LICENSES.md`, from `packages.json`."""
    captions, known = packages()
    rows = [
        f"| {p.title} | `{p.artist or 'words'}` | {p.author} | {p.license} | <{p.url}> |"
        f" `{p.package}` {p.version} |"
        for p in (*known, captions)
    ]
    return _TEXT.format(rows="\n".join(rows))


def main() -> None:
    """Writes `LICENSES.md` beside this file."""
    Path(__file__).with_name("LICENSES.md").write_text(licences_text(), "utf-8")


_TEXT = """# Licences of the data

The program is under Apache-2.0 (`LICENSE` at the root). The drawings and words of
`emoji_art` are other people's works under their own licences, which go with them into
every copy, picture, contact sheet and report that shows them:

| work | artist in the records | authors | licence | source | npm package |
|---|---|---|---|---|---|
{rows}

What was changed: the drawings were scaled to 32 × 32 pixels (SVGs rendered by resvg, the
3D set's WebP files by Lanczos resampling), flags, skin tones and hair components were left
out, and the words were joined to them by code point. Training and contact sheets further
move, turn, scale, recolour and compose them.

Share-alike (CC-BY-SA-4.0) binds pictures that show OpenMoji or EmojiOne 1.5 drawings: pass
such pictures on under the same licence, with the attribution line.

- Apache-2.0: <https://www.apache.org/licenses/LICENSE-2.0>
- CC-BY-4.0: <https://creativecommons.org/licenses/by/4.0/>
- CC-BY-SA-4.0: <https://creativecommons.org/licenses/by-sa/4.0/>
- MIT, for Fluent Emoji: Copyright (c) Microsoft Corporation; for its packaging as
  `@lobehub/fluent-emoji-3d`: Copyright (c) 2023 LobeHub; for emojibase:
  Copyright (c) 2017-2019 Miles Johnson. The text of the licence:

> Permission is hereby granted, free of charge, to any person obtaining a copy of this
> software and associated documentation files (the "Software"), to deal in the Software
> without restriction, including without limitation the rights to use, copy, modify, merge,
> publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons
> to whom the Software is furnished to do so, subject to the following conditions:
>
> The above copyright notice and this permission notice shall be included in all copies or
> substantial portions of the Software.
>
> THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
> INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
> PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
> FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
> OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
> DEALINGS IN THE SOFTWARE.
"""

if __name__ == "__main__":
    main()
