"""`byways trace`: a step and an inference of a run, as traces that obey the format."""

import contextlib
import io
import json
import re

import pytest
from byways.experiments import cli
from byways.experiments import trace_run as module
from byways.experiments.library import untrained_run
from byways.experiments.run_folder import RunFolder
from byways.experiments.trace_run import trace_run, why_whole

from ..runtime.trace_format import check_format, overlaps
from .pathways_cases import with_moe
from .tiny import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("trace") / "run", TINY)


@pytest.fixture(scope="module")
def traced(run, tmp_path_factory):
    """The sparse run on two devices: what was found, and what the command printed."""
    out = tmp_path_factory.mktemp("traced") / "out"
    kept, text = [], io.StringIO()

    def keep(*args, **options):
        kept.append(trace_run(*args, **options))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setattr(module, "trace_run", keep)
        words = ["trace", str(run), "--out", str(out), "--batch", "8", "--devices", "2"]
        assert cli.main(words) == 0
    return kept[0], text.getvalue(), out


def test_a_sparse_run_on_two_devices(traced):
    found, _, out = traced
    assert (found.step, found.batch, found.devices, found.whole) == (0, 8, 2, "")
    train, infer = found.passes
    assert (train.name, infer.name) == ("train", "inference")
    for one in found.passes:
        assert one.file == out / f"{one.name}.json"
        slices, arrows = check_format(json.loads(one.file.read_text()))
        assert not overlaps(one.spans)
        # One sparse block of four experts. Eight examples of 4 patches and some word pieces, K=1
        # and dropless: more than the 32 patches, and no more than 4 + 16 tokens an example.
        (tokens,) = one.awake.values()
        assert tokens.shape == (4,)
        assert 32 < tokens.sum() <= 8 * (4 + TINY.model.text_length)
        summary = one.summary
        assert summary.expanded >= 1
        assert summary.woken >= (tokens > 0).sum() / 4  # up to four share a node
        assert summary.reads > 0
        assert set(summary.idle) == {("local", 0), ("local", 1)}
        assert all(0 <= share <= 1 for share in summary.idle.values())
        assert 0 < summary.critical_seconds <= summary.wall
        assert any(a["cat"] == "read" for a, _ in arrows)
        assert len(slices) > len(one.spans)
    # Segments there and back, beside what they wake.
    names = [span.name for span in train.spans if span.woken_by is None]
    assert any(name.startswith("segment ") for name in names)
    assert any(name.endswith(" backward") for name in names)


def test_the_command_says_who_was_awake(run, traced):
    found, said, out = traced
    assert said.startswith("step 0, 8 examples, 2 devices\n")
    for one in found.passes:
        ((layer, tokens),) = one.awake.items()
        assert re.search(rf"{layer} +{(tokens > 0).sum()} of 4", said)
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
    (tmp_path / "file").touch()
    words = ["--out", str(tmp_path / "file" / "trace"), "--batch", "8", "--devices", "1"]
    assert cli.main(["trace", str(dense), *words]) == 1
    assert "is a file; name another folder" in capsys.readouterr().err


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
