"""Files of cold items: what is written is read, and what is damaged is refused."""

import json
import mmap
import os
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from byways.runtime import ColdFileError, MappedFile, Part, UnknownItem, write_cold
from byways.runtime.cold_header import DTYPES, LONGEST_HEADER, read_header
from hypothesis import given, settings
from hypothesis import strategies as st

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def raw(path, header, data=b"", length=None):
    """A file with this header, an object or bytes, saying that it has so many of them."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def items_of(dtype=np.float32, count=3):
    rng = np.random.default_rng(0)
    return {
        (layer, e): (
            rng.normal(size=(4, 5)).astype(dtype),
            rng.normal(size=5).astype(dtype),
            np.full((), e, dtype),
            np.zeros((0, 3), dtype),
        )
        for layer in range(2)
        for e in range(count)
    }


def same(left, right):
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=list(DTYPES))
def test_items_come_back_bit_for_bit(tmp_path, dtype):
    items = items_of(dtype, count=1)
    write_cold(tmp_path / "cold", items, items.__getitem__)
    cold = MappedFile(tmp_path / "cold")
    assert list(cold.keys()) == list(items)
    for key, arrays in items.items():
        for shape, found, array in zip(cold.shapes(key), cold.read(key), arrays, strict=True):
            same(found, array)
            assert (shape.shape, shape.dtype) == (array.shape, array.dtype)
            assert not found.flags.writeable
    cold.close()


def test_others_read_what_we_write_and_we_what_they_write(tmp_path):
    items = {("a", 7): {"up": np.arange(3.0), "down": np.ones((2, 2), np.int8)}}
    write_cold(tmp_path / "ours", items, items.__getitem__)
    theirs = safetensors.numpy.load_file(tmp_path / "ours")
    assert sorted(theirs) == ["a/7/down", "a/7/up"]
    same(theirs["a/7/up"], items["a", 7]["up"])
    # The data begins at a multiple of 64, for the sake of other readers.
    assert next(iter(read_header(tmp_path / "ours").values())).start % 64 == 0
    safetensors.numpy.save_file(theirs, tmp_path / "theirs", metadata={"by": "them"})
    found = MappedFile(tmp_path / "theirs").read(("a", 7))
    assert set(found) == {"up", "down"}
    same(found["down"], items["a", 7]["down"])


def test_a_layout_takes_rows_of_stacked_experts(tmp_path):
    """Row e of a (3, 2, 5) tensor of 4 bytes each is its bytes 40 e to 40 e + 40."""
    stacked = np.arange(30, dtype=np.float32).reshape(3, 2, 5)
    safetensors.numpy.save_file({"x/kernel": stacked}, tmp_path / "model")
    layout = {e: {"kernel": [Part("x/kernel", e)]} for e in range(3)}
    cold = MappedFile(tmp_path / "model", layout)
    for e in range(3):
        same(cold.read(e)["kernel"][0], stacked[e])
        assert cold.shapes(e)["kernel"][0].shape == (2, 5)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part("y"), "no tensor 'y'; it has x, …"),
        (Part("x", 3), "has shape (3, 2) and no row 3"),
        (Part("x", -1), "no row -1"),
        ("x", "expected a Part"),
    ],
)
def test_a_layout_that_the_file_does_not_have(tmp_path, part, words):
    safetensors.numpy.save_file({"x": np.zeros((3, 2))}, tmp_path / "f")
    with pytest.raises(ColdFileError, match=re.escape(words)):
        MappedFile(tmp_path / "f", {0: [part]})


def test_the_file_is_mapped_and_not_read(tmp_path):
    """Views share the mapping's memory: no copy of the file is anywhere."""
    items = items_of()
    write_cold(tmp_path / "cold", items, items.__getitem__)
    cold = MappedFile(tmp_path / "cold")
    array = cold.read((0, 0))[0]
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert isinstance(base, mmap.mmap)
    cold.expect(items)
    cold.close()
    cold.close()
    same(array, items[0, 0][0])  # views outlive it
    with pytest.raises(ColdFileError, match="it was closed"):
        cold.read((0, 0))


