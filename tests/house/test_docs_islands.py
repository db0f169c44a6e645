"""The Python of pages about islands and clusters, as it stands, on processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ..conftest import ROOT

pytestmark = pytest.mark.slow


def run(words, text="", **environment):
    """A command in a shell of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["islands.md", "transfer.md"])
def test_a_page_runs(page):
    if page == "islands.md":
        pytest.importorskip("ray")
    for code in blocks(page):
        said = run(["-"], code)
        for promised in re.findall(r"print\(.*\)  # ([\d.]+)", code):
            assert promised in said.splitlines()


@pytest.mark.parametrize("kind", ["--local", ""])
def test_the_page_of_clusters_runs(kind, tmp_path):
    if not kind:
        pytest.importorskip("ray")
    state = {"BYWAYS_STATE": str(tmp_path)}
    command = ["-m", "byways", "cluster"]
    run([*command, "up", "--islands", "2", *kind.split()], **state)
    try:
        (code,) = blocks("cluster.md")
        assert run(["-"], code, **state).split() == ["32.0", "128.0"]
        # As if somebody did it again.
        assert run(["-"], code, **state).split() == ["32.0", "128.0"]
    finally:
        run([*command, "down"], **state)
