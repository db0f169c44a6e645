"""Invalid configs: each problem says the value, what was expected and how to mend it."""

import dataclasses
import re

import pytest
from byways.experiments import ConfigError, ExperimentConfig, check, validate_ranges
from byways.experiments.config import KINDS
from byways.experiments.config_files import field_types
from byways.experiments.presets import PRESETS, preset
from byways.experiments.validate import problems_of


def change(config, key, value):
    """The config with the value at a dotted key changed."""
    head, _, rest = key.partition(".")
    if rest:
        value = change(getattr(config, head), rest, value)
    new = dataclasses.replace(config)
    # Past the constructor, whose types the tests' import hook checks: users have no hook.
    object.__setattr__(new, head, value)
    return new


def changed(**changes):
    config = ExperimentConfig()
    for key, value in changes.items():
        config = change(config, key.replace("__", "."), value)
    return config


CASES = [
    ({"model__patch_size": 5}, "model.patch_size 5; patch sizes that fit: 1, 2, 4, 8, 16, 32"),
    ({"model__heads": 5}, "model.width is 96.*model.heads 5"),
    ({"model__moe__selected": 9}, r"selected \(K\) is 9.*at most 8"),
    ({"model__moe__num_experts": 4}, "threshold_image asks for 5 experts.*num_experts 4"),
    ({"loss__threshold_text": 0.5}, "threshold_text is 0.5; it counts experts"),
    ({"seed": 2**32}, r"seed is 4294967296; less than 2\*\*32 is expected"),
    ({"loss__chunks": 3}, "batch_size is 128.*loss.chunks 3; the nearest that does: 129"),
    ({"devices": 3}, "batch_size is 128.*3 devices"),
    ({"devices": 8, "loss__chunks": 32}, "4 pairs a chunk.*8 devices.*does: 256"),
    ({"model__moe__capacity_factor": 0.0}, "capacity_factor is 0.0; a number above 0"),
    ({"model__moe__eval_capacity_factor": -1.0}, "eval_capacity_factor is -1.0"),
    ({"model__text_length": 16}, "data.text_length is 12 but model.text_length is 16"),
    ({"model__moe__n": 5}, "model.moe.n is 5.*only model.depth 4 blocks"),
    ({"model__moe__placement": "last", "model__moe__n": 3}, "only 2 odd blocks"),
    ({"steps": -1}, "steps is -1; at least 1"),
    ({"optimizer__warmup": -1}, "optimizer.warmup is -1"),
    ({"optimizer__lr": float("nan")}, "optimizer.lr is nan; a number above 0"),
    ({"optimizer__lr": float("inf")}, "optimizer.lr is inf; a finite number is expected"),
    ({"optimizer__clip": float("inf")}, "clip is inf; a finite number, or 0 for no clipping, is"),
    ({"model__moe__capacity_factor": float("inf")}, "is inf; a finite number, or None for no lim"),
    ({"optimizer__b2": 1.0}, "b2 is 1.0"),
    ({"model__moe__dispatcher": "indx"}, "dispatcher is 'indx': did you mean 'index'"),
    ({"data__name": "emoji_atr"}, "does not ship with byways; did you mean 'emoji_art'"),
    ({"data__name": "emoji_scenes", "data__scenes_share": 0.5}, "scenes_share is 0.5"),
    ({"data__scenes_share": 1.5}, "scenes_share is 1.5; a share from 0 to 1"),
    ({"model__moe__noise_std": 0.0}, "loss.load is on but model.moe.noise_std is 0"),
]


@pytest.mark.parametrize(("changes", "message"), CASES, ids=lambda case: str(case)[:40])
def test_a_problem_is_told(changes, message):
    problems = problems_of(changed(**changes))
    assert len(problems) == 1
    with pytest.raises(ConfigError, match=message):
        check(changed(**changes))


def test_all_problems_are_told_at_once():
    config = changed(model__patch_size=5, model__moe__selected=9, steps=0, loss__chunks=3)
    assert len(problems_of(config)) == 4


def floats(config):
    hints = field_types(type(config)).items()
    return [key for key, hint in hints if hint in (float, float | None)]


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_no_file_can_hold_is_told(kind, value):
    config = kind()
    for key in floats(config):
        # Others may follow from it.
        told = [problem for problem in problems_of(change(config, key, value)) if key in problem]
        assert f"{key} is {value}; " in told[0]
        assert told[0].endswith("is expected")


def test_an_image_that_would_be_shifted_out_of_sight():
    config = preset("vmoe_tiny")
    assert problems_of(change(config, "data.shift", config.model.image_size - 1)) == []
    told = problems_of(change(config, "data.shift", 40))
    assert len(told) == 1
    assert re.match(r"data.shift is 40 pixels.* model.image_size 28 .* at most 27, or 0", told[0])


def test_devices_that_are_not_there():
    assert "devices is 16, but 8 are here" in problems_of(changed(devices=16), devices=8)[0]
    # All of them, where none are asked for.
    assert "over 7 devices" in problems_of(ExperimentConfig(), devices=7)[0]


def test_the_dense_twin_does_not_look_at_experts():
    assert problems_of(changed(model__moe__placement="none", model__moe__selected=99)) == []


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    assert check(preset(name)) == preset(name)


def test_every_number_of_every_kind_of_experiment_has_a_range():
    named = {
        *(*validate_ranges._AT_LEAST_ONE, *validate_ranges._NOT_NEGATIVE),
        *(*validate_ranges._ABOVE_ZERO, *validate_ranges._SHARES, *validate_ranges._DECAYS),
        "model.head_bias",  # any number is one
    }
    types = [item for kind in KINDS.values() for item in field_types(kind).items()]
    numbers = {key for key, hint in types if hint in (int, float, int | None, float | None)}
    alone = {re.sub(r"^model\.(image|text)\.", "model.", key) for key in numbers}
    # Of those that may be None some are looked at beside others.
    assert named <= alone
    assert alone - named <= {"model.moe.eval_selected"}
