"""`byways trace`: a step and an inference of a run, as traces that obey the format."""

import dataclasses
import json
import re

import pytest
from byways.experiments import cli
from byways.experiments.library import untrained_run
from byways.experiments.run_folder import RunFolder
from byways.experiments.trace_run import trace_run, why_whole

from ..runtime.trace_format import check_format, overlaps
from .tiny import TINY


def with_moe(config, **changes):
    moe = dataclasses.replace(config.model.moe, **changes)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, moe=moe))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("trace") / "run", TINY)


def test_a_sparse_run_on_two_devices(run, tmp_path):
    found = trace_run(run, tmp_path, batch=8, devices=2)
    assert (found.batch, found.devices, found.whole) == (8, 2, "")
    train, infer = found.passes
    assert (train.name, infer.name) == ("train", "inference")
    for one in found.passes:
        slices, arrows = check_format(json.loads(one.file.read_text()))
        assert not overlaps(one.spans)
        # One sparse block of four experts in the tiny model; dropless, every valid token has K
        # experts, so that those that are awake are those with tokens.
        (tokens,) = one.awake.values()
        assert tokens.shape == (4,)
        summary = one.summary
        assert summary.expanded >= 1
        assert summary.woken >= 1
        assert summary.reads > 0
        assert set(summary.idle) == {("local", 0), ("local", 1)}
        assert all(0 <= share <= 1 for share in summary.idle.values())
        assert 0 < summary.critical_seconds <= summary.wall
        woken = [span for span in one.spans if span.woken_by is not None]
        assert {d for span in woken for d in span.devices} == {0, 1}
        assert any(a["cat"] == "read" for a, _ in arrows)
        assert len(slices) > len(one.spans)


def test_the_command_says_who_was_awake(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["trace", str(run), "--out", str(out), "--batch", "8", "--devices", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("step 0, 8 examples, 1 device\n")
    assert len(re.findall(r"encoderblock_1 +[1-4] of 4", said)) == 2
    assert len(re.findall(r"critical path: \d+\.\d of \d+\.\d ms", said)) == 2
    assert sorted(item.name for item in out.iterdir()) == ["inference.json", "train.json"]
    assert not (run / "trace").exists()


def test_a_dense_run_is_one_node(tmp_path, capsys):
    dense = untrained_run(tmp_path / "run", with_moe(TINY, placement="none"))
    assert cli.main(["trace", str(dense), "--batch", "8", "--devices", "1"]) == 0
    said = capsys.readouterr().out
    assert "the model is dense: each pass is a single node" in said
    for name in ("train", "inference"):
        slices, arrows = check_format(json.loads((dense / "trace" / f"{name}.json").read_text()))
        assert len(slices) == 2  # sent and done
        assert not arrows
    assert cli.main(["trace", str(dense)]) == 1
    assert "trace exists: name another folder, or remove it" in capsys.readouterr().err


def test_which_models_are_whole():
    assert why_whole(TINY.model) == ""
    soft = with_moe(TINY, router="soft").model
    assert why_whole(soft) == "under the router 'soft' every expert works on every batch"


def bad(capsys, *arguments):
    code = cli.main(["trace", *map(str, arguments)])
    return code, capsys.readouterr().err


def test_what_cannot_be_traced(run, tmp_path, capsys):
    code, said = bad(capsys, tmp_path / "nothing")
    assert code == 1
    assert "does not exist; `byways train PRESET" in said
    code, said = bad(capsys, run, "--batch", 0)
    assert (code, said) == (2, "byways: --batch 0: it takes at least one\n")
    code, said = bad(capsys, run, "--out", tmp_path / "out", "--devices", 99)
    assert code == 2
    assert "--devices 99: this process has 8" in said
    code, said = bad(capsys, run, "--bach", 3)
    assert code == 2
    assert "did you mean '--batch'?" in said
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_checkpoint(tmp_path, capsys):
    with RunFolder(tmp_path / "begun").start(TINY, "limoe_tiny"):
        pass
    code, said = bad(capsys, tmp_path / "begun")
    assert code == 1
    assert "checkpoint" in said
    assert not (tmp_path / "begun" / "trace").exists()
