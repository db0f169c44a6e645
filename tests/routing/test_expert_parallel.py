"""Experts on their own devices: the same answers, with nobody holding everything."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import Assignment, ExpertMlp, dispatch, route, route_top_k
from byways.routing import dispatch_expert_parallel as front
from byways.routing import exchange as exchange_file
from byways.routing.dispatch_blocked import dispatch_blocked
from byways.routing.dispatch_expert_parallel import dispatch_expert_parallel
from byways.routing.dispatch_index import dispatch_index
from byways.routing.exchange import exchange_bytes, ragged_offsets, who_arrived
from jax.sharding import AxisType, NamedSharding, PartitionSpec

T, K, D, H = 8, 2, 4, 6


def mesh_of(shape, names, kind=AxisType.Auto):
    count = int(np.prod(shape))
    return jax.make_mesh(
        shape, names, axis_types=(kind,) * len(shape), devices=jax.devices()[:count]
    )


FOUR = ((4,), ("expert",))


@functools.cache
def drawn(groups, experts, capacity, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    shapes = ((experts, D, H), (experts, H), (experts, H, D), (experts, D))
    # Not the usual activation: it has to travel along.
    weights = ExpertMlp(*(normal(*shape) for shape in shapes), activation="quick_gelu")
    # Tokens like the first experts: devices get very different numbers of rows.
    logits = normal(groups, T, experts) - 2.0 * jnp.arange(experts)
    mask = jnp.asarray(rng.uniform(size=(groups, T)) < 0.8)
    route = jax.jit(functools.partial(route_top_k, selected=K, capacity=capacity))
    return route(logits, mask).assignment, normal(groups, T, D), weights


def parallel(mesh, **options):
    return functools.partial(dispatch_expert_parallel, mesh=mesh, **options)


def step(dispatcher):
    """The output, and the gradients by experts, tokens and gates of a loss that is not linear."""

    def loss(weights, x, gates, assignment):
        out = dispatcher(dataclasses.replace(assignment, weight=gates), x, weights)
        return jnp.sum(jnp.sin(out)), out

    grad = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
    return jax.jit(lambda a, x, w: grad(w, x, a.weight, a)[::-1])


@functools.cache
def expected(groups, experts, capacity):
    arguments = drawn(groups, experts, capacity)
    alone = dispatch_blocked if capacity is None else dispatch_index
    return jax.device_get(step(alone)(*arguments))


def same(got, want, tolerance=1e-4):
    leaves = zip(jax.tree.leaves(jax.device_get(got)), jax.tree.leaves(want), strict=True)
    for left, right in leaves:
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("capacity", [5, None])
def test_the_same_with_everything_sharded(capacity):
    """In the compiled program `exchange_bytes` travel, and nothing is gathered."""
    groups, experts = 8, 8
    mesh = mesh_of(*FOUR)
    spread = NamedSharding(mesh, PartitionSpec("expert"))
    arguments = jax.device_put(drawn(groups, experts, capacity), spread)
    compiled = step(parallel(mesh)).lower(*arguments).compile()
    same(compiled(*arguments), expected(groups, experts, capacity))
    out, (d_weights, d_x, _) = compiled(*arguments)
    for array in (out, d_x, *jax.tree.leaves(d_weights)):
        assert array.sharding.is_equivalent_to(spread, array.ndim)
    text = compiled.as_text()
    assert not re.search(r"all-gather|all-reduce|collective-permute", text)
    travelled = 0
    for line in re.findall(r"= (.*?) all-to-all(?:-start)?\(", text):
        for shape in re.findall(r"f32\[([\d,]+)\]", line):
            travelled += 4 * np.prod([int(n) for n in shape.split(",")])
    once = exchange_bytes(
        groups=groups,
        pairs=T * K,
        num_experts=experts,
        capacity=capacity,
        width=D,
        itemsize=4,
        devices=4,
    )
    assert travelled == 4 * once  # to the experts and back, forwards and backwards


def test_uneven_groups_and_experts_beside_a_data_axis():
    """5 groups on 4 devices, 5 experts along an axis of 2."""
    mesh = mesh_of((2, 2), ("data", "expert"))
    # Recomputed, too.
    run = step(jax.checkpoint(parallel(mesh)))
    same(run(*drawn(5, 5, None)), expected(5, 5, None))
    a, x, w = drawn(5, 5, 4)
    # The mesh that `set_mesh` has set, with axes of the kind that `make_mesh` makes by default.
    with jax.set_mesh(mesh_of((2, 2), ("data", "expert"), AxisType.Explicit)):
        got = jax.jit(functools.partial(dispatch, "expert_parallel"))(a, x, w)
    same(got, expected(5, 5, 4)[0])


def test_batched_and_bfloat16():
    mesh = mesh_of((2,), ("expert",))
    for capacity in (5, None):
        a, x, w = drawn(2, 4, capacity)
        twice = jnp.stack([x, -x]).astype(jnp.bfloat16)
        want = [jax.jit(dispatch_blocked)(a, sign * x, w) for sign in (1.0, -1.0)]
        # Dropless forwards only: blocks under vmap are long to compile.
        run = parallel(mesh) if capacity is None else step(parallel(mesh))
        got = jax.jit(jax.vmap(run, in_axes=(None, 0, None)))(a, twice, w)
        if capacity is not None:
            got, grads = got
            assert (grads[0].up.dtype, grads[1].dtype) == (jnp.float32, jnp.bfloat16)
            apart = step(dispatch_index)(a, -x, w)[1]
            for left, right in zip(jax.tree.leaves(grads), jax.tree.leaves(apart), strict=True):
                same(left[1].astype(jnp.float32), right, 0.06 * float(jnp.abs(right).max()))
        assert got.dtype == jnp.float32
        same(got, np.stack(want), 0.03 * float(jnp.abs(want[0]).max()))


def test_expert_layout():
    rng = np.random.default_rng(3)
    _, x, w = drawn(2, 4, 5)
    taken = Assignment(
        token=jnp.asarray(rng.integers(T, size=(2, 12)), jnp.int32),
        expert=jnp.tile(jnp.repeat(jnp.arange(4, dtype=jnp.int32), 3), (2, 1)),
        slot=jnp.tile(jnp.arange(3, dtype=jnp.int32), (2, 4)),
        weight=jnp.asarray(rng.uniform(size=(2, 12)), jnp.float32),
        routed=jnp.ones((2, 12), bool),
        kept=jnp.asarray(rng.uniform(size=(2, 12)) < 0.7),
        num_tokens=T,
        num_experts=4,
        capacity=3,
        layout="expert",
    )
    got = jax.jit(parallel(mesh_of((2,), ("expert",))))(taken, x, w)
    same(got, jax.device_get(jax.jit(dispatch_blocked)(taken, x, w)))


def emulated(operand, output, input_offsets, send_sizes, output_offsets, recv_sizes, *, axis_name):
    """`ragged_all_to_all` as its documentation tells it, where everyone sees everything."""
    del recv_sizes
    me = jax.lax.axis_index(axis_name)
    operands, begins, sizes, targets = (
        jax.lax.all_gather(x, axis_name)
        for x in (operand, input_offsets, send_sizes, output_offsets)
    )
    row = jnp.arange(output.shape[0])
    for sender in range(operands.shape[0]):
        begin, size, target = (x[sender, me] for x in (begins, sizes, targets))
        mine = (row >= target) & (row < target + size)
        sent = operands[sender].at[begin + row - target].get(mode="fill", fill_value=jnp.nan)
        output = jnp.where(mine[:, None], sent, output)
    return output


def test_ragged_exchange_gives_the_same(monkeypatch):
    monkeypatch.setattr(exchange_file.lax, "ragged_all_to_all", emulated)
    front._program.cache_clear()
    run = step(parallel(mesh_of(*FOUR), ragged=True))
    try:
        same(run(*drawn(8, 8, None)), expected(8, 8, None))
    finally:
        front._program.cache_clear()


def test_ragged_exchange_lowers_for_accelerators():
    """Without the device: two exchanges forwards and two backwards."""
    traced = step(parallel(mesh_of(*FOUR), ragged=True)).trace(*drawn(8, 8, None))
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("@ragged_all_to_all(") == 4


@pytest.mark.parametrize("seed", range(4))
def test_offsets_move_every_row_there_and_back(seed):
    """NumPy: runs of rows sent by these offsets arrive packed by sender, and return in order."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, size=(3, 3)) * rng.integers(0, 2, size=(3, 3))
    start = [[f"{i}>{j}:{r}" for j in range(3) for r in range(sizes[i, j])] for i in range(3)]

    def move(data, sizes):
        offsets = [ragged_offsets(jnp.asarray(sizes), me) for me in range(3)]
        arrived = [[None] * int(sizes[:, me].sum()) for me in range(3)]
        for i in range(3):
            for j in range(3):
                begin, size, target, _ = (int(field[j]) for field in offsets[i])
                assert size == int(offsets[j].recv_sizes[i])
                arrived[j][target : target + size] = data[i][begin : begin + size]
        return arrived

    there = move(start, sizes)
    for me in range(3):
        assert there[me] == [f"{i}>{me}:{r}" for i in range(3) for r in range(sizes[i, me])]
    assert move(there, sizes.T) == start


