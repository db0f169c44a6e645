"""Published V-MoE checkpoints: read exactly, written as a folder, and refused when they lie."""

import functools
import json
import shutil
from pathlib import Path

import jax
import msgpack
import numpy as np
import pytest
from byways.experiments import cli
from byways.models import Vmoe
from byways.models.interop.errors import WeightsError
from byways.models.interop.folder import load_model, save_model
from byways.models.interop.vmoe_files import read_vmoe_checkpoint
from byways.models.interop.vmoe_index import _overlap
from byways.models.interop.vmoe_tree import vmoe_config_of
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parents[2] / "parity" / "vmoe"
FILES = DATA / "checkpoint_v1"
BOTH = ("tiny_single", "tiny_sharded")


@functools.cache
def published():
    with np.load(DATA / "vit_moe.npz") as arrays:
        return dict(arrays)


def copy(folder, name="tiny_sharded"):
    """A checkpoint that may be damaged; its prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in FILES.glob(f"{name}.*"):
        shutil.copy(path, folder)
    return folder / name


def change(path, how):
    """Decode a file, change it, write it back."""
    value = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    how(value)
    path.write_bytes(msgpack.packb(value))


@pytest.mark.parametrize("name", BOTH)
def test_arrays_are_exactly_those_that_were_saved(name):
    got = read_vmoe_checkpoint(FILES / name)
    wanted = {k.removeprefix("params/"): v for k, v in published().items() if "params/" in k}
    assert list(got) == sorted(wanted)
    for key, value in wanted.items():
        assert got[key].dtype == value.dtype
        np.testing.assert_array_equal(got[key], value)


@pytest.mark.parametrize("name", BOTH)
def test_imported_folder_holds_the_model(tmp_path, capsys, name):
    assert cli.main(["import", "vmoe", str(FILES / name), str(tmp_path / "out")]) == 0
    assert "2 of them with 4 experts" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("out/*")} == {"model.safetensors", "config.json"}
    loaded = load_model(tmp_path / "out")
    config, params = loaded.config, loaded.params
    assert config.moe_layers == (1, 3)
    assert (config.image_size, config.heads, config.num_classes) == (32, 4, 10)
    if name == BOTH[0]:
        case = "eval_indices_cf2"
        moe = {"eval_capacity_factor": 2.0, "batch_priority": True, "group_size": 34}
        config = config.__class__(
            **{**vars(config), "moe": config.moe.__class__(**{**vars(config.moe), **moe})}
        )
        run = jax.jit(lambda p, x: Vmoe(config).apply({"params": p}, x).logits)
        logits = run(params, published()["inputs/images"])
        np.testing.assert_allclose(logits, published()[f"{case}/logits"], atol=2e-5)


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert cli.main(["import", "vmoe", str(FILES / "tiny_single"), str(tmp_path / "out")]) == 1
    assert "exists: name another folder" in capsys.readouterr().err


def test_where_nothing_can_be_written(tmp_path, capsys, monkeypatch):
    prefix = str(FILES / "tiny_single")
    (tmp_path / "file").touch()
    assert cli.main(["import", "vmoe", prefix, str(tmp_path / "file" / "out")]) == 1
    assert "file is a file; name another folder" in capsys.readouterr().err
    # Of what only writing tells, such as a full disk.
    monkeypatch.setattr("os.rename", raises(OSError(28, "No space left on device")))
    assert cli.main(["import", "vmoe", prefix, str(tmp_path / "out")]) == 1
    assert "out: cannot be written (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def raises(error):
    def call(*_, **__):
        raise error

    return call


def test_a_device_is_not_read_to_its_end(tmp_path):
    (tmp_path / "x.index").symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match="it is no file"):
        read_vmoe_checkpoint(tmp_path / "x")


def test_a_folder_is_no_prefix_and_those_in_it_are_told():
    with pytest.raises(WeightsError, match=r"such as .*tiny_sharded, .*tiny_single"):
        read_vmoe_checkpoint(FILES)
    with pytest.raises(WeightsError, match=r"such as .*tiny_sharded, .*tiny_single"):
        read_vmoe_checkpoint(FILES / "tiny")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nothing\.index: cannot be read"):
        read_vmoe_checkpoint(tmp_path / "nothing")
    prefix = copy(tmp_path)
    (tmp_path / "tiny_sharded.data-00001-of-00003").unlink()
    with pytest.raises(
        WeightsError, match=r"1 of the 3 shards are missing: tiny_sharded\.data-00001"
    ):
        read_vmoe_checkpoint(prefix)


def leaf(index):
    return index["index"]["Encoder"]["encoder_norm"]["bias"]


def described(shape=(32,), kind="float32", stop=32, shard=0):
    """A leaf of the index that says so."""
    array = msgpack.packb([list(shape), kind, False, {}])
    place = msgpack.packb([msgpack.packb([0, stop, None])] * len(shape))
    return msgpack.ExtType(8, msgpack.packb([array, [place], [shard]]))


def deep(levels):
    """A leaf below so many maps."""
    tree = described()
    for _ in range(levels):
        tree = {"part": tree}
    return tree


def put(value):
    def how(index):
        index["index"]["Encoder"]["encoder_norm"]["bias"] = value

    return how


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda index: index.pop("version"), "no index of a V-MoE checkpoint"),
        (lambda index: index.update(version="1"), "format version '1'"),
        (lambda index: index.update(shard_count=0), "shard_count is 0"),
        (lambda index: index["index"].update({"../x": 1}), "a part named '../x'"),
        (put(7), "expected msgpack extension type 8, found int"),
        (put(described(kind="object")), "element type 'object'"),
        (put(described(shape=(2**40,), stop=2**40)), "promises .* bytes"),
        (put(described(shape=(2**30, 2**30), stop=2**30)), "too many elements"),
        # Nothing in all, and yet more along an axis than NumPy has numbers for.
        (put(described(shape=(0, 2**63), stop=0)), "too many elements"),
        (put(described(shape=(0, 2**40, 2**40), stop=0)), "too many elements"),
        (put({b"part": described()}), "named parts"),
        (put({b"part": described(), "other": described()}), "named parts"),
        (put({"a\x1b[2J": described()}), r"a part named 'a\\x1b"),
        (put({"long" * 99: described()}), "a part named"),
        (put(deep(400)), "levels deep"),
        (put(described(stop=33)), "slice 0:33:None of an axis of 32"),
        (put(described(stop=31)), "pieces do not make up shape"),
        (put(described(shard=3)), r"lies in shards \[3\], of 0 to 2"),
        (put(described(shard=1)), "holds other arrays than the index says"),
    ],
)
def test_an_index_that_lies(tmp_path, how, message):
    prefix = copy(tmp_path)
    change(prefix.with_name("tiny_sharded.index"), how)
    with pytest.raises(WeightsError, match=message):
        read_vmoe_checkpoint(prefix)


def chunk(shape, kind, data):
    place = msgpack.packb([msgpack.packb([0, 32, None])])
    array = msgpack.ExtType(1, msgpack.packb([shape, kind, data]))
    return [[[array], msgpack.ExtType(6, place)]]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda shard: shard.pop("__msgpack_array_chunk_a87ca2__"), "marker is not there"),
        (lambda shard: shard.pop("0"), "holds other arrays"),
        (lambda shard: shard.update({"0": []}), "are missing"),
        (lambda shard: shard.update({b"0": []}), "named parts"),
        (lambda shard: shard.update({"0": chunk([32], "float32", b"x")}), "takes 128 bytes"),
        (lambda shard: shard.update({"0": chunk([32], "float16", b"x" * 64)}), "of float32"),
        (lambda shard: shard.update({"0": chunk([31], "float32", b"x" * 124)}), "expected 32"),
    ],
)
def test_a_shard_that_lies(tmp_path, how, message):
    prefix = copy(tmp_path)
    change(tmp_path / "tiny_sharded.data-00000-of-00003", how)
    with pytest.raises(WeightsError, match=message):
        read_vmoe_checkpoint(prefix)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    which=st.sampled_from(sorted(path.name for path in FILES.glob("tiny_single.*"))),
    at=st.floats(0, 1, exclude_max=True),
    bytes_=st.binary(min_size=0, max_size=6),
    cut=st.booleans(),
)
def test_damage_is_an_error_of_ours_or_other_numbers(tmp_path_factory, which, at, bytes_, cut):
    prefix = copy(tmp_path_factory.mktemp("damaged"), "tiny_single")
    path = prefix.with_name(which)
    data = path.read_bytes()
    start = int(at * len(data))
    path.write_bytes(data[:start] + bytes_ + (b"" if cut else data[start + len(bytes_) :]))
    try:
        got, message = read_vmoe_checkpoint(prefix), None
    except WeightsError as error:
        got, message = {}, str(error)
    assert got or "tiny_single" in str(message)


def test_a_name_twice_in_an_index(tmp_path):
    data = FILES.joinpath("tiny_single.index").read_bytes()
    key = msgpack.packb("version")
    tail = key + msgpack.packb("20220622")
    assert data[0] == 0x83  # a map of three
    assert data.count(tail) == 1
    (tmp_path / "x.index").write_bytes(b"\x84" + data[1:] + tail)
    with pytest.raises(WeightsError, match="named parts"):
        read_vmoe_checkpoint(tmp_path / "x")


def test_many_pieces_are_held_against_each_other_quickly():
    # Pairwise in Python, 4,096 pieces took 18 seconds.
    many = [((start, start + 1),) for start in range(4096)]
    assert not _overlap(many)
    assert _overlap([*many, ((7, 9),)])
    assert not _overlap([((0, 2), (0, 1)), ((0, 2), (1, 2)), ((1, 1), (0, 2))])


def test_arrays_of_another_model():
    arrays = read_vmoe_checkpoint(FILES / "tiny_single")
    shapes = {name: value.shape for name, value in arrays.items()}
    with pytest.raises(WeightsError, match="embedding/kernel is missing"):
        vmoe_config_of({})
    with pytest.raises(WeightsError, match=r"square patches"):
        vmoe_config_of(shapes | {"embedding/kernel": (8, 4, 3, 32)})
    odd = "Encoder/encoderblock_0/Moe/Router/dense/kernel"
    experts = "Encoder/encoderblock_0/Moe/Mlp/Dense_0/kernel"
    with pytest.raises(WeightsError, match=r"blocks \[0, 1, 3\] of 4 are sparse"):
        vmoe_config_of(shapes | {odd: (32, 4), experts: (4, 32, 64)})
    with pytest.raises(WeightsError, match=r"unexpected: \['extra'\]"):
        save_model("never", "vmoe", vmoe_config_of(shapes), arrays | {"extra": np.zeros(1)})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda text: "{", "cannot be read"),
        ("config.json", lambda text: json.dumps({"format": 2}), "no config of a model"),
        ("config.json", lambda text: text.replace('"width": 32', '"width": "wide"'), "width is"),
        (
            "config.json",
            lambda text: text.replace('"width": 32', '"breadth": 32'),
            "key breadth",
        ),
        ("config.json", lambda text: text.replace('"depth": 4', '"depth": 2'), "unexpected"),
        ("config.json", lambda text: text.replace('"hidden": 64', '"hidden": 63'), "has shape"),
    ],
)
def test_a_folder_that_lies(tmp_path, name, change, message):
    arrays = read_vmoe_checkpoint(FILES / "tiny_single")
    config = vmoe_config_of({name: value.shape for name, value in arrays.items()})
    save_model(tmp_path / "out", "vmoe", config, arrays)
    path = tmp_path / "out" / name
    path.write_text(change(path.read_text()))
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path / "out")


def test_truncated_weights(tmp_path):
    arrays = read_vmoe_checkpoint(FILES / "tiny_single")
    config = vmoe_config_of({name: value.shape for name, value in arrays.items()})
    save_model(tmp_path / "out", "vmoe", config, arrays)
    path = tmp_path / "out" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path / "out")
