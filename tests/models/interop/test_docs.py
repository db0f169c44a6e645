"""The code in docs/models.md runs, in order, as one program, on the small published checkpoint."""

import re
from pathlib import Path

from byways.experiments import cli

ROOT = Path(__file__).parents[3]
CHECKPOINT = ROOT / "tests" / "parity" / "vmoe" / "checkpoint_v1" / "tiny_single"


def test_the_page_runs(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", "vmoe", str(CHECKPOINT), "vmoe_b16"]) == 0
    names = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    assert len(names["losses"]) == 2
    assert names["config"].num_classes == 10
