"""Checkpoints: what is restored is what was saved; whatever is damaged is named, not used."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from byways.experiments import CheckpointError, Checkpoints
from byways.experiments.config import CheckpointConfig

FINGERPRINT = {"model": {"depth": 4}, "steps": 100}


def make_state(seed):
    keys = jax.random.split(jax.random.key(seed), 2)
    params = {
        "Encoder": {
            "kernel": jax.random.normal(keys[0], (8, 4)),
            "scale": jax.random.normal(keys[1], (4,), jnp.bfloat16),
        }
    }
    return {
        "params": params,
        "opt_state": optax.adamw(1e-3).init(params),
        "key": jax.random.key(seed + 7),
        "raw_key": jax.random.key_data(jax.random.key(seed)),
        "step": jnp.int32(seed),
    }


def bits(tree):
    """Every leaf as raw bytes: equal only if bit-identical, dtype and shape too."""

    def is_key(x):
        return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)

    leaves = [jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(tree)]
    return [(str(x.dtype), x.shape, np.asarray(x).tobytes()) for x in leaves]


@pytest.fixture
def open_checkpoints(tmp_path):
    opened = []

    def open_(folder=tmp_path / "checkpoints", fingerprint=FINGERPRINT, **config):
        opened.append(Checkpoints(folder, CheckpointConfig(**config), fingerprint))
        return opened[-1]

    yield open_
    for checkpoints in opened:
        checkpoints.close()


def biggest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=os.path.getsize)


def test_what_is_restored_is_bit_identical(open_checkpoints):
    state = make_state(3)
    saved = open_checkpoints()
    saved.save(3, state, {"iterator": {"row": [1, 2]}}, score=0.5)
    saved.close()

    restored = open_checkpoints().latest(make_state(0))

    assert restored is not None
    assert (restored.step, restored.extra, restored.rejected) == (
        3,
        {"iterator": {"row": [1, 2]}},
        [],
    )
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert bits(restored.state) == bits(state)


def test_a_sharded_state_comes_back_sharded(open_checkpoints):
    mesh = jax.make_mesh((4,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    array = jax.device_put(jnp.arange(8.0), sharding)
    saved = open_checkpoints()
    saved.save(1, {"params": array})

    restored = saved.latest({"params": jax.device_put(jnp.zeros(8), sharding)})

    assert restored is not None
    assert restored.state["params"].sharding == sharding
    assert bits(restored.state) == bits({"params": array})


def test_a_buffer_may_be_donated_as_soon_as_save_returns(open_checkpoints):
    array = jnp.arange(2_000_000.0)
    expected = np.array(array)
    overwrite = jax.jit(lambda x: -x, donate_argnums=0)
    saved = open_checkpoints()
    saved.save(1, {"params": array})
    overwrite(array).block_until_ready()

    restored = saved.latest({"params": jnp.zeros_like(expected)})

    assert restored is not None
    np.testing.assert_array_equal(restored.state["params"], expected)


def test_nothing_saved_is_none(open_checkpoints):
    assert open_checkpoints().latest(make_state(0)) is None


def test_keeps_the_newest_and_the_best(open_checkpoints):
    saved = open_checkpoints(keep_last=2, keep_best=1)
    for step, score in [(1, 0.1), (2, 0.9), (3, 0.3), (4, 0.2), (5, None)]:
        saved.save(step, {"params": jnp.float32(step)}, score=score)
    saved.wait()

    folder = saved.path(1).parent
    assert sorted(path.name for path in folder.iterdir()) == [
        *("2", "2.json", "4", "4.json", "5", "5.json"),
    ]
    assert (saved.last_step(), saved.best_step()) == (5, 2)


def test_parameters_alone(open_checkpoints):
    state = make_state(3)
    saved = open_checkpoints()
    saved.save(3, state)
    saved.wait()

    step, params = saved.restore_params()

    assert step == 3
    assert isinstance(params["Encoder"]["kernel"], np.ndarray)
    assert bits(params) == bits(state["params"])


def test_another_config_names_the_keys_that_differ(open_checkpoints):
    saved = open_checkpoints()
    saved.save(1, make_state(1))
    saved.close()

    other = open_checkpoints(fingerprint={"model": {"depth": 6}, "steps": 100})
    with pytest.raises(CheckpointError, match=r"another config.*model\.depth: 4 → 6"):
        other.latest(make_state(0))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "truncated": (truncate, r"has \d+ bytes where \d+ were written"),
    "missing": (Path.unlink, "is missing"),
    "flipped": (flip, "was altered"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(open_checkpoints, kind):
    damage, reason = DAMAGE[kind]
    saved = open_checkpoints()
    saved.save(1, make_state(1))
    saved.save(2, make_state(2))
    saved.close()
    damage(biggest_file(saved.path(2)))

    restored = open_checkpoints().latest(make_state(0))

    assert restored is not None
    assert restored.step == 1
    assert bits(restored.state) == bits(make_state(1))
    assert len(restored.rejected) == 1
    with pytest.raises(AssertionError, match=rf"step 2: .*{reason}"):
        raise AssertionError(restored.rejected[0])


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_manifest_rejects_its_checkpoint(open_checkpoints, damage):
    saved = open_checkpoints()
    saved.save(1, make_state(1))
    saved.save(2, make_state(2))
    saved.close()
    damage(saved.path(2).parent / "2.json")

    restored = open_checkpoints().latest(make_state(0))

    assert restored is not None
    assert restored.step == 1
    assert "step 2: its manifest 2.json" in restored.rejected[0]


def test_all_damaged_is_an_error_that_names_each(open_checkpoints):
    saved = open_checkpoints()
    for step in (1, 2):
        saved.save(step, make_state(step))
    saved.close()
    for step in (1, 2):
        flip(biggest_file(saved.path(step)))

    with pytest.raises(CheckpointError, match=r"no whole checkpoint.*step 2: .*step 1: "):
        open_checkpoints().latest(make_state(0))


def test_a_save_cut_off_before_its_manifest_is_incomplete(open_checkpoints):
    saved = open_checkpoints()
    saved.save(1, make_state(1))
    saved.close()
    (saved.path(1).parent / "1.json").unlink()
    (saved.path(1).parent / "2.orbax-checkpoint-tmp").mkdir()

    again = open_checkpoints()
    # The very first save was cut off: nothing is lost, training starts from the beginning.
    assert again.latest(make_state(0)) is None
    # And its leftovers do not stand in the way of the next save.
    again.save(1, make_state(5))
    again.wait()
    assert sorted(path.name for path in again.path(1).parent.iterdir()) == ["1", "1.json"]
    restored = again.latest(make_state(0))
    assert restored is not None
    assert bits(restored.state) == bits(make_state(5))


def test_a_rejected_checkpoint_is_cleared_by_the_next_good_one(open_checkpoints):
    saved = open_checkpoints(keep_last=1, keep_best=0)
    saved.save(1, make_state(1))
    saved.save(2, make_state(2))
    saved.close()
    # keep_last=1 has left only step 2; a damaged step 3 must not count as the one to keep.
    again = open_checkpoints(keep_last=1, keep_best=0)
    again.save(3, make_state(3))
    again.wait()
    flip(biggest_file(again.path(3)))
    assert sorted(p.name for p in again.path(3).parent.iterdir()) == ["3", "3.json"]
    with pytest.raises(CheckpointError, match="step 3"):
        again.latest(make_state(0))
    again.save(2, make_state(2))
    again.wait()
    assert sorted(p.name for p in again.path(3).parent.iterdir()) == ["2", "2.json"]


def test_a_failing_background_save_leaves_the_last_good_one(open_checkpoints, monkeypatch):
    saved = open_checkpoints(keep_last=1)
    saved.save(1, make_state(1))
    saved.wait()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("byways.experiments.checkpoints.describe_files", full)
    saved.save(2, make_state(2))
    with pytest.raises(CheckpointError, match=r"step 2 could not be saved .*No space left.*step 1"):
        saved.wait()

    restored = saved.latest(make_state(0))
    assert restored is not None
    assert (restored.step, restored.rejected) == (1, [])


def refused(*_):
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize(
    ("also", "kept"),
    [("_remove", "the last good checkpoint is step 1"), ("_manifests", "nor can .* be read")],
)
def test_a_failed_save_is_told_whatever_its_clean_up_meets(
    open_checkpoints, monkeypatch, also, kept
):
    saved = open_checkpoints(keep_last=1)
    saved.save(1, make_state(1))
    saved.wait()

    def fail(*_):
        monkeypatch.setattr(saved, also, refused)
        refused()

    monkeypatch.setattr("byways.experiments.checkpoints.describe_files", fail)
    saved.save(2, make_state(2))
    with pytest.raises(CheckpointError, match=rf"step 2 could not be saved .*Read-only.*{kept}"):
        saved.wait()


def test_a_good_save_is_good_though_older_ones_cannot_be_removed(open_checkpoints, monkeypatch):
    saved = open_checkpoints(keep_last=1, keep_best=0)
    saved.save(1, make_state(1))
    saved.wait()
    with monkeypatch.context() as patched:
        patched.setattr(saved, "_remove_temporary", refused)
        saved.save(2, make_state(2))
        saved.wait()
    assert saved.last_step() == 2
    saved.save(3, make_state(3))
    saved.wait()
    assert sorted(path.name for path in saved.path(3).parent.iterdir()) == ["3", "3.json"]


def test_a_write_that_the_system_refuses_leaves_the_last_good_one(open_checkpoints):
    # A limit on file sizes makes the kernel refuse Orbax's own background writes, as a full
    # disk does (there ENOSPC, here EFBIG), and needs no root.
    noise = np.random.default_rng(0).normal(size=(300_000,)).astype(np.float32)
    saved = open_checkpoints(keep_last=1)
    saved.save(1, {"params": jnp.asarray(noise)})
    saved.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        saved.save(2, {"params": jnp.asarray(-noise)})
        with pytest.raises(CheckpointError, match=r"could not be saved .*last good .* step 1"):
            saved.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert sorted(path.name for path in saved.path(1).parent.iterdir()) == ["1", "1.json"]
    restored = saved.latest({"params": jnp.zeros(300_000)})
    assert restored is not None
    np.testing.assert_array_equal(restored.state["params"], noise)


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path, open_checkpoints):
    script = textwrap.dedent(
        """
        import sys, jax.numpy as jnp
        from pathlib import Path
        from byways.experiments import Checkpoints
        from byways.experiments.config import CheckpointConfig
        saved = Checkpoints(Path(sys.argv[1]), CheckpointConfig(keep_last=1, keep_best=0), {})
        for step in range(1, 10_000):
            saved.save(step, {"params": jnp.full(50_000, float(step))})
            saved.wait()
            print(step, flush=True)
        """
    )
    folder = tmp_path / "checkpoints"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    done = 0
    while done < 12:
        done = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    done = int((process.stdout.read().split() or [str(done)])[-1])
    process.stdout.close()
    process.wait()

    restored = open_checkpoints(folder, fingerprint={}).latest({"params": jnp.zeros(50_000)})

    assert restored is not None
    assert restored.step >= done
    assert set(np.asarray(restored.state["params"])) == {float(restored.step)}
