"""The pinned npm packages that the drawings and captions come from.

`packages.json` names each package with its version, its SHA-512 (npm's `integrity`), its
authors and its licence. Nothing is read from a tarball whose SHA-512 differs.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Literal

Role = Literal["train", "validation", "test"]


class SourceError(RuntimeError):
    """A source package cannot be had, or is not the pinned one."""


@dataclasses.dataclass(frozen=True)
class Package:
    """One pinned npm package.

    Attributes:
        package, version, integrity: what npm knows it by; `integrity` is `sha512-` and base64.
        title, author, license, url: whom to credit and how (`license` is an SPDX identifier).
        artist: our name of the set of drawings; empty for the captions' package.
        role: which split the artist's drawings belong to; empty for the captions' package.
    """

    package: str
    version: str
    integrity: str
    title: str
    author: str
    license: str
    url: str
    artist: str = ""
    role: Role | Literal[""] = ""

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives."""
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"


@functools.cache
def packages() -> tuple[Package, tuple[Package, ...]]:
    """The captions' package, and the artists' packages in the order of the records."""
    raw = json.loads(Path(__file__).with_name("packages.json").read_text("utf-8"))
    return Package(**raw["captions"]), tuple(Package(**p) for p in raw["artists"])


def artists(role: Role | None = None) -> tuple[str, ...]:
    """Names of the artists, all of them or those of one role."""
    return tuple(p.artist for p in packages()[1] if role is None or p.role == role)


def default_cache() -> Path:
    """`$BYWAYS_CACHE`, or `~/.cache/byways`."""
    return Path(os.environ.get("BYWAYS_CACHE") or Path.home() / ".cache" / "byways")


def fetch(package: Package, cache: Path) -> Path:
    """The package's tarball in `cache`, through `npm pack` where it is not there yet.

    Args:
        package: which package.
        cache: folder of tarballs, as `npm pack` names them; made where missing.

    Raises:
        SourceError: npm is missing or fails, or the tarball's SHA-512 is not the pinned one.
    """
    path = cache / package.tarball
    if path.exists():
        _check(package, path)
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(
            f"npm is needed to download {package.package}@{package.version}, and there is no `npm`"
            " on the PATH. Install Node.js with npm (Debian: `apt install npm`), or put the"
            f" tarball, as `npm pack` gives it, at {path}."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [npm, "pack", f"{package.package}@{package.version}", "--silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        made = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(made) != 1:
            raise SourceError(
                f"`npm pack {package.package}@{package.version}` failed with status"
                f" {done.returncode}: {done.stderr.strip()[-500:] or 'no message'}"
            )
        _check(package, made[0])
        os.replace(made[0], path)
    return path


def _check(package: Package, path: Path) -> None:
    digest = hashlib.sha512(path.read_bytes()).digest()
    found = "sha512-" + base64.b64encode(digest).decode()
    if found != package.integrity:
        raise SourceError(
            f"{path} is not {package.package}@{package.version}: its SHA-512 is {found}, pinned is"
            f" {package.integrity}. Remove the file and build again to download it afresh."
        )


def read_members(tarball: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Files of an npm tarball by their path inside `package/`.

    Args:
        tarball: the file.
        wanted: exact paths, or folders ending in `/` of which all files are taken.

    Raises:
        SourceError: an exact path is not in the tarball.
    """
    found: dict[str, bytes] = {}
    with tarfile.open(tarball, "r:gz") as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            folder = any(w.endswith("/") and name.startswith(w) for w in wanted)
            if member.isfile() and (name in wanted or folder):
                handle = tar.extractfile(member)
                assert handle is not None  # isfile() says that there is one
                found[name] = handle.read()
    missing = [w for w in wanted if not w.endswith("/") and w not in found]
    if missing:
        raise SourceError(f"{tarball} has no {', '.join(missing)}.")
    return found
