"""Scanned and rematerialised stacks: the same function, programs that hardly grow with depth."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import (
    ModelConfig,
    MoeConfig,
    Palm,
    PalmConfig,
    Vmoe,
    VmoeConfig,
    generate,
    stack_blocks,
    unstack_blocks,
)
from byways.models.runs import Run, find_runs

# Blocks 1 and 3 of 0..4 are sparse: a run of two pairs, and a block by itself.
VIT = VmoeConfig(
    image_size=8,
    patch_size=4,
    width=8,
    hidden=12,
    depth=5,
    heads=2,
    num_classes=3,
    moe=MoeConfig(num_experts=2, selected=1, group_size=10),
)
TEXT = PalmConfig(
    vocab_size=11,
    width=8,
    hidden=16,
    depth=4,
    heads=2,
    head_size=6,
    max_length=16,
    moe=MoeConfig(num_experts=2, batch_priority=False, placement="last", n=1),
)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
TOKENS = jnp.array(np.random.default_rng(0).integers(0, 11, (2, 12)), jnp.int32)
KEYS = jax.random.split(jax.random.key(1), 2)


def as_scan(config, remat="none"):
    return dataclasses.replace(config, scan=True, remat=remat)


def randomly(shapes):
    """Parameters without compiling an initialiser."""
    rng = np.random.default_rng(1)
    fill = lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype)  # noqa: E731
    return jax.tree.map(fill, shapes)


def shapes_of(config):
    """Canonical trees, allocating nothing."""
    model, blank = (Vmoe, IMAGES) if isinstance(config, VmoeConfig) else (Palm, TOKENS)
    return jax.eval_shape(model(config).init, jax.random.key(0), blank)["params"]


@functools.cache
def parameters(config):
    return randomly(shapes_of(config))


def trained(config):
    """Gradients, and logits, sums and assignments."""

    def run(params):
        out = Vmoe(config).apply({"params": params}, IMAGES, train=True, noise_keys=KEYS)
        return jnp.sum(out.logits**2), out

    return jax.jit(jax.grad(run, has_aux=True))(parameters(VIT))


def close(got, expected, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol, atol)


def test_a_vit_is_the_same_function():
    """Noise, choices and sums of each block, and gradients, rematerialised."""
    grads, out = trained(as_scan(VIT, "blocks"))
    expected, unrolled = trained(VIT)
    assert list(out.routing) == list(out.assignments) == ["encoderblock_1", "encoderblock_3"]
    close(out, unrolled)
    close(grads, expected, rtol=1e-4, atol=1e-5)
    # By a stacked tree, and not rematerialised.
    apply = functools.partial(Vmoe(as_scan(VIT)).apply, train=True, noise_keys=KEYS)
    close(jax.jit(apply)({"params": stack_blocks(parameters(VIT))}, IMAGES), unrolled)


def test_a_decoder_is_the_same_function():
    params = parameters(TEXT)

    def run(config):
        apply = functools.partial(Palm(config).apply, train=True, noise_keys=KEYS[:1])
        return jax.jit(apply)({"params": params}, TOKENS)

    close(run(as_scan(TEXT)), run(TEXT))


def test_it_generates_the_same_text():
    params = {"params": parameters(TEXT)}
    one, other = (generate(c, params, TOKENS[:, :3], steps=4) for c in (as_scan(TEXT), TEXT))
    np.testing.assert_array_equal(one, other)


def equations(jaxpr):
    """How many there are, those of inner programs included."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        ):
            value = getattr(value, "jaxpr", value)
            if hasattr(value, "eqns"):
                total += equations(value)
    return total


def program(config):
    """Equations of a training step's gradient, and of the initialisation."""
    model, inputs = (Vmoe, IMAGES) if isinstance(config, VmoeConfig) else (Palm, TOKENS)
    init = jax.make_jaxpr(model(config).init, return_shape=True)
    made, shapes = init(jax.random.key(0), inputs)

    def loss(params):
        return jnp.sum(model(config).apply(params, inputs, train=True, noise_keys=KEYS[:1]).logits)

    return equations(jax.make_jaxpr(jax.grad(loss))(shapes).jaxpr), equations(made.jaxpr)


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(VIT, moe=MoeConfig(num_experts=2, group_size=20)),
        dataclasses.replace(TEXT, moe=MoeConfig(placement="none")),
    ],
    ids=["every second block sparse", "dense decoder"],
)
def test_programs_hardly_grow_with_depth(config):
    """Four times as deep: unrolled they have 3.9 times the equations, 11,627 for the first."""
    shallow, deep = (program(as_scan(dataclasses.replace(config, depth=d))) for d in (4, 16))
    assert deep[0] < 1.25 * shallow[0]  # what is left is each block's own sums, by name
    assert deep[1] < 1.75 * shallow[1]  # and each block's own parameters
    assert shallow[0] < 1700


