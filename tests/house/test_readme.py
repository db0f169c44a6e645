"""README's commands run, in its order, as they are written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from .tree import ROOT

README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def _commands() -> list[str]:
    """Lines of the indented and the fenced shell blocks, comments taken off, but `make test`."""
    plain = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^ {4}(\S.*)$", plain, re.MULTILINE)
    lines += [line for block in _blocks("sh") for line in block.splitlines()]
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [line for line in lines if line and line != "make test"]


def _run(script: str, folder, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euxc", script],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the checkout with an environment set up: this one."""
    for name in ("Makefile", "pyproject.toml", ".ci", "constraints"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


# The environment stands already (-o), and training is cut short or not.
MAKE = 'make() { command make -o .venv/.byways-ready "$@"; }\n'


def test_there_are_commands():
    commands = _commands()
    assert commands[0] == "make demo"
    assert len(commands) > 8
    assert all(re.match(r"(make demo$|byways |\. \.venv/bin/activate$)", c) for c in commands)


def test_every_command_in_short(checkout):
    first, *others = _commands()
    made = _run(MAKE + first, checkout, STEPS="3", RUN="runs/demo")
    # `make demo` has evaluated and reported.
    assert ".venv/bin/byways evaluate runs/demo\n" in made
    others = [command for command in others if f".venv/bin/{command}\n" not in made]
    _run("\n".join(others), checkout)
    for name in ("report.html", "results.json", "metrics.jsonl", "config.json"):
        assert (checkout / "runs" / "demo" / name).is_file()
    for code in _blocks("python"):
        subprocess.run([sys.executable, "-P", "-c", code], cwd=checkout, check=True)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_in_full(checkout):
    _run(MAKE + "make demo", checkout, XLA_FLAGS="")  # as a user's: optimised
    assert (checkout / "runs" / "demo" / "report.html").is_file()
