"""Switches beside plain JAX: values, gradients, what is sent and compiled, and bad counts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.buckets import ladder

from byways import runtime as rt

D = 3
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def expert(params, rows):
    return jnp.tanh(rows @ params["w"]) + params["b"]


class Saving:
    """The same, keeping what its backward needs."""

    def forward(self, params, rows):
        h = jnp.tanh(rows @ params["w"])
        return h + params["b"], {"h": h}

    def backward(self, params, rows, saved, grad):
        if saved is None:
            saved = self.forward(params, rows)[1]
        d = grad * (1 - saved["h"] ** 2)
        return d @ params["w"].T, {"w": rows.T @ d, "b": grad.sum(0)}


def parameters(count):
    keys = jax.random.split(jax.random.key(7), count)
    return [{"w": jax.random.normal(key, (D, D)), "b": jnp.full(D, 0.1)} for key in keys]


@functools.partial(jax.jit, static_argnums=0)
def plain(fn, trees, counts, rows):
    """Every branch over every row, and of each row its own branch's; 0 for nobody's."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    everything = jax.vmap(fn, (0, None))(stacked, rows)
    row = jnp.arange(len(rows))
    branch = jnp.searchsorted(jnp.cumsum(counts), row, side="right")
    out = everything[jnp.minimum(branch, len(trees) - 1), row]
    return jnp.where((branch < len(trees))[:, None], out, 0)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def plain_loss(w, trees, counts, rows, times):
    return 1.0 + times * (plain(expert, trees, counts, rows @ w) ** 2).sum()


@pytest.fixture
def system():
    with rt.Runtime() as made:
        yield made
    assert made.store.live() == 0


def build(system, homes, count, fn=expert, params=None, **options):
    devices = system.virtual_devices()
    slices = [devices.add_slice(1) for _ in range(homes)]
    trees = parameters(count) if params is None else params
    placed = [slices[e % homes].put(tree) for e, tree in enumerate(trees)]
    return rt.switch(fn, slices, trees[0], count, **options), rt.Branches(placed), trees


def rows_of(number, width=D):
    return jax.random.normal(jax.random.key(number), (number, width))


CASES = [
    ([4, 0, 9, 0, 3], 16),
    ([0, 0, 0, 0, 0], 16),
    ([0, 0, 16, 0, 0], 16),
    ([1, 1, 1, 1, 1], 5),
    ([2, 0, 1, 0, 0], 16),  # most rows are nobody's
]


@pytest.mark.parametrize("homes", [1, 2, 4])
def test_values(system, homes):
    switch, bank, trees = build(system, homes, 5)
    program = rt.program(lambda counts, rows, bank: switch(counts, rows, bank))
    for counts, number in CASES:
        rows = rows_of(number)
        out = program(np.array(counts, np.int32), rows, bank).result()
        assert out.shape == rows.shape
        assert np.isfinite(out).all()
        want = plain(expert, trees, np.array(counts), rows)[: sum(counts)]
        close(out[: sum(counts)], want)
        assert switch.last.tolist() == counts


@pytest.mark.parametrize("homes", [1, 2])
def test_one_branch(system, homes):
    switch, bank, trees = build(system, homes, 1)
    rows = rows_of(6)
    out = switch(np.array([6], np.int32), rows, bank).result()
    np.testing.assert_allclose(out, expert(trees[0], rows), rtol=1e-5)


def test_slices_on_the_same_device():
    """More slices than devices: copies to them are none, and may not be overwritten."""
    with rt.Runtime({"small": jax.devices()[:2]}) as system:
        switch, bank, trees = build(system, 3, 4)
        loss = loss_of(system, switch)
        counts, rows = np.array([4, 2, 6, 4], np.int32), rows_of(16)
        out = switch(counts, rows, bank)
        close(out.result(), plain(expert, trees, counts, rows))
        check_gradients(loss, trees, counts, rows, bank)


def test_the_callers_rows_are_his(system):
    switch, bank, _ = build(system, 1, 2)
    double = rt.computation(lambda x: 2 * x, switch.slices[0])
    rows = switch.slices[0].put(rows_of(8))
    before = np.asarray(rows).copy()
    counts = np.array([5, 3], np.int32)

    @rt.program
    def program(counts, rows, bank):
        mine = double(rows)
        return switch(counts, rows, bank), switch(counts, mine, bank), mine

    first, second, mine = program(counts, rows, bank)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(mine.result(), 2 * before)
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 0.01


