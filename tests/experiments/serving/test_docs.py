"""The Python that docs/serving.md shows runs as it stands."""

import re

from ...conftest import ROOT


def test_the_page_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/serving.md").read_text(), re.DOTALL)
    exec(compile(code, "serving.md", "exec"), {})
    said = capsys.readouterr().out
    assert "Statistics(requests=6, tokens=48" in said
