"""What is imported when: a command line that answers at once does not wait for JAX."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import pytest

from .tree import folders, modules

HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow")


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the code in a new process, which fails if a heavy package was imported."""
    check = f"""
import sys
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
assert not heavy, f"imported on the way: {{heavy}}"
"""
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code) + check, *arguments],
        capture_output=True,
        text=True,
    )


def test_every_module_imports():
    for name in modules():
        importlib.import_module(name)


def test_faces_and_configs_import_nothing_heavy():
    names = [*folders(), *(name for name in modules() if name.endswith(".config"))]
    done = _run("import " + ", ".join(names))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "mistaken"),
    [
        (["--help"], False),
        (["train", "--help"], False),
        (["presets"], False),
        (["config", "show", "limoe_tiny"], False),
        (["train", "limoe_tini"], True),
        (["train", "limoe_tiny", "--stepz", "3"], True),
        (["train", "limoe_tiny", "--loss.contrastive", "sofmax"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_line_answers_without_jax(arguments, mistaken):
    done = _run(
        f"""
        import sys
        from byways.__main__ import main
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        assert bool(code) == {mistaken}, code
        """,
        *arguments,
    )
    assert done.returncode == 0, done.stdout + done.stderr
