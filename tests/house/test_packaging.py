"""pyproject.toml says what the tree is: packages, data that ships, dependencies, exact sets."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .tree import ROOT, files, folders, modules, pyproject

# Needed by a dependency that does not declare it.
UNIMPORTED = {"importlib-resources": "tensorflow-datasets reads its metadata with it"}


def test_packages_are_the_tree():
    found = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert set(pyproject()["tool"]["setuptools"]["packages"]) == found


def test_every_folder_with_code_is_a_package():
    packages = {path.parent for path in modules().values() if path.name == "__init__.py"}
    assert {path.parent for path in modules().values()} == packages


def test_all_data_ships():
    """Each file in a room that is not code matches a package-data pattern of its package."""
    patterns = pyproject()["tool"]["setuptools"]["package-data"]
    missed = []
    for package, folder in folders().items():
        # `full_match`, which knows `**`, came with Python 3.13: here `**/` may be nothing.
        wanted = [pattern.removeprefix("**/") for pattern in patterns.get(package, [])]
        for path in files(f"{folder.name}/*"):
            name = PurePosixPath(path.relative_to(folder))
            if path.suffix != ".py" and not any(name.match(pattern) for pattern in wanted):
                missed.append(str(path.relative_to(ROOT)))
    assert not missed, f"not in pyproject.toml's package-data, so an install lacks them: {missed}"


def test_data_licences_are_listed_apart():
    project = pyproject()["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE", "datasets/emoji_art/LICENSES.md"]
    for name in project["license-files"]:
        assert (ROOT / name).is_file()


def _requirements(extra: str | None = None) -> dict[str, Requirement]:
    project = pyproject()["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def _imported() -> set[str]:
    """Top-level names that the package imports, wherever in a file."""
    names = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"byways"}


def test_dependencies_are_used_and_uses_are_dependencies():
    providers = importlib.metadata.packages_distributions()
    used = {canonicalize_name(dist) for name in _imported() for dist in providers.get(name, [name])}
    declared = set(_requirements())
    optional = {name for extra in pyproject()["project"]["optional-dependencies"]
                for name in _requirements(extra)}  # fmt: skip
    assert declared - used - set(UNIMPORTED) == set(), "declared and never imported"
    # A module may come from more than one distribution (`google`): one that is declared is enough.
    missing = {name for name in _imported()
               if not {canonicalize_name(d) for d in providers.get(name, [name])}
               & (declared | optional)}  # fmt: skip
    assert not missing, f"imported and not declared in pyproject.toml: {missing}"


@pytest.mark.parametrize("path", sorted((ROOT / "constraints").glob("*.txt")), ids=lambda p: p.stem)
def test_exact_sets_fit_the_ranges(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), (
            f"{line!r}: want NAME==VERSION, which names no index"
        )
    exact = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    wanted = _requirements() | _requirements("dev")
    if path.stem.endswith("cuda"):
        wanted |= _requirements("cuda")
    for name, requirement in wanted.items():
        assert name in exact, f"{path.name} lacks {name}"
        assert exact[name] in requirement.specifier


@pytest.mark.slow
def test_wheel(tmp_path):
    """A wheel, built from the source distribution, holds all the code, all the data and both
    licence files, and nothing at the top level but byways."""
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONSAFEPATH": "1"})
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    for package, folder in folders().items():
        for path in files(f"{folder.name}/*"):
            assert f"{package.replace('.', '/')}/{path.relative_to(folder)}" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"byways", metadata.split("/")[0]}
    assert "License-Expression: Apache-2.0" in text
    assert "License-File: LICENSE\n" in text
    assert "License-File: datasets/emoji_art/LICENSES.md\n" in text
