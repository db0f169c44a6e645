"""The Python that these pages show runs as it stands, block after block."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def run_page(name: str, monkeypatch) -> list[str]:
    """Runs a page's blocks in one module; the blocks."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    # Flax looks a module class's home up by name.
    page = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    for code in blocks:
        exec(compile(code, name, "exec"), page.__dict__)
    return blocks


def test_the_example_model_runs_and_is_short(monkeypatch):
    (code,) = run_page("training.md", monkeypatch)
    assert len(code.splitlines()) < 50


@pytest.mark.parametrize("name", ["runtime.md"])
def test_a_page_says_what_it_prints(name, monkeypatch, capsys):
    blocks = run_page(name, monkeypatch)
    said = [text for code in blocks for text in re.findall(r"print\(.*\)  # ([^\n;:]*)", code)]
    printed = capsys.readouterr().out
    assert said
    assert all(
        text.split(" each")[0].split(":")[0] in printed for text in said if text[0] in "0123456789["
    )
