"""Run folders: what resumes, what is refused, and who may use one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from byways.experiments import (
    ConfigError,
    ExperimentConfig,
    RunError,
    RunFolder,
    from_dict,
    to_dict,
)
from byways.experiments.run_folder import default_run_folder

CONFIG = ExperimentConfig(steps=10)
OTHER = dataclasses.replace(CONFIG, steps=20, model=dataclasses.replace(CONFIG.model, depth=6))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "x"


def test_a_new_run_writes_its_config(folder):
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        assert not run.resumed
    written = json.loads(run.config_file.read_text())
    assert (written["format"], written["preset"]) == (1, "limoe_tiny")
    assert RunFolder(folder).read() == (CONFIG, "limoe_tiny")


def test_an_unfinished_run_resumes_with_the_same_config(folder):
    RunFolder(folder).start(CONFIG, "limoe_tiny").close()
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        assert run.resumed


def test_an_unfinished_run_refuses_another_config_and_names_what_differs(folder):
    RunFolder(folder).start(CONFIG, "limoe_tiny").close()
    with pytest.raises(RunError, match=r"2 differ: model\.depth: 4 → 6; steps: 10 → 20"):
        RunFolder(folder).start(OTHER, "limoe_tiny")


def test_a_start_that_came_to_nothing_leaves_no_config(folder, tmp_path):
    (tmp_path / "a.model").write_bytes(b"one")

    def fail(**options):
        with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
            run.adopt_tokenizer(tmp_path / "a.model")
            if options:
                run.record_start(**options)
            raise ConfigError(["no such data"])

    with pytest.raises(ConfigError, match="no such data"):
        fail()
    assert [path.name for path in folder.iterdir()] == [".lock"]
    RunFolder(folder).start(OTHER, "limoe_tiny").close()
    (folder / "config.json").unlink()
    # From here on a step may have been taken.
    with pytest.raises(ConfigError, match="no such data"):
        fail(seed=0, resumed_at=None)
    with pytest.raises(RunError, match="another config"):
        RunFolder(folder).start(OTHER, "limoe_tiny")
    # And a run that was there is none that came to nothing.
    (folder / "provenance.json").unlink()
    with pytest.raises(ConfigError, match="no such data"):
        fail()
    assert RunFolder(folder).read() == (CONFIG, "limoe_tiny")


@pytest.mark.parametrize("config", [CONFIG, OTHER])
def test_a_finished_run_is_an_error_that_says_how_to_go_on(folder, config):
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        run.mark_finished(10)
    assert RunFolder(folder).finished
    with pytest.raises(RunError, match=r"is finished.*byways evaluate.*byways report.*--run"):
        RunFolder(folder).start(config, "limoe_tiny")


def test_a_folder_with_something_else_is_left_alone(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"not a run folder \(it holds thesis.tex"):
        RunFolder(folder).start(CONFIG, "limoe_tiny")
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_hidden_files_are_something_else_too(folder):
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("x")
    (folder / ".env").write_text("secret")
    with pytest.raises(RunError, match=r"it holds \.env, \.git but no"):
        RunFolder(folder).start(CONFIG, "limoe_tiny")
    assert sorted(path.name for path in folder.rglob("*")) == [".env", ".git", "HEAD"]


def test_a_start_that_came_to_nothing_removes_its_own_files_alone(folder):
    run = RunFolder(folder).start(CONFIG, "limoe_tiny")
    run.tokenizer_file.write_text("x")
    run.checkpoints.mkdir()
    for other in ("notes.txt", ".env"):
        (folder / other).write_text("put there meanwhile")
    with pytest.raises(ConfigError, match="no such data"), run:
        raise ConfigError(["no such data"])
    assert sorted(path.name for path in folder.iterdir()) == [".env", ".lock", "notes.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"file/run cannot be made .*Not a directory.* --run"):
        RunFolder(tmp_path / "file" / "run").start(CONFIG, "limoe_tiny")


def test_a_run_killed_before_its_config_was_written_starts_anew(folder):
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("123\n")
    (folder / ".config.json.abc").write_text("{")
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        assert not run.resumed


def test_a_damaged_config_file_is_named(folder):
    RunFolder(folder).start(CONFIG, "limoe_tiny").close()
    (folder / "config.json").write_text('{"format": 1, "con')
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        RunFolder(folder).read()


def test_a_later_format_is_refused(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"format": 2}')
    with pytest.raises(RunError, match="format 2; this version reads format 1"):
        RunFolder(folder).read()


def test_a_models_folder_is_told_from_a_runs(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"format": 1, "model": "vmoe", "config": {}}')
    with pytest.raises(RunError, match=r"holds a model \(vmoe\).*few-shot.*--init"):
        RunFolder(folder).read()


def test_reading_what_is_not_there(folder):
    with pytest.raises(RunError, match=r"does not exist.*byways train"):
        RunFolder(folder).read()


def test_the_tokenizer_is_copied_once(folder, tmp_path):
    source = tmp_path / "a.model"
    source.write_bytes(b"one")
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        run.adopt_tokenizer(source)
        source.write_bytes(b"two")
        assert run.adopt_tokenizer(source).read_bytes() == b"one"


def test_provenance_lists_every_start(folder):
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        run.record_start(seed=3, resumed_at=None)
        run.record_start(seed=3, resumed_at=5)
        starts = json.loads(run.provenance_file.read_text())["starts"]
    assert [start["resumed_at"] for start in starts] == [None, 5]
    assert starts[0]["versions"]["jax"]
    assert starts[0]["seed"] == 3
    assert len(starts[0]["devices"]) == 8
    assert {"commit", "dirty"} == set(starts[0]["git"])


def test_a_folder_in_use_names_the_process_and_a_kill_frees_it(folder):
    script = textwrap.dedent(
        """
        import sys, time
        from byways.experiments import ExperimentConfig, RunFolder
        run = RunFolder(sys.argv[1]).start(ExperimentConfig(steps=10), "limoe_tiny")
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
            RunFolder(folder).start(CONFIG, "limoe_tiny")
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with RunFolder(folder).start(CONFIG, "limoe_tiny") as run:
        assert run.resumed


def test_the_default_folder_depends_on_the_overrides_alone():
    base = ExperimentConfig()
    assert default_run_folder("limoe_tiny", base, base).as_posix() == "runs/limoe_tiny"
    one = default_run_folder("limoe_tiny", CONFIG, base)
    two = default_run_folder("limoe_tiny", OTHER, base)
    assert one == default_run_folder("limoe_tiny", dataclasses.replace(base, steps=10), base)
    assert one != two


def test_configs_survive_json():
    config = dataclasses.replace(
        OTHER, loss=dataclasses.replace(OTHER.loss, local=("image", "text"))
    )
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stepz": 3}, "unknown key stepz; did you mean steps"),
        ({"model": {"moe": {"num_expert": 3}}}, "did you mean model.moe.num_experts"),
        ({"model": {"dtype": "float23"}}, "model.dtype is 'float23'; expected one of float32"),
        ({"steps": "3"}, "steps is '3'; expected int"),
        ({"steps": True}, "steps is True; expected int"),
        ({"model": 3}, "model is 3; expected an object"),
    ],
)
def test_a_config_file_with_a_mistake(data, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(data)
