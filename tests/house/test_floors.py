"""No import runs up between the rooms, and none goes past a room's face."""

from __future__ import annotations

import ast
import importlib

import pytest

from .tree import folders, modules

# What each room may stand on. The config modules and the faces are how they do.
BELOW = {
    "routing": set(),
    "runtime": set(),
    "datasets": set(),
    "models": {"routing", "runtime"},
    "experiments": {"routing", "runtime", "datasets", "models"},
}


def _imports(name: str, is_package: bool, source: str) -> list[tuple[int, str, str | None]]:
    """(line, full module, name taken from it) of every import, relative ones resolved."""
    parts = name.split(".") if is_package else name.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found += [(node.lineno, module, alias.name) for alias in node.names]
    return found


def _faults(name: str, is_package: bool, source: str) -> list[str]:
    room = name.split(".")[1]
    faults = []
    for line, module, taken in _imports(name, is_package, source):
        parts = module.split(".")
        if parts == ["byways"] and taken in BELOW:
            parts, taken = ["byways", taken], None
        if parts[0] != "byways" or len(parts) == 1 or parts[1] == room:
            continue
        where = f"{name}:{line} imports {module}{f' ({taken})' if taken else ''}"
        if parts[1] not in BELOW[room]:
            faults.append(f"{where}: {room} stands on {sorted(BELOW[room]) or 'no other room'}")
        elif parts[2:] == ["config"]:
            continue
        elif len(parts) > 2:
            faults.append(f"{where}: take it from byways.{parts[1]}, the room's face")
        elif taken and taken not in {*importlib.import_module(module).__all__, "config"}:
            faults.append(f"{where}: not in {module}.__all__")
    return faults


def test_every_room_has_its_floor():
    rooms = {package.split(".")[1] for package in folders() if "." in package}
    assert rooms <= set(BELOW)


@pytest.mark.parametrize("room", [name for name in folders() if name != "byways"])
def test_imports_run_down_to_faces(room):
    faults = []
    for name, path in modules().items():
        if name == room or name.startswith(room + "."):
            faults += _faults(name, path.name == "__init__.py", path.read_text())
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("name", "source", "faulty"),
    [
        ("byways.routing.top_k", "from ..models import Limoe", True),
        ("byways.routing.top_k", "import byways.datasets", True),
        ("byways.routing.top_k", "from byways import datasets", True),
        ("byways.routing.top_k", "from .losses import x\nimport jax", False),
        ("byways.models.moe", "from ..routing.top_k import x", True),
        ("byways.models.moe", "from ..routing import no_such_name", True),
        ("byways.models.moe", "from ..experiments.config import LossConfig", True),
        ("byways.experiments.evaluation.x", "from ...models.config import ModelConfig", False),
        ("byways.experiments.evaluation.x", "from ..run import x", False),
        ("byways.experiments.evaluation.x", "from ...models.limoe import x", True),
    ],
)
def test_the_rule_itself(name, source, faulty):
    assert bool(_faults(name, False, source)) == faulty


@pytest.mark.parametrize("package", list(folders()))
def test_a_face_gives_what_it_lists(package):
    face = importlib.import_module(package)
    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        face.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", sorted(n for n, p in modules().items() if p.stem == "__init__"))
def test_no_file_hides_a_name_of_its_face(package):
    """Importing PACKAGE.load sets PACKAGE's attribute `load` to the module, for good: a lazy face
    that means a function by it would give now one, now the other."""
    listed = set(getattr(importlib.import_module(package), "__all__", ()))
    beside = {name.rsplit(".", 1)[1] for name in modules() if name.rpartition(".")[0] == package}
    assert not listed & beside, f"call these files otherwise: {sorted(listed & beside)}"