def test_remat_is_of_blocks():
    config = dataclasses.replace(TEXT, remat="blocks", moe=MoeConfig(placement="none"))
    step = jax.make_jaxpr(lambda p: Palm(config).apply({"params": p}, TOKENS).logits)
    found = [e.primitive.name for e in step(shapes_of(config)).jaxpr.eqns]
    assert sum("remat" in name or "checkpoint" in name for name in found) == 4


def test_initialised_by_a_scan_is_canonical():
    tree = shapes_of(as_scan(VIT))
    assert jax.tree.structure(tree) == jax.tree.structure(shapes_of(VIT))
    assert jax.tree.leaves(tree) == jax.tree.leaves(shapes_of(VIT))
    config = dataclasses.replace(TEXT, scan=True, moe=MoeConfig(placement="none"))
    params = jax.jit(Palm(config).init)(jax.random.key(0), TOKENS)["params"]
    kernels = np.stack([params[f"block_{i}"]["mlp"]["up"]["kernel"] for i in range(4)])
    np.testing.assert_allclose(kernels.std(axis=(1, 2)), 8**-0.5, rtol=0.3)
    assert len({kernel.tobytes() for kernel in kernels}) == 4


def test_stacking_loses_nothing():
    for config in (VIT, TEXT):
        tree = {"params": parameters(config), "step": jnp.zeros(())}
        for leaves in (jnp.asarray, np.asarray):
            given = jax.tree.map(leaves, tree)
            back = unstack_blocks(stack_blocks(given))
            assert jax.tree.structure(back) == jax.tree.structure(given)
            for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(given), strict=True):
                assert type(one) is type(other)
                np.testing.assert_array_equal(one, other)
    stacked = stack_blocks(parameters(VIT))["Encoder"]
    assert set(stacked) == {
        "encoderblocks_0_3",
        "encoderblock_4",
        "encoder_norm",
        "posembed_input",
    }
    assert "Moe" in stacked["encoderblocks_0_3"]["1"]
    assert stacked["encoderblocks_0_3"]["0"]["LayerNorm_0"]["scale"].shape == (2, 8)


def test_trees_that_are_not_stacks_are_refused():
    with pytest.raises(ValueError, match=r"numbered \[0, 2\]: expected 0 to 1"):
        stack_blocks({"block_0": {}, "block_2": {}})
    one = {"0": {"x": np.zeros((2, 3))}}
    with pytest.raises(ValueError, match=r"shape \(2, 3\): expected a first axis of 3"):
        unstack_blocks({"blocks_0_2": one})
    with pytest.raises(ValueError, match=r"holds .*: expected the blocks of one period"):
        unstack_blocks({"blocks_0_2": one | {"1": one["0"]}})


def test_the_wrong_tree_is_told_by_name():
    stacked = {"params": jax.eval_shape(stack_blocks, shapes_of(VIT))}

    def apply(config, params, **named):
        return jax.eval_shape(lambda p: Vmoe(config).apply(p, IMAGES, **named).logits, params)

    with pytest.raises(ValueError, match=r"encoderblocks_0_3, which is stacked.*unstack_blocks"):
        apply(VIT, stacked)
    other = dataclasses.replace(as_scan(VIT), depth=7)
    with pytest.raises(ValueError, match="no parameters Encoder/encoderblock_0, nor"):
        apply(other, stacked)
    noise = {"encoderblock_1": jnp.zeros((2, 10, 2))}
    with pytest.raises(ValueError, match=r"given something of its own.*here \[1\] are"):
        apply(as_scan(VIT), stacked, train=True, noise=noise)


def test_runs_of_published_placements():
    def runs(moe, depth):
        config = ModelConfig(depth=depth, moe=moe)
        return find_runs([index in config.moe_layers for index in range(depth)])

    every = MoeConfig(placement="every", n=2)
    assert runs(every, 48) == (Run(0, 2, 24),)
    # LIMoE-H/14, V-MoE-L/16 Last-2
    assert runs(MoeConfig(placement="last", n=12), 32) == (Run(0, 1, 8), Run(8, 2, 12))
    assert runs(MoeConfig(placement="last", n=2), 24) == (Run(0, 1, 20), Run(20, 2, 2))
    assert runs(MoeConfig(placement="every", n=3), 13) == (Run(0, 3, 4), Run(12, 1, 1))
    assert runs(MoeConfig(placement="none"), 118) == (Run(0, 1, 118),)
    assert find_runs([]) == ()
    assert Run(8, 2, 12).name("encoderblock") == "encoderblocks_8_31"