@pytest.mark.parametrize("homes", [1, 2])
def test_other_shapes_out_than_in(system, homes):
    """Integers to rows of a table: another width, and another dtype."""
    tables = [jnp.arange(12.0).reshape(4, 3) + 100 * e for e in range(3)]
    switch, bank, _ = build(system, homes, 3, lambda table, n: table[n], tables)
    counts, rows = np.array([2, 0, 3], np.int32), np.array([3, 0, 1, 1, 2, 0, 0], np.int32)
    out = switch(counts, rows, bank).result()
    assert out.shape == (7, 3)
    want = [tables[e][n] for e, n in zip([0, 0, 2, 2, 2], rows, strict=False)]
    np.testing.assert_array_equal(out[:5], want)
    # By the tables alone; the numbers have no gradient.
    total = rt.computation(lambda x, w: (x[:5] * w).sum(), switch.slices[0])
    loss = rt.program(lambda c, r, b, w: total(switch(c, r, b), w))
    w = jnp.arange(15.0).reshape(5, 3)
    value, grads = rt.value_and_grad(loss, 2)(counts, rows, bank, w)
    assert float(value.result()) == float((np.stack(want) * w).sum())
    found = grads.result()
    assert sorted(found) == [0, 2]
    np.testing.assert_array_equal(found[0], jnp.zeros((4, 3)).at[rows[:2]].add(w[:2]))
    np.testing.assert_array_equal(found[2], jnp.zeros((4, 3)).at[rows[2:5]].add(w[2:]))


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([5, 4], r"counts \[5, 4\] sum to 9, and there are 8 rows"),
        ([9, -1], r"counts \[9, -1\] sum to 8"),
    ],
)
def test_counts_that_cannot_be(system, counts, words):
    switch, bank, _ = build(system, 1, 2, name="experts")
    value = switch(np.array(counts, np.int32), rows_of(8), bank)
    with pytest.raises(rt.NodeError, match=words) as caught:
        value.result()
    assert caught.value.node == "experts"
    assert isinstance(caught.value.__cause__, ValueError)
    assert switch(np.array([4, 4], np.int32), rows_of(8), bank).result().shape == (8, D)


def test_shapes_that_do_not_fit(system):
    switch, bank, trees = build(system, 1, 2, name="experts")
    counts = np.array([4, 4], np.int32)
    with pytest.raises(rt.ProgramError, match=r"2 branches and was given counts int32\[3\]"):
        switch(np.zeros(3, np.int32), rows_of(8), bank)
    with pytest.raises(rt.ProgramError, match=r"was given counts float32\[2\]: pass integers"):
        switch(np.zeros(2, np.float32), rows_of(8), bank)
    with pytest.raises(rt.ProgramError, match="was given a scalar"):
        switch(counts, 1.0, bank)
    with pytest.raises(rt.ProgramError, match=r"does not take rows float32\[8, 4\]"):
        switch(counts, rows_of(8, 4), bank)
    part = switch.slices[0]
    with pytest.raises(rt.ProgramError, match="0 branches"):
        rt.switch(expert, part, trees[0], 0)
    with pytest.raises(rt.ProgramError, match="on 0 slices"):
        rt.switch(expert, [], trees[0], 2)
    with pytest.raises(rt.ProgramError, match="a branch runs on one device"):
        rt.switch(expert, system.virtual_devices().add_slice(2), trees[0], 2)
    with pytest.raises(rt.ProgramError, match="exist only in a program"):
        switch.parts(counts, rows_of(8), bank)


def test_a_branch_that_is_not_there(system):
    switch, _, trees = build(system, 1, 2)
    some = rt.Branches({1: trees[1]})
    assert switch(np.array([0, 8], np.int32), rows_of(8), some).result().shape == (8, D)
    with pytest.raises(rt.NodeError, match="KeyError: 0"):
        switch(np.array([1, 7], np.int32), rows_of(8), some).result()
    assert repr(some) == "Branches(1)"


def test_branches_may_be_closed_over(system):
    switch, bank, trees = build(system, 1, 2)
    rows, counts = rows_of(8), np.array([3, 5], np.int32)
    out = rt.program(lambda c, r: switch(c, r, bank))(counts, rows)
    close(out.result(), plain(expert, trees, counts, rows))
    same = rt.program(lambda c, r, b: (switch(c, r, b), b))(counts, rows, bank)[1]
    assert same.result() is bank


