"""The Python that the training page shows runs as it stands."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_example_model_runs_and_is_short(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 50
    # Flax looks a module class's home up by name.
    page = types.ModuleType("docs_training")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    exec(compile(code, str(PAGE), "exec"), page.__dict__)
