"""The code in docs/routing.md runs, in order, as one program."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"


def test_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec("\n".join(blocks), names)
    assert names["outputs"].shape == (2, 16, 8)
    assert names["routing"].assignment.kept.any()
