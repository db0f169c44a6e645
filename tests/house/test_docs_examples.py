"""The Python that the training page shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_example_model_runs_and_is_short():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 50
    exec(compile(code, str(PAGE), "exec"), {"__name__": "docs_training"})
