"""Parts of a result: whole or not there, wherever a process is killed; and whose they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from byways.experiments.errors import RunError
from byways.experiments.serving import shards as shards_module
from byways.experiments.serving.shards import Shards, parts_of, read_result, table_of

IDENTITY = {"model": {"sha256": "a" * 64}, "images": {"count": 5}, "settings": {"batch": 2}}


class Killed(BaseException):
    """As if by SIGKILL: nothing that comes after is done."""


def rows(number):
    return np.random.default_rng(number).standard_normal((2 - (number == 1), 3)).astype(np.float32)


def table(number):
    files = [{"path": f"{number}/{n}.png", "bytes": 9, "sha256": "b"} for n in range(2)]
    if number == 1:
        files[0] = {"path": "1/0.png", "bytes": 9, "error": "OSError: no"}
    return tuple(files)


def embed(out, identity=IDENTITY):
    with Shards(out, identity, 3) as shards:
        for number in (2, 0, 1):  # as they come
            if number not in shards.done:
                shards.add(number, rows(number), table(number))
        return shards.join()


def test_parts_become_a_result_and_a_table(tmp_path):
    out = tmp_path / "all.safetensors"
    found = embed(out)
    assert [one["row"] for one in found] == [0, 1, None, 2, 3, 4]
    whole = safetensors.numpy.load_file(out)["embeddings"]
    np.testing.assert_array_equal(whole, np.concatenate([rows(n) for n in range(3)]))
    about, lines = read_result(out)
    assert lines == found
    assert about["model"] == IDENTITY["model"]
    assert json.loads(table_of(out).read_text().splitlines()[2])["path"] == "1/0.png"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.jsonl", "all.safetensors"]


def test_killed_at_any_write_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    embed(tmp_path / "plain.safetensors")
    wanted = (tmp_path / "plain.safetensors").read_bytes().replace(b"plain.jsonl", b"other.jsonl")
    lines = (tmp_path / "plain.jsonl").read_bytes()
    real, count = shards_module.write_bytes, 0
    for place in range(5):  # three batches, the table, the result
        for late in (False, True):
            count = 0

            def write(path: Path, data: bytes, place=place, late=late):
                nonlocal count
                count += 1
                if count == place + 1:
                    if late:
                        real(path, data)
                    else:  # what a dead process leaves beside it
                        path.with_name(f".{path.name}.tmp123").write_bytes(data[: len(data) // 2])
                    raise Killed
                real(path, data)

            folder = tmp_path / f"{place}-{late}"
            folder.mkdir()
            out = folder / "other.safetensors"
            monkeypatch.setattr(shards_module, "write_bytes", write)
            with pytest.raises(Killed):
                embed(out)
            monkeypatch.setattr(shards_module, "write_bytes", real)
            if not out.exists():
                embed(out)
            assert out.read_bytes() == wanted
            assert table_of(out).read_bytes() == lines


def test_parts_of_something_else_are_refused(tmp_path):
    out = tmp_path / "all.safetensors"
    with Shards(out, IDENTITY, 3) as shards:
        shards.add(0, rows(0), table(0))
    for key, words in [
        ("model", "another model"),
        ("images", "another folder, or the folder has changed"),
        ("settings", "other settings"),
    ]:
        with pytest.raises(RunError, match=words) as caught:
            Shards(out, {**IDENTITY, key: {"count": 6}}, 3)
        assert "remove" in str(caught.value)
    with Shards(out, IDENTITY, 3) as shards:
        assert shards.done == {0}
        with pytest.raises(RunError, match="is in use: another process embeds"):
            Shards(out, IDENTITY, 3)
        (shards.folder / "00000000.safetensors").write_bytes(b"half")
        with pytest.raises(RunError, match="was damaged, and is removed"):
            shards.read(0)
    assert embed(out)
    assert not parts_of(out).exists()
    table_of(out).write_text("{}\n")
    with pytest.raises(RunError, match="is not the table of"):
        read_result(out)
    out.write_bytes(b"x")
    with pytest.raises(RunError, match="no result of `byways embed`"):
        read_result(out)
