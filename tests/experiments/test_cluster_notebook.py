"""The example notebook runs against a cluster, in one kernel and then in another."""

from __future__ import annotations

import importlib.util
import os

import pytest
from byways.experiments.cluster import end_cluster, start_cluster

from byways import runtime as rt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Jupyter and Ray
]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Of processes where there is a Ray, else of islands within the controller."""
    monkeypatch.setenv("BYWAYS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("BYWAYS_TOKEN", raising=False)
    ray = importlib.util.find_spec("ray") is not None
    start_cluster(rt.ControllerSettings(islands=2, local=not ray))
    yield
    end_cluster("default")


def printed(notebook):
    """What its cells print, in order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [out["text"] for cell in cells for out in cell.outputs if out.get("name") == "stdout"]


def known():
    with rt.Watched() as watched:
        return watched.status()["programs"]["known"]


def test_the_notebook_runs_and_a_second_kernel_finds_what_the_first_left(cluster, root, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    assert os.environ["PYTHONSAFEPATH"] == "1"  # which its kernel inherits
    said, programs = [], []
    for _ in range(2):
        notebook = nbformat.read(root / "docs" / "examples" / "attach.ipynb", 4)
        where = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=300, resources=where).execute()
        said.append(printed(notebook))
        programs.append(known())
    _, counts, awake, slept, left, same, told = said[0]
    assert counts.startswith("(64, 16) [")
    assert awake == "2 of 8 experts awake\n"
    assert slept == "True\n"
    assert "has left: attach again to go on" in left
    assert same == "the same: True\n"
    assert told == "[False, False] ['weights']\n"
    assert said[1][:4] == said[0][:4]
    assert programs == [2, 2]  # the second compiled none


def test_the_notebook_is_kept_without_what_it_printed(root):
    import nbformat

    notebook = nbformat.read(root / "docs" / "examples" / "attach.ipynb", 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