def test_a_file_that_shrinks_is_an_error_and_not_the_end(tmp_path):
    """Reading a page past the end would kill the process."""
    items = items_of()
    write_cold(tmp_path / "cold", items, items.__getitem__)
    cold = MappedFile(tmp_path / "cold")
    os.truncate(tmp_path / "cold", 100)
    with pytest.raises(ColdFileError, match="its length changed after opening"):
        cold.read((0, 0))


def test_an_unknown_item(tmp_path):
    items = items_of()
    write_cold(tmp_path / "cold", items, items.__getitem__)
    with pytest.raises(UnknownItem, match=re.escape("no item (5, 5) among the 6")):
        MappedFile(tmp_path / "cold").read((5, 5))


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"0/0": F32}, b"", "end at byte"),
        ({"0/0": F32}, bytes(9), "end at byte"),
        ({"0/0": F32 | {"dtype": "F64"}}, bytes(8), "takes 16 bytes, its data_offsets hold 8"),
        ({"0/0": F32 | {"dtype": "C64"}}, bytes(8), "has type 'C64'"),
        ({"0/0": F32 | {"dtype": ["F32"]}}, bytes(8), "has type"),
        ({"0/0": F32 | {"shape": [3]}}, bytes(8), "takes 12 bytes"),
        ({"0/0": F32 | {"shape": [-2]}}, bytes(8), "no list of sizes"),
        ({"0/0": F32 | {"shape": [True]}}, bytes(8), "no list of sizes"),
        ({"0/0": F32 | {"shape": 2}}, bytes(8), "no list of sizes"),
        ({"0/0": F32 | {"shape": [1] * 99}}, bytes(8), "no list of sizes"),
        # 2^62 * 4 is 0 in 64 bits, and 4 * 2^62 + 8 would be 8.
        ({"0/0": F32 | {"shape": [2**62], "data_offsets": [0, 0]}}, b"", "takes 18446744073709"),
        ({"0/0": F32 | {"shape": [2**62, 2**62]}}, bytes(8), "takes"),
        ({"0/0": F32 | {"shape": [2**64]}}, bytes(8), "no list of sizes"),
        ({"0/0": F32 | {"data_offsets": [8, 0]}}, bytes(8), "two, ascending"),
        ({"0/0": F32 | {"data_offsets": [0, 2**63]}}, bytes(8), "two, ascending"),
        ({"0/0": F32 | {"data_offsets": [-8, 0]}}, bytes(8), "two, ascending"),
        ({"0/0": F32 | {"data_offsets": [0.0, 8.0]}}, bytes(8), "two, ascending"),
        ({"0/0": F32 | {"data_offsets": [4, 12]}}, bytes(12), "leaves a hole after 'the header'"),
        ({"0/0": F32, "0/1": F32}, bytes(8), "overlaps '0/0'"),
        ({"0/0": F32, "0/1": F32 | {"data_offsets": [4, 12]}}, bytes(12), "overlaps"),
        ({"0/0": F32, "0/1": F32 | {"data_offsets": [12, 20]}}, bytes(20), "leaves a hole"),
        ({"0/0": F32 | {"code": "x"}}, bytes(8), "must have a dtype, a shape and data_offsets"),
        ({"0/0": {"dtype": "F32"}}, bytes(8), "must have"),
        ({"0/0": 3}, bytes(8), "must have"),
        ({"0/1": F32}, bytes(8), "item (0,) has arrays at ['1'], expected 0 to 0"),
        ({"0/0": F32, "0/w": F32 | {"data_offsets": [8, 16]}}, bytes(16), "has arrays at"),
        ({"name": F32}, bytes(8), "does not say which item it belongs to"),
        ([1], b"", "is a list, not an object"),
        (b'{"a": 1, "a": 2}', b"", "stands in it twice"),
        (b"[" * 100_000, b"", "is no JSON"),
        (b"\xff\xfe{}", b"", "is no JSON"),
        (b"", b"", "is no JSON"),
    ],
)  # fmt: skip
def test_hostile_headers(tmp_path, header, data, words):
    with pytest.raises(ColdFileError, match=re.escape(words)):
        MappedFile(raw(tmp_path / "f", header, data))