# What is sent, and compiled.


def woken(recorder):
    return [s.name for s in recorder.spans if s.woken_by is not None]


def test_nothing_is_sent_for_sleeping_branches(system):
    switch, bank, _ = build(system, 2, 6, name="e", together=1)
    double = rt.computation(lambda x: 2 * x, switch.slices[0], name="double")
    fetched = []

    class Watched:
        def fetch(self, branches):
            fetched.extend(branches)
            return bank.fetch(branches)

    program = rt.program(lambda c, rows, b: switch(c, double(rows), b))
    with rt.recording(system) as recorder:
        program(np.array([0, 0, 3, 0, 9, 0], np.int32), rows_of(16), Watched()).result()
    # All awake are at home on the first slice, so nothing is moved; `double` gave its rows up.
    assert woken(recorder) == ["e 4 of 16", "e 2 of 8"]
    assert fetched == [4, 2]
    with rt.recording(system) as recorder:
        program(np.array([0, 3, 0, 0, 0, 0], np.int32), rows_of(16), Watched()).result()
    # To the second slice and back.
    assert woken(recorder) == ["e inputs", "e 1 of 8", "e inputs"]
    with rt.recording(system) as recorder:
        program(np.array([0] * 6, np.int32), rows_of(16), Watched()).result()
    assert woken(recorder) == ["e zeros"]


def test_branches_of_equal_buckets_share_nodes(system):
    switch, bank, trees = build(system, 1, 5, name="e", together=2)
    rows, counts = rows_of(40), np.array([8, 7, 6, 5, 8], np.int32)
    with rt.recording(system) as recorder:
        out = switch(counts, rows, bank).result()
    names = [name for name in woken(recorder) if name != "e copy"]
    assert sorted(name.count(",") for name in names) == [0, 1, 1]  # two pairs and one alone
    want = plain(expert, trees, counts, rows)[:34]
    close(out[:34], want)


@pytest.mark.parametrize("train", [False, True])
def test_what_is_compiled_is_bounded(system, train, no_compiling):
    """By the ladder's rungs, alone and together, on every slice; and nothing after `compile`."""
    rng = np.random.default_rng(1)
    homes = 1 if train else 2
    switch, bank, _ = build(system, homes, 4, together=2)
    total = rt.computation(lambda x: x.sum(), switch.slices[0])
    program = rt.program(lambda c, rows, b: total(switch(c, rows, b)))
    if train:
        program = rt.value_and_grad(program, (1, 2))
    rows = rows_of(20)
    program.compile(np.zeros(4, np.int32), rows, bank)
    rungs = len(ladder(20).rungs)
    assert rungs == 3  # 8, 16, 20
    # Each way: one and two branches of every rung, and two nodes of none.
    ways = 2 if train else 1
    assert switch.compiled <= homes * ways * (2 * rungs + 2)
    before = switch.compiled
    no_compiling()
    for _ in range(12):
        counts = rng.multinomial(rng.integers(0, 21), rng.dirichlet(np.full(4, 0.5)))
        rt.fetch(program(counts.astype(np.int32), rows, bank))
    assert switch.compiled == before


def test_ladders():
    assert ladder(20).rungs == (8, 16, 20)
    assert ladder(5).rungs == (5,)
    assert ladder(0).rungs == (0,)
    for rows in (100, 1000, 5000):
        rungs = ladder(rows)
        assert rungs.rungs[-1] == rows
        assert list(rungs.rungs) == sorted(set(rungs.rungs))
        for size in (1, 8, 9, 65, 100):
            assert rungs(size) >= size
        steps = list(itertools.pairwise(rungs.rungs))
        # A rung too high is a quarter at most from 64 on, and a sixteenth where runs are long.
        assert all(b - a <= a / 4 for a, b in steps if a >= 64)
        assert all(b - a <= a / 16 for a, b in steps if a >= 1024)
    assert len(ladder(2**14).rungs) - len(ladder(2**13).rungs) == 16


# Gradients.


def loss_of(system, *switches):
    part = switches[0].slices[0]
    pre = rt.computation(lambda w, x: x @ w, part, name="pre")
    post = rt.computation(lambda ys, n: sum((y[:16] ** 2).sum() for y in ys) + n, part)

    @rt.program
    def loss(w, bank, counts, x):
        rows = pre(w, x)
        return post([switch(counts, rows, bank) for switch in switches], 1.0)

    return loss


