"""Commands that start islands where Ray is not installed say what their user can do, at once."""

from __future__ import annotations

import sys

import pytest
from byways.experiments.cli import main


@pytest.fixture(autouse=True)
def without_ray(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("BYWAYS_STATE", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("train palm_tiny --islands 2 --run RUN", "--cluster local trains on devices of this"),
        ("train palm_tiny --islands 2 --cluster auto --run RUN", "--cluster local trains"),
        ("cluster up", "--local has islands within the controller's own process"),
        ("cluster up --ray-address 10.0.0.1:6379", "--local has islands within"),
        ("generate RUN --prompts - --islands 2", "leave the islands out, and this process does"),
        ("generate RUN --prompts - --prefill 1 --decode 1", "leave the islands out"),
        ("embed RUN FOLDER --out a.safetensors --islands 2", "leave the islands out, and this"),
    ],
)
def test_what_can_be_done_is_said(command, instead, tmp_path, capsys):
    words = command.replace("RUN", str(tmp_path / "run")).replace("FOLDER", str(tmp_path))
    assert main(words.split()) == 1
    said = capsys.readouterr().err
    assert f"need Ray, which is not installed: pip install 'byways[ray]', or {instead}" in said
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "state").exists()


def test_the_controllers_own_islands_need_none(monkeypatch):
    """`--local` goes on to start the controller."""
    from byways.experiments import cluster

    class Going(Exception):
        pass

    def start(*_):
        raise Going

    monkeypatch.setattr(cluster, "start_cluster", start)
    with pytest.raises(Going):
        main(["cluster", "up", "--local"])