def test_arrived_rows_know_their_expert():
    counts = np.asarray([[2, 0, 1], [0, 0, 0], [1, 2, 0]])
    runs = [[e for e in range(3) for _ in range(row[e])] for row in counts]
    packed = [e for run in runs for e in run]
    expert, real = who_arrived(jnp.asarray(counts), 9, None)
    np.testing.assert_array_equal(real, np.arange(9) < len(packed))
    np.testing.assert_array_equal(np.asarray(expert)[: len(packed)], packed)
    expert, real = who_arrived(jnp.asarray(counts), 12, 4)
    for sender, run in enumerate(runs):
        part = slice(4 * sender, 4 * sender + 4)
        np.testing.assert_array_equal(real[part], np.arange(4) < len(run))
        np.testing.assert_array_equal(expert[part][: len(run)], run)


@pytest.mark.parametrize("name", ["top_k", "hash"])
def test_routers_take_shards_of_automatic_axes_and_refuse_explicit_ones(name):
    logits, ids = jnp.zeros((2, T, 3)), jnp.zeros((2, T), jnp.int32)

    def run(kind):
        mesh = mesh_of((2,), ("data",), kind)
        spread = NamedSharding(mesh, PartitionSpec("data"))
        more = {"ids": jax.device_put(ids, spread)} if name == "hash" else {}
        with jax.set_mesh(mesh):
            traced = functools.partial(route, name, selected=2, capacity=3)
            return jax.jit(traced).trace(jax.device_put(logits, spread), **more)

    run(AxisType.Auto)
    with pytest.raises(ValueError, match=r"explicit type.*'data'.*AxisType.Auto"):
        run(AxisType.Explicit)


def test_bad_values_are_named():
    a, x, w = drawn(2, 4, 5)
    with pytest.raises(ValueError, match=r"needs a mesh, and there is none.*AxisType.Auto"):
        dispatch("expert_parallel", a, x, w)
    with pytest.raises(ValueError, match=r"axes \('data',\), none called 'expert'.*AxisType.Auto"):
        dispatch("expert_parallel", a, x, w, mesh=mesh_of((2,), ("data",)))
    with pytest.raises(ValueError, match="'index' takes no mesh"):
        dispatch("index", a, x, w, mesh=mesh_of((2,), ("expert",)))
    with pytest.raises(ValueError, match=r"3 experts.*num_experts=4"):
        dispatch("blocked", a, x, jax.tree.map(lambda leaf: leaf[:3], w))


def test_the_page_runs():
    """docs/dispatchers.md, on all devices; its groups are fewer than they."""
    page = Path(__file__).parents[2] / "docs" / "dispatchers.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(block, names)
    np.testing.assert_allclose(names["spread"], names["here"], rtol=1e-5, atol=1e-5)