@pytest.mark.parametrize("length", [11, 2**31, 2**63, 2**64 - 1])
def test_headers_longer_than_the_file(tmp_path, length):
    with pytest.raises(ColdFileError, match=f"its header has {length} bytes"):
        MappedFile(raw(tmp_path / "f", b"{}", b"12345678", length))


def test_a_header_too_long_is_not_parsed(tmp_path):
    path = raw(tmp_path / "f", b"{}", length=LONGEST_HEADER + 1)
    os.truncate(path, LONGEST_HEADER + 100)  # sparse: takes no room
    with pytest.raises(ColdFileError, match=f"above {LONGEST_HEADER}"):
        MappedFile(path)


@pytest.mark.parametrize("data", [b"", b"1234567"])
def test_files_that_are_too_short(tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(ColdFileError, match="truncated"):
        MappedFile(tmp_path / "f")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ColdFileError, match="cannot be read"):
        MappedFile(tmp_path / "f")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({3: (np.zeros(1),)}, "expected a tuple of numbers and words"),
        ({(): (np.zeros(1),)}, "expected a tuple of numbers and words"),
        ({(0,): np.zeros(1)}, "expected a tuple or a dictionary"),
        ({(0,): ()}, "expected a tuple or a dictionary"),
        ({(0,): ((np.zeros(1),),)}, "is a tuple, expected an array"),
        ({("a/b",): (np.zeros(1),)}, "read back as another item"),
        ({("1",): (np.zeros(1),)}, "read back as another item"),
        ({(-1, None): (np.zeros(1),)}, "read back as another item"),
        ({(0,): {"1": np.zeros(1)}}, "read back as another item"),
        ({(0,): (np.zeros(1, complex),)}, "complex128, which safetensors has not"),
    ],
)
def test_what_cannot_be_written(tmp_path, shapes, words):
    with pytest.raises(ColdFileError, match=re.escape(words)):
        write_cold(tmp_path / "cold", shapes, shapes.__getitem__)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ((np.zeros(3, np.float32),), "was to be float32[2] and is float32[3]"),
        ((np.zeros(2),), "was to be float32[2] and is float64[2]"),
        ((np.zeros(2, np.float32),) * 2, "has 2 arrays, not 1"),
    ],
)
def test_written_whole_or_not_at_all(tmp_path, made, words):
    """The old file stays, and nothing else."""
    (tmp_path / "cold").write_bytes(b"old")
    good = (np.zeros(2, np.float32),)
    with pytest.raises(ColdFileError, match=re.escape(words)):
        write_cold(tmp_path / "cold", {(0,): good, (1,): good}, {(0,): good, (1,): made}.get)
    assert [p.name for p in tmp_path.iterdir()] == ["cold"]
    assert (tmp_path / "cold").read_bytes() == b"old"


def test_one_item_at_a_time_is_made_and_written(tmp_path):
    """An item's arrays are let go before the next is made."""
    import weakref

    alive: list[weakref.ref] = []

    def make(key):
        assert not any(ref() is not None for ref in alive)
        array = np.full(1000, key[0], ml_dtypes.bfloat16)
        alive.append(weakref.ref(array))
        return (array,)

    shapes = {(n,): (jnp.zeros(1000, jnp.bfloat16),) for n in range(5)}
    write_cold(tmp_path / "cold", shapes, make)
    assert len(alive) == 5
    assert float(MappedFile(tmp_path / "cold").read((4,))[0][0]) == 4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_never_reach_past_the_file(data):
    """Whatever stands in the header: an error of ours, or arrays that lie within the file."""
    items = {(0, 0): (np.ones(3, np.float32), np.zeros((2, 2), np.int8))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f")
        write_cold(path, items, items.__getitem__)
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(whole) - 1))
            whole[at] = data.draw(st.sampled_from(b'0129"{}[],:/\x00\xff') | st.integers(0, 255))
        path.write_bytes(whole[: data.draw(st.integers(len(whole) - 8, len(whole)))])
        try:
            cold = MappedFile(path)
        except ColdFileError:
            return
        for key in cold.keys():  # noqa: SIM118
            for array in jax.tree.leaves(cold.read(key)):
                assert array.nbytes <= len(whole)
                assert array.tobytes() in whole
        cold.close()
