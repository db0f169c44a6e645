"""Programs: what is traced, compiled, cached and run, beside plain JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .islands import stands_on

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_call_outside_a_program_is_a_program_of_one_node(part):
    double = rt.computation(lambda x: 2 * x, part, name="double")
    out = double(X)
    assert isinstance(out, rt.Value)
    assert (out.shape, out.dtype) == ((2, 3), jnp.float32)
    np.testing.assert_array_equal(out.result(), 2 * X)


def test_decorators(part):
    @rt.computation(slice=part, name="twice")
    def double(x):
        return 2 * x

    @rt.program(name="both")
    def both(x):
        return double(double(x))

    assert (double.name, both.name) == ("twice", "both")
    np.testing.assert_array_equal(both(X).result(), 4 * X)
    with pytest.raises(rt.ProgramError, match="needs a slice"):
        rt.computation(lambda x: x)


def test_compiled_once_for_each_shape(part):
    traced = []

    def double(x):
        traced.append(x.shape)
        return 2 * x

    double = rt.computation(double, part)
    calls = rt.program(lambda x: double(double(x)))
    for size in (3, 5, 3, 5):
        calls(np.ones(size, np.float32)).result()
    assert double.compiled == 2
    double(np.ones(3, np.float32)).result()  # in a program of its own, the same executable
    assert double.compiled == 2
    calls(np.ones(3, np.int32)).result()
    assert double.compiled == 3
    # At most twice for each: once for the shapes that come out, once to compile.
    assert len(traced) <= 6


def test_trees_in_and_out(part):
    def f(params, pair, n):
        a, b = pair
        return {"sum": params["w"] * a + b, "list": [n, None, ()]}, a

    node = rt.computation(f, part)
    program = rt.program(lambda params, pair, n: node(params, pair, n))
    given = {"w": jnp.float32(2)}, (X, X + 1), 3
    found, a = program(*given)
    want, _ = f(*given)
    assert jax.tree.structure(found) == jax.tree.structure(want)
    np.testing.assert_array_equal(found["sum"].result(), want["sum"])
    np.testing.assert_array_equal(a.result(), X)
    assert int(found["list"][0].result()) == 3


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (True, "bool"),
        (3, "int32"),
        (2.5, "float32"),
        (np.float64(2.5), "float32"),
        (np.int64(3), "int32"),
        (np.ones(2), "float32"),
        (np.ones(2, np.int8), "int8"),
        (1j, "complex64"),
    ],
)
def test_numbers_and_numpy_become_what_jax_makes_of_them(part, number, dtype):
    same = rt.computation(lambda x: x, part)
    through = rt.program(lambda x, y: (same(x), y))
    for out in (same(number), *through(number, number)):
        assert out.dtype == dtype
        assert out.result().dtype == dtype
        np.testing.assert_array_equal(out.result(), jnp.asarray(number))


def test_arguments_pass_through_and_constants_are_kept(part):
    k = jnp.arange(3.0)
    add = rt.computation(lambda x, k: x + k, part)
    program = rt.program(lambda x, y: (add(x, k), y, add(y, k), k, add(1, 2)))
    y = jnp.asarray(X) * 2
    first, same, third, constant, three = program(X, y)
    np.testing.assert_array_equal(first.result(), X + np.arange(3))
    np.testing.assert_array_equal(same.result(), y)
    np.testing.assert_array_equal(third.result(), 2 * X + np.arange(3))
    np.testing.assert_array_equal(constant.result(), k)
    assert int(three.result()) == 3
    graph = program.trace(X, y)
    assert [node.kind for node in graph.nodes].count("constant") == 3  # k once, 1 and 2


def test_an_argument_that_no_node_takes_stays_where_it_is(part):
    add = rt.computation(lambda x: x + 1, part)
    y = jax.device_put(jnp.ones(2), jax.devices()[5])
    _, same = rt.program(lambda x, y: (add(x), y))(X, y)
    assert same.result() is y


def test_results_are_arguments_of_the_next(part):
    add = rt.computation(lambda x: x + 1, part)
    x = jnp.zeros(2)
    for _ in range(20):
        x = add(x)
    assert x.result()[0] == 20
    assert (jnp.asarray(x.array()) + 1)[0] == 21
    assert np.asarray(x)[0] == 20
    np.testing.assert_array_equal(jnp.asarray(x) + 1, jnp.full(2, 21.0))


def test_one_result_twice(part):
    add = rt.computation(lambda x: x + 1, part)

    @rt.program
    def both(x):
        y = add(x)
        return y, y

    first, second = both(X)
    first.release()
    np.testing.assert_array_equal(second.result(), X + 1)


def test_programs_in_programs(part):
    add = rt.computation(lambda x: x + 1, part, name="add")
    inner = rt.program(lambda x: add(add(x)), name="inner")
    outer = rt.program(lambda x: {"y": inner(inner(x))}, name="outer")
    graph = outer.trace(X)
    assert [node.name for node in graph.nodes if node.kind == "computation"] == ["add"] * 4
    np.testing.assert_array_equal(outer(X)["y"].result(), X + 4)


def test_tracing_runs_nothing(part):
    ran = []
    node = rt.computation(lambda x: x * 2, part)

    @rt.program
    def program(x):
        ran.append(1)
        return node(x)

    graph = program.trace(jax.ShapeDtypeStruct((4,), jnp.float32))
    assert graph.nodes[-1].outputs[0].shape == (4,)
    assert node.compiled == 0
    assert program.trace(np.ones(4, np.float32)) is graph
    assert ran == [1]


def test_printing_and_costs(part):
    dot = rt.computation(lambda x, w: x @ w, part, name="dot")
    program = rt.program(lambda x, w: dot(dot(x, w), w), name="chain")
    x, w = np.ones((4, 8), np.float32), np.ones((8, 8), np.float32)
    assert str(program.trace(x, w)).startswith("program chain: 2 nodes on 1 slice")
    cost = program.cost(x, w)
    # Two products of 4·8·8 multiplications and additions each.
    assert cost.flops == 2 * (2 * 4 * 8 * 8)
    assert (cost.nodes, cost.conditional) == (2, 0)
    assert cost.bytes >= 2 * 4 * (4 * 8 + 8 * 8 + 4 * 8)
    assert repr(program) == "Program('chain')"


def test_after_compiling_ahead_nothing_is_compiled(part, no_compiling):
    f = rt.computation(lambda x: jnp.sin(x) @ jnp.ones((3, 5)), part)
    g = rt.computation(lambda y, x: y.sum() + x, part)
    program = rt.program(lambda x: g(f(x), x))
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    plan = program.compile(shape)
    assert f.compiled == g.compiled == 1
    no_compiling()
    want = (jnp.sin(X) @ jnp.ones((3, 5))).sum() + X
    np.testing.assert_allclose(program(X).result(), want, rtol=1e-6)
    assert program.compile(X) is plan
    with pytest.raises(rt.NodeError, match="something was compiled"):
        f(np.ones((1, 3), np.float32))


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_arrays_of_random_keys(part, timeout):
    split = rt.computation(lambda key: jax.random.split(key, 3), part)
    draw = rt.computation(lambda key, x: x + jax.random.normal(key[0], x.shape), part)
    program = rt.program(lambda key, x: (draw(split(key), x), split(key), key))
    key = jax.random.key(3)
    out, keys, same = program(key, X)
    want = jax.random.split(key, 3)
    np.testing.assert_allclose(out.result(), X + jax.random.normal(want[0], X.shape), rtol=1e-6)
    for found, wanted in ((keys, want), (same, key)):
        assert found.dtype == key.dtype
        array = found.result(timeout)
        assert found.done()
        assert (jax.random.key_data(array) == jax.random.key_data(wanted)).all()
    constant = rt.program(lambda x: draw(split(key), x))
    np.testing.assert_array_equal(constant(X).result(), out.result())


# Donation.


def test_a_donated_array_is_gone_and_a_kept_one_is_not(part):
    step = rt.computation(lambda x, k: x + k, part, donate=(0,))
    x, k = jnp.zeros((4, 4)), jnp.ones((4, 4))
    x = part.put(x)
    out = step(x, k)
    assert x.is_deleted()
    assert not k.is_deleted()
    assert out.result().sum() == 16
    with pytest.raises(rt.ValueReleased, match="donated or deleted"):
        step(x, k)


def test_a_donated_future_is_gone(part):
    add = rt.computation(lambda x: x + 1, part)
    step = rt.computation(lambda x: 2 * x, part, donate=(0,))
    x = add(X)
    y = step(x)
    np.testing.assert_array_equal(y.result(), 2 * (X + 1))
    with pytest.raises(rt.ValueReleased, match="it was donated"):
        x.result()
    with pytest.raises(rt.ValueReleased, match="it was donated"):
        add(x)


def test_donation_inside_a_program_frees_no_others(part):
    add = rt.computation(lambda x: x + 1, part)
    step = rt.computation(lambda x: 2 * x, part, donate=(0,))
    program = rt.program(lambda x: step(add(x)))
    x = part.put(jnp.asarray(X))
    for _ in range(3):
        np.testing.assert_array_equal(program(x).result(), 2 * (X + 1))


def test_a_donated_tree(part):
    update = rt.computation(
        lambda lr, state: jax.tree.map(lambda p: p - lr, state), part, donate=(1,)
    )
    state = {"a": jnp.ones(3), "b": [jnp.ones(2)]}
    for _ in range(4):
        state = update(0.25, state)
    assert jax.tree.all(jax.tree.map(lambda x: bool((x == 0).all()), rt.fetch(state)))


# Length, and trees of futures.


def test_long_chains_and_wide_programs(part):
    """More than a segment's nodes, and values that outlive their segment."""
    add = rt.computation(lambda x, y: x + y, part)

    @rt.program
    def fibonacci(x):
        first, second = x, x
        for _ in range(40):
            first, second = second, add(first, second)
        return first, second, x

    a, b = 1, 1
    for _ in range(40):
        a, b = b, a + b
    found = fibonacci(np.int32(1))
    assert [int(v.result()) for v in found] == [a, b, 1]


def test_fetch_and_arrays_of_trees(part):
    add = rt.computation(lambda x: x + 1, part)
    tree = {"a": add(X), "b": [3, None]}
    arrays = rt.arrays(tree)
    assert isinstance(jnp.asarray(arrays["a"]), jax.Array)
    assert not isinstance(arrays["a"], rt.Value)
    assert stands_on(arrays["a"], part)
    assert arrays["b"] == [3, None]
    assert functools.reduce(jnp.add, [jnp.asarray(arrays["a"]), 1]).shape == X.shape
    np.testing.assert_array_equal(rt.fetch(tree, timeout=10.0)["a"], X + 1)
    assert jax.block_until_ready(tree["a"]) is tree["a"]