def check_gradients(loss, trees, counts, rows, bank, times=1):
    w = jnp.eye(D) + 0.1
    want, (want_w, want_trees) = plain_loss(w, trees, counts, rows, times)
    value, (d_w, grads) = rt.value_and_grad(loss, (0, 1))(w, bank, np.asarray(counts), rows)
    np.testing.assert_allclose(value.result(), want, rtol=1e-5)
    np.testing.assert_allclose(d_w.result(), want_w, rtol=1e-4, atol=1e-5)
    found = grads.result()
    assert isinstance(found, rt.Sparse)
    assert sorted(found) == np.flatnonzero(counts).tolist()
    assert repr(found) == f"Sparse({sorted(found)})"
    for e, tree in found.items():
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            tree,
            want_trees[e],
        )
    return found


@pytest.mark.parametrize("homes", [1, 2])
@pytest.mark.parametrize("save", [False, True])
def test_gradients(system, homes, save):
    """Of the awake alone; equal whether the forward keeps something or computes it again."""
    for branch in (expert, Saving()):
        switch, bank, trees = build(system, homes, 4, branch, save=save)
        loss = loss_of(system, switch)
        for counts in ([5, 0, 8, 3], [0, 16, 0, 0]):
            check_gradients(loss, trees, np.array(counts, np.int32), rows_of(16), bank)


def test_gradients_of_no_rows_at_all(system):
    switch, bank, _ = build(system, 2, 3)
    # Nobody's rows are finite and no more, so they may not be in the loss.
    part = switch.slices[0]
    row = jnp.arange(8)[:, None]
    post = rt.computation(lambda y, c: jnp.where(row < c.sum(), y, 0).sum(), part)
    loss = rt.program(lambda bank, counts, x: post(switch(counts, x, bank), counts))
    counts, rows = np.zeros(3, np.int32), rows_of(8)
    value, (grads, d_rows) = rt.value_and_grad(loss, (0, 2))(bank, counts, rows)
    assert float(value.result()) == 0
    assert grads.result() == {}
    np.testing.assert_array_equal(d_rows.result(), np.zeros((8, D)))


def test_branches_that_two_switches_share(system):
    first, bank, trees = build(system, 1, 3)
    second = rt.switch(expert, first.slices, trees[0], 3)
    loss = loss_of(system, first, second)
    counts = np.array([5, 0, 11], np.int32)
    check_gradients(loss, trees, counts, rows_of(16), bank, times=2)
    # The same switch twice.
    check_gradients(loss_of(system, first, first), trees, counts, rows_of(16), bank, times=2)


def test_rows_that_are_kept_are_not_written_to_by_a_switch_without_gradients(system):
    switch, bank, trees = build(system, 1, 3)
    other = rt.switch(expert, switch.slices, trees[0], 3)
    pre = rt.computation(lambda w, x: x @ w, switch.slices[0])
    post = rt.computation(lambda y: 1.0 + (y**2).sum(), switch.slices[0])

    @rt.program
    def loss(w, bank, counts, x):
        rows = pre(w, x)
        return post(switch(counts, rows, bank)), other(counts, rows, bank)

    w, counts, rows = jnp.eye(D) + 0.1, np.array([5, 0, 11], np.int32), rows_of(16)
    want, (want_w, _) = plain_loss(w, trees, counts, rows, 1)
    both = rt.value_and_grad(loss, (0, 1), has_aux=True)
    (value, out), (d_w, grads) = both(w, bank, counts, rows)
    np.testing.assert_allclose(value.result(), want, rtol=1e-5)
    np.testing.assert_allclose(d_w.result(), want_w, rtol=1e-4, atol=1e-5)
    close(out.result(), plain(expert, trees, counts, rows @ w))
    assert sorted(grads.result()) == [0, 2]


def test_sparse_gradients_pass_for_arrays(system):
    switch, bank, trees = build(system, 1, 3)
    grads = check_gradients(
        loss_of(system, switch), trees, np.array([16, 0, 0], np.int32), rows_of(16), bank
    )
    assert grads.is_ready()
    assert not grads.is_deleted()
    assert grads.nbytes == 4 * (D * D + D)
    assert grads.block_until_ready() is grads
