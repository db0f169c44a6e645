"""What cannot be trained over islands is refused before anything starts, with how to mend it."""

from __future__ import annotations

import dataclasses
import importlib

import jax.numpy as jnp
import pytest
from byways.experiments import ConfigError, RunError, check, preset
from byways.experiments.cli import main
from byways.experiments.config_files import fingerprint
from byways.experiments.islands.digest import digest
from byways.experiments.islands.hosts import open_islands


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("palm_tiny", {"islands": 0}, "islands is 0; at least 1 is expected"),
        ("palm_tiny", {"islands": -2}, "islands is -2; at least 1 is expected"),
        ("palm_tiny", {"islands": 3}, "batch_size 32 does not divide.*nearest that fits: 2"),
        ("palm_tiny", {"islands": 128}, "islands is 128, into which batch_size"),
        ("limoe_tiny", {"islands": 128}, "islands is 128, but [0-9]+ routing groups"),
        ("palm_tiny", {"islands": 2, "devices": 2}, "an island computes on one device"),
        ("limoe_tiny", {"islands": 2, "execution": "auto"}, "leave --execution or --islands out"),
    ],
)
def test_configs_that_do_not_fit(name, changes, said):
    with pytest.raises(ConfigError, match=said):
        check(dataclasses.replace(preset(name), **changes))


@pytest.mark.parametrize("name", ["palm_tiny", "palm_tiny_moe", "limoe_tiny", "two_tower_tiny"])
def test_presets_train_over_two(name):
    check(dataclasses.replace(preset(name), islands=2))


def test_where_it_runs_is_no_part_of_what_a_checkpoint_must_fit():
    config = preset("palm_tiny")
    assert fingerprint(config) == fingerprint(dataclasses.replace(config, islands=2))


def test_the_command_says_what_is_missing(capsys):
    assert main(["train", "palm_tiny", "--cluster", "auto"]) == 2
    assert "add --islands N" in capsys.readouterr().err
    assert main(["train", "palm_tiny", "--islands", "0"]) == 2
    assert "islands is 0" in capsys.readouterr().err


def test_without_ray(tmp_path, monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "ray":
            raise ImportError("no ray")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RunError, match=r"byways\[ray\]"), open_islands(2, None, tmp_path / "e"):
        pass


def test_digests_see_every_bit():
    trees = [
        {"a": jnp.zeros(3), "b": jnp.zeros(2, jnp.int8)},
        {"a": jnp.zeros(3).at[2].set(-0.0), "b": jnp.zeros(2, jnp.int8)},
        {"a": jnp.zeros(3).at[1:].set(-0.0), "b": jnp.zeros(2, jnp.int8)},
        {"a": jnp.zeros(3), "b": jnp.zeros(2, jnp.int8).at[0].set(1)},
        {"a": jnp.zeros(2), "b": jnp.zeros(3, jnp.int8)},
        {"a": jnp.zeros(3, jnp.bfloat16), "b": jnp.array([True, True])},
        {"a": jnp.zeros(3, jnp.bfloat16), "b": jnp.array([False, True])},
    ]
    assert len({bytes(memoryview(digest(tree))) for tree in trees}) == len(trees)
