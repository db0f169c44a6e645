"""A model larger than its budget: the same outputs, and never more bytes than were allowed."""

import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import MoeConfig, Vmoe, VmoeConfig, lower, shelve

from byways import runtime

EXPERTS, D, H = 8, 12, 20
CONFIG = VmoeConfig(
    image_size=16,
    patch_size=4,
    width=D,
    hidden=H,
    depth=2,
    heads=2,
    num_classes=3,
    moe=MoeConfig(
        placement="every",
        n=1,  # a dense MLP would have arrays of the same shapes
        num_experts=EXPERTS,
        selected=1,
        capacity_factor=None,
        eval_capacity_factor=None,
        group_size=64,
        dispatcher="pathways",
    ),
)
# No other arrays of these tests have these shapes.
SHAPES = ((D, H), (H,), (H, D))
EXPERT = 4 * (D * H + H + H * D + D)
ALL = 2 * EXPERTS * EXPERT


@pytest.fixture(scope="module")
def model():
    """(function, parameters, images)."""
    module = Vmoe(CONFIG)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    params = jax.jit(module.init)(jax.random.key(1), images)
    # The head begins at zero, and would hide everything.
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size).reshape(p.shape)), params)
    return lambda p, x: module.apply(p, x).logits, params, images


def low_of(model, devices=1, together=2):
    fn, params, images = model
    return lower(fn, params, images, devices=jax.devices()[:devices], together=together)


def living():
    """Bytes of experts on devices; each has a down_bias, whose shape is not its own."""
    found = [x for x in jax.live_arrays() if x.shape in SHAPES]
    kinds = {x.sharding.memory_kind for x in found} - {"pinned_host"}
    bias = sum(x.shape == (H,) for x in found if x.sharding.memory_kind in kinds)
    return sum(x.nbytes for x in found if x.sharding.memory_kind in kinds) + 4 * D * bias


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("where", ["file", "pinned"])
def test_experts_of_four_times_the_budget(model, where, devices, tmp_path, monkeypatch):
    _, params, images = model
    low = low_of(model, devices)
    args = low.split(params, images)
    wanted = [np.asarray(low(args[0], x)) for x in (images, images[::-1])]
    assert np.ptp(wanted[0]) > 0.1
    del args
    # As they come from a file; those of the stacked experts are of other shapes.
    params = jax.tree.map(np.asarray, params)
    assert living() == 0
    budget, most = ALL // 4, []
    get = runtime.Residents.get

    def watched(self, keys):
        found = get(self, keys)
        most.append(living())
        return found

    monkeypatch.setattr(runtime.Residents, "get", watched)
    path = tmp_path / "cold" if where == "file" else None
    with shelve(low, (params, images), budget, path=path) as shelf:
        for _ in range(2):
            for x, want in zip((images, images[::-1]), wanted, strict=True):
                np.testing.assert_array_equal(low(shelf.args[0], x), want)
        stats = shelf.residents.stats()
        assert 0 < max(most) <= budget + EXPERT
        assert stats.peak <= budget
        assert stats.evictions > 0
        # All experts but those without tokens, four times.
        awake = sum(int((sizes > 0).sum()) for sizes in low.awake())
        assert stats.hits + stats.misses == 4 * awake
        assert awake >= 10
    assert living() == 0


def test_experts_that_stay_awake_stay_on_the_device(model, tmp_path):
    """The same image again and again, whose few experts fit: all hits but the first time."""
    fn, params, images = model
    low = lower(fn, params, images[:1], together=1)
    with shelve(low, (params, images[:1]), ALL, path=tmp_path / "cold") as shelf:
        for _ in range(4):
            jax.block_until_ready(low(*shelf.args))
        awake = sum(int((sizes > 0).sum()) for sizes in low.awake())
        stats = shelf.residents.stats()
        assert (stats.hits, stats.misses) == (3 * awake, awake)
        assert stats.hit_rate == 0.75
        assert stats.fetched == awake * EXPERT < ALL


def test_the_file_serves_again_and_the_arguments_join(model, tmp_path):
    _, params, images = model
    low = low_of(model)
    want = np.asarray(low(*low.split(params, images)))
    with shelve(low, low.split(params, images), ALL, path=tmp_path / "cold") as shelf:
        joined = low.join(*shelf.args)
        jax.tree.map(np.testing.assert_array_equal, joined, (params, images))
    # All experts' arrays, and only these, have E first.
    blank = jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype) if p.shape[0] == EXPERTS else p, params
    )
    with shelve(low, (blank, images), ALL, path=tmp_path / "cold") as shelf:
        np.testing.assert_array_equal(low(*shelf.args), want)
    with pytest.raises(ValueError, match="some experts were given as shapes alone"):
        shelve(low, (blank, images), ALL)
    other = runtime.MappedFile(tmp_path / "cold")
    runtime.write_cold(tmp_path / "other", {(0, 0): other.read((0, 0))}, other.read)
    with pytest.raises(runtime.ColdFileError, match=re.escape("(0, 1) should be")):
        shelve(low, (blank, images), ALL, path=tmp_path / "other")


def test_threads_share_a_shelf_with_little_room(model, tmp_path):
    """Each needs two experts at a time, and there is room for three: one waits for another."""
    _, params, images = model
    low = low_of(model)
    batches = [jnp.roll(images, n, axis=1) for n in range(3)]
    args = low.split(params, images)
    wanted = [np.asarray(low(args[0], x)) for x in batches]
    errors = []
    with shelve(low, args, 3 * EXPERT, path=tmp_path / "cold") as shelf:

        def client(n):
            try:
                with runtime.Client(low.system, f"client {n}"):
                    for _ in range(3):
                        np.testing.assert_array_equal(low(shelf.args[0], batches[n]), wanted[n])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert not errors
        assert shelf.residents.stats().peak <= 3 * EXPERT


def test_what_a_shelf_refuses(model, tmp_path):
    fn, params, images = model
    low = low_of(model)
    args = low.split(params, images)
    words = f"holds 1 experts of {EXPERT:,}, and 2 share a node: give {2 * EXPERT:,} bytes or more"
    with pytest.raises(ValueError, match=words + ", or lower the function with together=1"):
        shelve(low, args, EXPERT, path=tmp_path / "cold")
    with pytest.raises(ValueError, match="holds 0 experts"):
        shelve(low, args, EXPERT - 1, path=tmp_path / "cold")
    shelves = [shelve(low, args, ALL, path=tmp_path / f"cold{n}") for n in range(2)]
    mixed = jax.tree.map(lambda x: x, args, is_leaf=lambda x: hasattr(x, "arrays"))
    moe = mixed[0]["params"]["Encoder"]["encoderblock_1"]["Moe"]["Mlp"]["Dense_0"]
    theirs = shelves[1].args[0]["params"]["Encoder"]["encoderblock_1"]["Moe"]["Mlp"]["Dense_0"]
    moe["kernel"] = theirs["kernel"]
    with pytest.raises(ValueError, match="partly on a shelf, or on several"):
        low(*mixed)
    grads = lower(lambda p, x: fn(p, x).sum(), params, images).value_and_grad()
    with pytest.raises(ValueError, match="experts on a shelf have no gradients"):
        grads(*shelves[0].args)
    for shelf in shelves:
        shelf.close()
        shelf.close()
    with pytest.raises(runtime.ResidentsClosed):
        jax.block_until_ready(low(*shelves[0].args))
