"""Damaged and malicious folders: an error of ours or the same numbers, and little memory."""

import functools
import json
import resource
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from byways.models import (
    MoeConfig,
    VmoeConfig,
    WeightsError,
    load_model,
    parameter_shapes,
    save_model,
)
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIG = VmoeConfig(8, 4, 8, 12, 1, 2, num_classes=3, moe=MoeConfig(placement="none"))
OFTEN = settings(max_examples=120, deadline=None, derandomize=True, database=None)


@functools.cache
def sound():
    """Files of a folder, by name, and its arrays."""
    draw = np.random.default_rng(0)
    shapes = parameter_shapes("vmoe", CONFIG)
    arrays = {name: draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "out", "vmoe", CONFIG, arrays)
        return {path.name: path.read_bytes() for path in Path(folder, "out").iterdir()}, arrays


def parts():
    """The header, as JSON's values, and the bytes behind it."""
    data = sound()[0]["model.safetensors"]
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def file_of(header, data=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (parts()[1] if data is None else data)


def load(changed):
    """What a folder with these files gives: arrays, or our error."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in {**sound()[0], **changed}.items():
            Path(folder, name).write_bytes(data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            found = flatten_dict(load_model(folder).params, sep="/")
        except WeightsError as error:
            found = error
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 200 * 1024, "more memory than any of these files has bytes"
        if isinstance(found, WeightsError):
            assert folder in str(found)
            assert len(str(found)) < 1500
        return found


def same(found):
    arrays = sound()[1]
    return set(found) == set(arrays) and all(
        np.array_equal(found[name], value) for name, value in arrays.items()
    )


def test_the_sound_folder():
    assert same(load({}))
    header, data = parts()
    assert same(load({"model.safetensors": file_of(header, data)}))


@OFTEN
@given(
    name=st.sampled_from(["model.safetensors", "config.json"]),
    at=st.floats(0, 1, exclude_max=True),
    early=st.booleans(),  # where headers are
    new=st.binary(max_size=9),
    cut=st.booleans(),
)
def test_damage(name, at, early, new, cut):
    data = sound()[0][name]
    start = int(at * (min(len(data), 1000) if early else len(data)))
    rest = b"" if cut else data[start + len(new) :]
    found = load({name: data[:start] + new + rest})
    # A changed number is a number: only names and shapes can be wrong.
    assert isinstance(found, WeightsError) or set(found) == set(sound()[1])


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-3, 40), st.sampled_from([2**31, 2**63, 2**64 - 1])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ENTRIES = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "X"]),
            "shape": st.lists(NUMBERS, max_size=5),
            "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2),
        }
    ),
    VALUES,
)


@OFTEN
@given(
    replaced=st.dictionaries(st.integers(0, 19), ENTRIES, max_size=3),
    added=st.dictionaries(st.text(max_size=6) | st.just("__metadata__"), ENTRIES, max_size=2),
    removed=st.sets(st.integers(0, 19), max_size=1),
    length=st.none() | st.integers(0, 2**64 - 1),
)
def test_a_header_that_lies(replaced, added, removed, length):
    header, data = parts()
    names = sorted(header)
    header |= {names[number % len(names)]: entry for number, entry in replaced.items()} | added
    for number in removed:
        header.pop(names[number % len(names)], None)
    file = file_of(header, data)
    if length is not None:
        file = struct.pack("<Q", length) + file[8:]
    found = load({"model.safetensors": file})
    assert isinstance(found, WeightsError) or same(found)


@OFTEN
@given(
    change=st.dictionaries(
        st.sampled_from(list(vars(CONFIG))),
        st.integers(0, 30) | st.sampled_from(["gap", "map", "sincos2d", "bfloat16"]) | VALUES,
        min_size=1,
        max_size=2,
    )
)
def test_a_config_that_lies(change):
    config = json.loads(sound()[0]["config.json"])
    config["config"] |= change
    found = load({"config.json": json.dumps(config).encode()})
    assert isinstance(found, WeightsError) or same(found)


def first(change):
    """The header with one entry changed."""
    header, data = parts()
    name = min(header, key=lambda key: header[key]["data_offsets"])
    header[name] |= change(header[name])
    return file_of(header, data)


def twice():
    header, data = parts()
    text = json.dumps(header)
    name = sorted(header)[0]
    return file_of(f"{text[:-1]}, {json.dumps({name: header[name]})[1:]}".encode(), data)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lambda: b"", "truncated"),
        (lambda: b"1234567", "truncated"),
        (lambda: struct.pack("<Q", 2**63) + b"{}", "truncated"),
        (lambda: struct.pack("<Q", 2**24 + 1) + bytes(2**24 + 9), "header has 16777217 bytes"),
        (lambda: file_of(b"[" * 10**6), "cannot be read"),
        (lambda: file_of(b'{"a":' * 10**6), "cannot be read"),
        (lambda: file_of(b'{"x":"' + b"y" * 10**6 + b'"}'), "cannot be read"),
        (lambda: first(lambda e: {"shape": [2**40, 2**40]}), "cannot be read"),
        (lambda: first(lambda e: {"shape": [2**63, 2]}), "cannot be read"),
        (lambda: first(lambda e: {"shape": [0, 2**40], "data_offsets": [0, 0]}), "cannot be read"),
        (lambda: first(lambda e: {"data_offsets": [e["data_offsets"][1], 0]}), "cannot be read"),
        (lambda: first(lambda e: {"data_offsets": [0, 2**62]}), "cannot be read"),
        (lambda: first(lambda e: {"dtype": "I32"}), "has type I32; expected one of F32, F16, BF16"),
        (lambda: first(lambda e: {"shape": [*e["shape"], 1]}), "has shape"),
        (
            lambda: file_of(
                parts()[0] | {"more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
            ),
            "unexpected",
        ),
        (lambda: file_of({}, b""), "of 0 parameters"),
        (lambda: file_of(parts()[0], parts()[1] + b"more"), "cannot be read"),
        (lambda: bytes(16), "cannot be read"),
    ],
)
def test_a_file_that_lies(file, message):
    found = load({"model.safetensors": file()})
    assert isinstance(found, WeightsError)
    assert message in str(found)


def test_a_name_that_is_there_twice():
    found = load({"model.safetensors": twice()})
    assert isinstance(found, WeightsError) or same(found)


def test_numbers_are_not_judged():
    """Training may have diverged; the folder says so truly."""
    header, data = parts()
    nan = np.frombuffer(data, np.float32).copy()
    nan[0] = np.nan
    found = load({"model.safetensors": file_of(header, nan.tobytes())})
    assert sum(np.isnan(value).sum() for value in found.values()) == 1


def test_links_and_folders_in_the_place_of_files(tmp_path):
    (tmp_path / "config.json").write_bytes(sound()[0]["config.json"])
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path)
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        load_model(tmp_path / "nowhere")
